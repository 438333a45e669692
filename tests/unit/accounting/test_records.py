"""Usage records as values: what is one, what is refused, StAR."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from twinfra.accounting.messages.star import storage_message
from twinfra.accounting.model import (
    JobUsage,
    Person,
    StorageUsage,
    TransferUsage,
    faults,
    from_json,
    month_of,
    to_json,
)
from twinfra.accounting.settings import AccountingSettings
from twinfra.core.errors import InvalidRequest

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
COMMON = {"site": "hpc-b", "started_at": NOW - timedelta(hours=1), "ended_at": NOW}
ALICE = Person("https://issuer.test", "alice")
JOB = JobUsage(id="j", local_job_id="1", wall_s=1, cpu_s=1, **COMMON)
STORAGE = StorageUsage(
    id="s", rse="HPC-B", used_bytes=5, file_count=2, group="climate/ocean", person=ALICE, **COMMON
)
TRANSFER = TransferUsage(id="t", source_site="edge-c", dest_site="hpc-b", size_bytes=7, **COMMON)


@pytest.mark.parametrize("record", [JOB, STORAGE, TRANSFER], ids=lambda record: record.kind)
def test_record_is_the_same_when_sent_and_read(record):
    assert from_json(to_json(record)) == record


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"kind": "cloud"}, ""),
        ({"wall_s": -1}, "wall_s"),
        ({"wall_s": 1.5}, "wall_s"),
        ({"wall_s": "1"}, "wall_s"),
        ({"wall_s": 10**30}, "wall_s"),
        ({"processors": 0}, "processors"),
        ({"gpus": float("nan")}, "gpus"),
        ({"benchmark_hepscore23": 0}, "benchmark_hepscore23"),
        ({"surprise": 1}, "surprise"),
        ({"person": {"iss": "a"}}, "person"),
        ({"person": {"iss": "a", "sub": "b", "mail": "c"}}, "person"),
        ({"ended_at": "2026-06-01T12:00:00"}, "ended_at"),
        ({"id": ""}, "id"),
        ({"site": None}, "site"),
    ],
    ids=str,
)
def test_record_is_refused_with_the_field_when_it_is_wrong(change, field):
    with pytest.raises(InvalidRequest) as refused:
        from_json({**to_json(JOB), **change})

    assert field in str(refused.value.errors)


def test_record_breaks_a_rule_when_its_times_are_impossible():
    backwards = replace(JOB, ended_at=JOB.started_at - timedelta(seconds=1))
    ahead = replace(JOB, ended_at=NOW + timedelta(days=3))

    assert list(faults(JOB, NOW)) == []
    assert len(list(faults(backwards, NOW))) == 1
    assert len(list(faults(ahead, NOW))) == 1


def test_month_is_that_of_the_end_in_utc_when_the_clock_is_elsewhere():
    late = datetime.fromisoformat("2026-07-01T05:00:00+13:00")

    assert month_of(replace(JOB, started_at=late, ended_at=late)) == "2026-06"


def test_star_document_holds_what_the_definition_demands():
    root = ET.fromstring(storage_message([STORAGE], AccountingSettings(), NOW))
    space = {"sr": "http://eu-emi.eu/namespaces/2011/02/storagerecord"}
    (record,) = root.findall("sr:StorageUsageRecord", space)
    identity = record.find("sr:RecordIdentity", space)

    def text(path):
        return record.find(path, space).text

    assert {name.rpartition("}")[2] for name in identity.attrib} == {"createTime", "recordId"}
    assert text("sr:StorageSystem") == "HPC-B"
    assert text("sr:ResourceCapacityUsed") == "5"
    assert text("sr:EndTime") == "2026-06-01T12:00:00Z"
    assert text("sr:SubjectIdentity/sr:Group") == "climate"
    assert text("sr:SubjectIdentity/sr:GroupAttribute") == "ocean"
    assert text("sr:SubjectIdentity/sr:UserIdentity") == "alice@https://issuer.test"


def test_star_document_is_well_formed_when_names_hold_markup():
    hostile = replace(STORAGE, rse="<a>&\"'", path="/x]]>")

    root = ET.fromstring(storage_message([hostile], AccountingSettings(), NOW))

    assert "<a>&\"'" in [element.text for element in root.iter()]
