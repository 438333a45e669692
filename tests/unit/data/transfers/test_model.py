"""The words of transfers: submissions, states, checksums, faults, markers, links."""

import json
from base64 import urlsafe_b64encode
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.core.errors import InvalidRequest
from twinfra.data.transfers.model import (
    Checksum,
    FileState,
    JobState,
    NewTransfer,
    Submission,
    TransferParams,
    job_state,
    parse_checksum,
    same_digest,
)
from twinfra.data.transfers.model.checksums import parse_digest_header
from twinfra.data.transfers.model.faults import (
    Scope,
    cancelled,
    exists,
    fault_of_status,
    fault_of_text,
    mismatch,
)
from twinfra.data.transfers.model.links import Window, address_of, http_url, storage_of
from twinfra.data.transfers.model.markers import MarkerReader
from twinfra.data.transfers.model.records import deterministic_job_id, token_expires_at
from twinfra.data.transfers.model.states import file_state, unit_state
from twinfra.data.transfers.model.submission import parse_params, parse_submission
from twinfra.data.transfers.model.views import fts_time, parse_fts_time, parse_job

S = FileState
FILE = {"sources": ["https://a:1/x"], "destinations": ["https://b:2/y"]}


def submission(**more):
    return parse_submission({"files": [{**FILE, **more}]}, max_files=10)


def test_a_submission_goes_over_the_wire_and_back():
    wanted = Submission(
        (
            NewTransfer(
                ("https://a:1/x", "https://c:3/x"), "davs://b:2/y", ("s1", "s2"), "d", 10,
                Checksum("md5", "0" * 32), {"request_id": "r"}, "User Subscriptions",
            ),
        ),
        TransferParams(
            verify_checksum="target", retry=-1, retry_delay_s=5, priority=4, timeout_s=60,
            max_in_queue_s=90, job_metadata={"issuer": "rucio"}, sid="s", overwrite=True,
        ),
    )  # fmt: skip
    assert parse_submission(json.loads(json.dumps(wanted.to_wire())), max_files=10) == wanted


def test_what_ftss_command_sends_is_read():
    """The parameters are those of fts-rest-transfer-submit 3.14."""
    sent = {
        "verify_checksum": "b", "copy_pin_lifetime": -1, "bring_online": -1, "archive_timeout": -1,
        "timeout": None, "retry": 0, "priority": None, "multihop": False, "overwrite": True,
        "overwrite_on_retry": False, "reuse": False, "job_metadata": None, "strict_copy": False,
    }  # fmt: skip
    params = parse_params(sent)
    assert (params.verify_checksum, params.priority, params.overwrite) == ("both", 3, True)
    found = submission(checksum="ADLER32", source_tokens=["t"], destination_tokens=["t"])
    assert found.files[0].checksum == Checksum("adler32")


@pytest.mark.parametrize(
    ("value", "read"),
    [(False, "none"), (None, "none"), (True, "both"), ("both", "both"), ("b", "both"),
     ("s", "source"), ("target", "target"), ("none", "none")],
)  # fmt: skip
def test_the_checksum_mode_is_read_in_all_its_spellings(value, read):
    assert parse_params({"verify_checksum": value}).verify_checksum == read


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ([], "JSON object"),
        ({}, "No transfers"),
        ({"files": []}, "No transfers"),
        ({"files": ["x"]}, "not an object"),
        ({"files": [{"sources": [], "destinations": ["https://b/y"]}]}, "sources"),
        ({"files": [{**FILE, "destinations": ["https://b/y", "https://b/z"]}]}, "one destination"),
        ({"files": [{**FILE, "sources": ["file:///etc/passwd"]}]}, "schemes"),
        ({"files": [{**FILE, "sources": ["https://user@a/x"]}]}, "not a URL of a file"),
        ({"files": [{**FILE, "sources": ["https://a/"]}]}, "not a URL of a file"),
        ({"files": [{**FILE, "source_tokens": ["a", "b"]}]}, "one token a URL"),
        ({"files": [{**FILE, "source_tokens": ["a"]}]}, "both source and destination"),
        ({"files": [{**FILE, "checksum": "CRC9:1"}]}, "none of adler32"),
        ({"files": [FILE, FILE]}, "named twice"),
        ({"files": [FILE], "delete": ["x"]}, "not offered"),
        ({"files": [FILE], "params": {"multihop": True}}, "not offered"),
        ({"files": [FILE], "params": {"bring_online": 60}}, "no tape"),
        ({"files": [FILE], "params": {"priority": 9}}, "between 1 and 5"),
        ({"files": [FILE], "params": {"retry": "many"}}, "not a number"),
        ({"files": [FILE], "params": {"overwrite": 1, "overwrite_on_retry": 1}}, "Incompatible"),
        ({"files": [FILE], "params": {"id_generator": "deterministic"}}, "sid"),
        ({"files": [FILE], "params": {"max_time_in_queue": "soon"}}, "not a time"),
    ],
)
def test_a_submission_that_breaks_a_rule_is_refused_with_the_reason(body, says):
    with pytest.raises(InvalidRequest, match=says):
        parse_submission(body, max_files=10)


