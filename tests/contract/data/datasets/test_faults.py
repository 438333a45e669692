"""What goes wrong is seen, tried elsewhere, and said; nothing is copied twice."""

import asyncio

import pytest

from twinfra.core.errors import Conflict, InsufficientScope, UpstreamTimeout
from twinfra.data.datasets.model import Did
from twinfra.data.datasets.settings import DatasetsSettings
from twinfra.testkit.waiting import wait_for

SOURCE_SUM = "SOURCE [5] CHECKSUM source 0000000a, wanted 00000000: checksum mismatch"
TARGET_SUM = "DESTINATION [5] CHECKSUM the copy has another checksum: checksum mismatch"


def url(rse, name="scenarios/a"):
    return f"https://{rse.lower()}.test:443/dav/datasets/climate/{name}"


@pytest.fixture
async def sites(world):
    for name in ("EDGE-C", "HPC-B", "CLOUD-A"):
        await world.rse(name)
    return world


async def bad_ones(world):
    return [(e["data"]["rse"], e["data"]["name"]) for e in await world.events("replica.bad")]


@pytest.mark.story(
    "A corrupted source file: the transfer fails on the checksum, the bad copy is removed,"
    " another source is tried"
)
async def test_other_source_is_taken_when_one_is_corrupt(sites):
    sites.transfers.faults[url("CLOUD-A")] = SOURCE_SUM
    await sites.dataset(files=("a",), rses=("CLOUD-A", "EDGE-C"))
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await sites.becomes(rule_id, "OK")
    assert await bad_ones(sites) == [("CLOUD-A", "scenarios/a")]
    assert await sites.replicas("climate:scenarios") == {
        "climate:scenarios/a": {"CLOUD-A": "BAD", "EDGE-C": "AVAILABLE", "HPC-B": "AVAILABLE"}
    }


async def test_unmatched_copy_is_blamed_on_the_source_when_another_source_does_well(sites):
    sites.transfers.faults[url("CLOUD-A")] = TARGET_SUM
    await sites.dataset(files=("a",), rses=("CLOUD-A", "EDGE-C"))
    await sites.becomes(await sites.rule("climate:scenarios", "HPC-B"), "OK")
    assert await bad_ones(sites) == [("CLOUD-A", "scenarios/a")]


@pytest.mark.story("where none is left the rule says STUCK and why")
async def test_rule_is_stuck_and_says_why_when_every_source_is_corrupt(sites):
    sites.transfers.faults |= {url("CLOUD-A"): SOURCE_SUM, url("EDGE-C"): SOURCE_SUM}
    await sites.dataset(files=("a",), rses=("CLOUD-A", "EDGE-C"))
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    rule = await sites.becomes(rule_id, "STUCK")
    assert rule.error.startswith("climate:scenarios/a: no source is left; at CLOUD-A: SOURCE [5]")
    assert "at EDGE-C: SOURCE [5] CHECKSUM" in rule.error
    (event,) = await sites.events("rule.stuck")
    assert event["data"]["reason"] == rule.error
    assert sorted(await bad_ones(sites)) == [
        ("CLOUD-A", "scenarios/a"),
        ("EDGE-C", "scenarios/a"),
    ]


async def test_only_source_gets_a_second_chance_when_a_copy_did_not_match(sites):
    sites.transfers.faults[url("EDGE-C")] = TARGET_SUM
    await sites.dataset(files=("a",))
    rule = await sites.becomes(await sites.rule("climate:scenarios", "HPC-B"), "STUCK")
    assert len(sites.transfers.jobs) == 2
    assert "checksum mismatch" in rule.error
    assert await bad_ones(sites) == [("EDGE-C", "scenarios/a")]


async def test_whole_files_arrive_when_one_of_a_dataset_is_corrupt(sites):
    sites.transfers.faults[url("EDGE-C")] = SOURCE_SUM
    await sites.dataset(files=("a", "b"))
    rule = await sites.becomes(await sites.rule("climate:scenarios", "HPC-B"), "STUCK")
    assert (rule.locks_ok, rule.locks_stuck) == (1, 1)


