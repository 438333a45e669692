"""The APEL job message, judged by a reader written from the field table alone."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from twinfra.accounting.messages.apel import job_message
from twinfra.accounting.messages.text import NotSpellable, ascii_only
from twinfra.accounting.model import JobUsage, Person, from_json, to_json
from twinfra.accounting.settings import AccountingSettings, SiteFacts
from twinfra.core.errors import InvalidRequest

START = datetime(2026, 6, 1, 10, tzinfo=UTC)
JOB = JobUsage(
    id="job-1",
    site="hpc-b",
    person=Person("https://issuer.test", "alice"),
    group="climate",
    deployment="d-1",
    started_at=START,
    ended_at=START + timedelta(seconds=90),
    local_job_id="hpc-b/4711",
    wall_s=90,
    cpu_s=170,
    processors=2,
    memory_peak_bytes=512 * 1024 * 1024,
    benchmark_hepscore23=15.25,
    queue="short",
    submit_host="localhost:2000/short",
    local_user="grid001",
)
PLAIN = AccountingSettings()


@pytest.mark.story("a parser written from the APEL page alone reads the usage message")
def test_every_field_of_a_job_is_read_back(parse_apel):
    (found,) = parse_apel(job_message([JOB], PLAIN))

    assert found == {
        "Site": "hpc-b",
        "SubmitHost": "localhost:2000/short",
        "Queue": "short",
        "LocalJobId": "hpc-b/4711",
        "LocalUserId": "grid001",
        "GlobalUserName": "alice@https://issuer.test",
        "FQAN": "/climate",
        "WallDuration": 90,
        "CpuDuration": 170,
        "Processors": 2,
        "NodeCount": 1,
        "StartTime": int(START.timestamp()),
        "EndTime": int(START.timestamp()) + 90,
        "InfrastructureDescription": "APEL-TWINFRA-INTERLINK",
        "InfrastructureType": "grid",
        "MemoryReal": 512 * 1024,
        "ServiceLevelType": "hepscore23",
        "ServiceLevel": Decimal("15.250"),
    }


def test_benchmark_is_always_given_when_nobody_measured_one(parse_apel):
    bare = replace(JOB, benchmark_hepscore23=None)
    site = AccountingSettings(sites={"hpc-b": SiteFacts(name="GOC-B", benchmark_hepscore23=9.5)})

    assert parse_apel(job_message([bare], PLAIN))[0]["ServiceLevel"] == 1
    (found,) = parse_apel(job_message([bare], site))
    assert (found["Site"], found["ServiceLevel"]) == ("GOC-B", Decimal("9.500"))


def test_records_are_kept_apart_when_there_are_many(parse_apel):
    jobs = [replace(JOB, local_job_id=str(number), wall_s=number) for number in range(1000)]

    found = parse_apel(job_message(jobs, PLAIN))

    assert [record["WallDuration"] for record in found] == list(range(1000))
    with pytest.raises(NotSpellable):
        job_message([*jobs, JOB], PLAIN)
    with pytest.raises(NotSpellable):
        job_message([], PLAIN)


@pytest.mark.parametrize("field", ["site", "queue", "local_job_id", "submit_host", "local_user"])
@pytest.mark.parametrize("text", ["a%%b", "a\nWallDuration: 1", "a\r", "a\x00", "x" * 300])
def test_message_is_refused_when_a_value_would_break_it(field, text):
    with pytest.raises(NotSpellable) as refused:
        job_message([replace(JOB, **{field: text})], PLAIN)

    assert "record job-1" in refused.value.detail


@pytest.mark.parametrize("text", ["none", " NULL ", " "])
def test_message_is_refused_when_a_needed_value_reads_as_nothing(text):
    with pytest.raises(NotSpellable):
        job_message([replace(JOB, local_job_id=text)], PLAIN)


@pytest.mark.parametrize("text", ["a%%b", "a\nb", "", "x" * 256])
def test_record_is_not_taken_when_a_value_would_break_a_message(text):
    with pytest.raises(InvalidRequest):
        from_json({**to_json(JOB), "queue": text})


def test_name_travels_in_ascii_when_it_is_not(parse_apel):
    named = replace(JOB, local_user="jörg 100%", person=Person("https://i", "zoë"))

    (found,) = parse_apel(job_message([named], PLAIN))

    assert found["LocalUserId"] == "j%C3%B6rg 100%25"
    assert found["GlobalUserName"] == "zo%C3%AB@https://i"


@pytest.mark.parametrize(
    ("how", "name"),
    [
        ("identity", "alice@https://issuer.test"),
        ("withheld", "withheld"),
        ("hashed", "5f5b"),
    ],
)
def test_person_is_named_as_the_settings_say(parse_apel, how, name):
    (found,) = parse_apel(job_message([JOB], AccountingSettings(user_names=how)))

    if how == "hashed":
        assert len(found["GlobalUserName"]) == 64
        assert "alice" not in found["GlobalUserName"]
    else:
        assert found["GlobalUserName"] == name


def test_moments_are_utc_when_the_record_has_another_offset(parse_apel):
    east = timezone(timedelta(hours=13))
    moved = replace(
        JOB, started_at=JOB.started_at.astimezone(east), ended_at=JOB.ended_at.astimezone(east)
    )

    assert job_message([moved], PLAIN) == job_message([JOB], PLAIN)


def test_memory_is_left_out_when_it_does_not_fit_their_table(parse_apel):
    huge = replace(JOB, memory_peak_bytes=3 * 1024**4)

    assert "MemoryReal" not in parse_apel(job_message([huge], PLAIN))[0]


def test_fractions_of_seconds_never_put_the_end_before_the_start(parse_apel):
    short = replace(JOB, started_at=START, ended_at=START + timedelta(microseconds=1))

    assert parse_apel(job_message([short], PLAIN))[0]["EndTime"] == int(START.timestamp())


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    queue=TEXTS,
    job=TEXTS,
    sub=TEXTS,
    wall_s=st.integers(0, 10**9),
    cpu_s=st.integers(0, 10**9),
    score=st.floats(0.001, 1e6),
)
def test_message_is_refused_or_read_back_when_the_record_is_anything(
    parse_apel, queue, job, sub, wall_s, cpu_s, score
):
    """Whatever the record holds, the table's reader finds the same numbers, or nothing was sent."""
    record = replace(
        JOB,
        queue=queue,
        local_job_id=job,
        person=Person("https://i", sub),
        wall_s=wall_s,
        cpu_s=cpu_s,
        benchmark_hepscore23=score,
    )
    try:
        message = job_message([record], PLAIN)
    except NotSpellable:
        return
    (found,) = parse_apel(message)
    assert (found["WallDuration"], found["CpuDuration"]) == (wall_s, cpu_s)
    assert found["ServiceLevel"] == Decimal(f"{score:.3f}")


@given(TEXTS)
def test_spelled_text_is_one_ascii_line_without_the_separator(text):
    try:
        spelled = ascii_only("Field", text, 255)
    except NotSpellable:
        return
    assert spelled.isascii()
    assert spelled.isprintable()
    assert "%%" not in spelled