def test_a_job_with_too_many_files_is_refused():
    files = [{**FILE, "destinations": [f"https://b/{n}"]} for n in range(11)]
    with pytest.raises(InvalidRequest, match="at most 10"):
        parse_submission({"files": files}, max_files=10)


KEYS = st.sampled_from(["files", "params", "sources", "checksum", "destinations", "priority"])
LEAVES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
ANYTHING = st.recursive(
    LEAVES, lambda kids: st.lists(kids, max_size=3) | st.dictionaries(KEYS, kids)
)


@given(ANYTHING)
def test_any_body_is_read_or_refused_and_nothing_else(body):
    with suppress(InvalidRequest):
        parse_submission(body, max_files=10)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([[S.SUBMITTED]], JobState.SUBMITTED),
        ([[S.SUBMITTED], [S.FINISHED]], JobState.ACTIVE),
        ([[S.READY]], JobState.ACTIVE),
        ([[S.FINISHED], [S.FINISHED]], JobState.FINISHED),
        ([[S.FAILED], [S.FINISHED]], JobState.FINISHED_DIRTY),
        ([[S.FAILED], [S.FAILED]], JobState.FAILED),
        ([[S.CANCELLED], [S.FINISHED]], JobState.CANCELLED),
        ([[S.FAILED, S.FINISHED]], JobState.FINISHED),
        ([[S.FAILED, S.SUBMITTED]], JobState.SUBMITTED),
        ([[S.FINISHED, S.NOT_USED]], JobState.FINISHED),
        ([[S.CANCELLED, S.NOT_USED]], JobState.CANCELLED),
    ],
)
def test_the_state_of_a_job_follows_from_its_files(states, expected):
    assert job_state(states) is expected


@given(st.lists(st.sampled_from([S.FINISHED, S.FAILED, S.CANCELLED, S.NOT_USED]), min_size=1))
def test_a_file_without_open_alternatives_is_settled(states):
    assert unit_state(states).final


def test_a_state_nobody_knows_is_unknown_and_no_error():
    assert file_state("STAGING_TO_MARS") is FileState.UNKNOWN


@pytest.mark.parametrize(
    ("text", "expected"),
    [("ADLER32:5AE07809", Checksum("adler32", "5ae07809")), ("adler32", Checksum("adler32")),
     ("SHA256:ab", Checksum("sha-256", "ab")), ("", None), (None, None)],
)  # fmt: skip
def test_checksums_are_read(text, expected):
    assert parse_checksum(text) == expected


def test_leading_zeros_and_case_do_not_count():
    assert same_digest("0000AB12", "ab12")
    assert not same_digest("ab12", "ab13")


def test_digest_headers_of_all_storages_become_hexadecimal():
    header = "adler32=5AE07809,md5=XUFAKrxLKna5cZ2REBfFkg==, sha-256=bad!,unknown=1"
    assert parse_digest_header(header) == {
        "adler32": "5ae07809", "md5": "5d41402abc4b2a76b9719d911017c592",
    }  # fmt: skip
    assert parse_digest_header(None) == {}