async def test_stuck_rule_heals_when_the_file_is_uploaded_again(sites):
    await test_rule_is_stuck_and_says_why_when_every_source_is_corrupt(sites)
    (event,) = await sites.events("rule.stuck")
    sites.transfers.faults.clear()
    from twinfra.data.datasets.model import FileSpec

    again = FileSpec(Did("climate", "scenarios/a"), 10, "00000000")
    await sites.services.replicas.add(await sites.alice(), "EDGE-C", [again])
    await sites.becomes(event["data"]["rule_id"], "OK")


async def test_request_is_tried_again_when_the_failure_may_pass(sites):
    sites.transfers.faults[url("EDGE-C")] = "TRANSFER [110] connection timed out"
    await sites.dataset(files=("a",))
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await wait_for(lambda: len(sites.transfers.jobs) >= 2, what="a second attempt")
    sites.transfers.faults.clear()
    await sites.becomes(rule_id, "OK")
    assert await bad_ones(sites) == []


async def test_rule_is_stuck_when_attempts_are_used_up(sites):
    sites.transfers.faults[url("EDGE-C")] = "TRANSFER [110] connection timed out"
    await sites.dataset(files=("a",))
    rule = await sites.becomes(await sites.rule("climate:scenarios", "HPC-B"), "STUCK")
    assert rule.error == "climate:scenarios/a: TRANSFER [110] connection timed out"
    assert len(sites.transfers.jobs) == DatasetsSettings().retry_most


async def test_owner_can_have_a_stuck_rule_tried_again(sites):
    await test_rule_is_stuck_when_attempts_are_used_up(sites)
    (event,) = await sites.events("rule.stuck")
    rule_id = event["data"]["rule_id"]
    sites.transfers.faults.clear()
    await sites.services.rules.update(await sites.alice(), rule_id, {"boost_rule": True})
    await sites.becomes(rule_id, "OK")


async def test_rule_says_why_when_its_owner_may_not_read_there(sites):
    await sites.dataset(files=("a",))

    async def refused(delegation, audience, scope):
        raise InsufficientScope(f"storage.read is more than may be given at {audience}")

    sites.tokens.for_storage = refused
    rule = await sites.becomes(await sites.rule("climate:scenarios", "HPC-B"), "STUCK")
    assert "not submitted: storage.read is more than may be given" in rule.error


async def test_job_is_made_once_when_the_answer_to_its_submission_is_lost(sites):
    sites.transfers.lost_answers = 1
    await sites.dataset(files=("a",))
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await sites.becomes(rule_id, "OK")
    assert len(sites.transfers.submissions) == 2
    assert len(set(sites.transfers.submissions)) == 1
    assert len(sites.transfers.jobs) == 1


async def test_job_is_sent_again_under_its_own_id_when_submitting_times_out(sites):
    sites.transfers.trouble = UpstreamTimeout("no answer in time")
    await sites.dataset(files=("a",))
    rule_id = await sites.rule("climate:scenarios", "HPC-B")

    async def waiting():
        return (await sites.services.rules.get(rule_id)).error

    await wait_for(waiting, what="the rule waits")
    sites.transfers.trouble = None
    await sites.becomes(rule_id, "OK")
    assert len(sites.transfers.jobs) == 1


async def test_request_waits_when_another_job_writes_its_destination(sites):
    sites.transfers.trouble = Conflict("Duplicated file: another job is writing it")
    await sites.dataset(files=("a",))
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await asyncio.sleep(0)
    sites.transfers.trouble = None
    await sites.becomes(rule_id, "OK")


async def test_files_are_copied_anew_when_the_transfer_service_lost_the_job(sites):
    sites.transfers.held = True
    await sites.dataset(files=("a",))
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await wait_for(lambda: sites.transfers.jobs, what="a job")
    (job_id,) = sites.transfers.jobs
    del sites.transfers.reports[job_id]
    sites.transfers.held = False
    await sites.transfers.ended(job_id)
    await sites.becomes(rule_id, "OK")
    assert len(sites.transfers.jobs) == 2