@pytest.mark.parametrize(
    ("text", "errno", "retryable"),
    [
        ("the source answered 404 Not Found", 2, False),
        ("Remote side failed with status code 503", 5, True),
        ("Connection timed out", 110, True),
        ("Checksum mismatch: adler32 is 1 here, 2 by the source", 5, False),
        ("No space left on device", 28, False),
        ("performance marker timeout", 110, True),
        ("Name or service not known", 113, True),
        ("Destination path is a directory", 21, False),
        ("the moon is in the wrong house", 5, True),
    ],
)
def test_words_of_storages_fall_into_classes(text, errno, retryable):
    fault = fault_of_text(Scope.TRANSFER, "COPY", text)
    assert (fault.errno, fault.retryable) == (errno, retryable)
    assert str(fault).startswith(f"TRANSFER [{errno}] COPY ")


def test_a_wrong_checksum_asks_for_another_source_and_a_full_disk_does_not():
    assert mismatch(Scope.DESTINATION, "COMPARE", "a is b").other_source
    assert not fault_of_status(Scope.DESTINATION, 507, "COPY").other_source
    assert not cancelled().other_source
    assert "Destination file exists and overwrite is not enabled" in str(exists())


def test_markers_are_summed_over_stripes_and_never_shrink():
    reader, ends = MarkerReader(), 0
    for stripe, count in ((0, 10), (1, 5), (0, 3)):
        for line in ("Perf Marker", f"  Stripe Index: {stripe}",
                     f"\tStripe Bytes Transferred: {count}", "End"):  # fmt: skip
            ends += reader.feed(line)
    assert (reader.transferred_bytes, ends, reader.outcome) == (15, 3, None)
    reader.feed("Success: Created")
    assert (reader.outcome, reader.text) == ("success", "Created")


@given(st.lists(st.text(max_size=40), max_size=20))
def test_any_body_of_a_copy_is_read(lines):
    reader = MarkerReader()
    for line in lines:
        reader.feed(line)
    assert reader.transferred_bytes >= 0


def test_a_window_grows_while_all_goes_well_and_shrinks_when_it_does_not():
    window = Window(2)
    for _ in range(5):
        window = window.after(success=True, waiting=3, least=1, most=3)
    assert window.size == 3
    for _ in range(5):
        window = window.after(success=True, waiting=3, least=1, most=3)
    assert window.size == 3
    for _ in range(15):
        window = window.after(success=False, waiting=3, least=1, most=3)
    assert window.size == 1


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4), st.integers(4, 9))
def test_a_window_keeps_its_bounds(outcomes, least, most):
    window = Window(least)
    for success in outcomes:
        window = window.after(success=success, waiting=1, least=least, most=most)
        assert least <= window.size <= most


def test_urls_have_storages_and_addresses():
    assert storage_of("davs://h.org:8443/a/b") == "davs://h.org:8443"
    assert storage_of("https://h.org/a") == "https://h.org"
    assert address_of("https://h.org/a") == "h.org:443"
    assert address_of("davs://h.org/a") == "h.org:443"
    assert http_url("davs://h.org:1/a") == "https://h.org:1/a"


def test_the_id_of_a_sid_is_always_the_same_and_differs_by_vo():
    assert deterministic_job_id("climate", "1") == deterministic_job_id("climate", "1")
    assert deterministic_job_id("climate", "1") != deterministic_job_id("ocean", "1")


def test_the_end_of_a_token_is_read_and_what_is_no_token_has_none():
    body = urlsafe_b64encode(json.dumps({"exp": 1700000000}).encode()).decode().rstrip("=")
    assert token_expires_at(f"h.{body}.s") == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    for odd in (None, "", "macaroon", "a.b.c", "h.e30.s"):
        assert token_expires_at(odd) is None


def test_times_are_spelt_as_fts_does():
    moment = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
    assert fts_time(moment) == "2026-01-02T03:04:05"
    assert parse_fts_time("2026-01-02T03:04:05") == moment.replace(microsecond=0)
    assert fts_time(None) is parse_fts_time(None) is None


def test_a_job_that_a_server_does_not_know_is_lost():
    assert not parse_job({"job_id": "x", "http_status": "404 Not Found"}).known
