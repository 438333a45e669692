"""Accounting is told of what is stored, for whom, as it changes and from time to time."""

import pytest

from twinfra.core.errors import Unavailable
from twinfra.testkit.waiting import wait_for


def by_rse(world):
    return {(r["rse"], r.get("deployment")): r for r in world.accounting.records.values()}


@pytest.fixture
async def sites(world):
    for name in ("EDGE-C", "HPC-B"):
        await world.rse(name)
    return world


async def test_storage_is_accounted_to_person_group_and_deployment(sites):
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "HPC-B", meta={"deployment": "d-1"})
    await sites.becomes(rule_id, "OK")

    def told():
        at_hpc = by_rse(sites).get(("HPC-B", "d-1"))
        return at_hpc if at_hpc and at_hpc["used_bytes"] == 20 else None

    record = await wait_for(told, what="the record")
    assert record["kind"] == "storage"
    assert record["site"] == "hpc-b"
    assert record["person"] == {"iss": "https://issuer", "sub": "alice"}
    assert record["group"] == "climate"
    assert record["file_count"] == 2
    assert ("EDGE-C", None) in by_rse(sites)


async def test_records_wait_and_count_once_when_accounting_is_away(sites):
    sites.accounting.trouble = Unavailable("away")
    await sites.dataset()

    async def queued():
        async with sites.core.work.read() as tx:
            return await tx.usage.queued(10)

    waiting = await wait_for(queued, what="a record waits")
    sites.accounting.trouble = None
    await wait_for(lambda: sites.accounting.records, timeout_s=15, what="the record is taken")
    assert set(sites.accounting.records) >= {record["id"] for record in waiting}

    async def empty():
        return not await queued()

    await wait_for(empty, what="nothing waits any more")


async def test_end_of_storage_is_told_when_the_last_file_goes(sites):
    specs = await sites.dataset(files=("a",))
    await wait_for(lambda: sites.accounting.records, what="a record")
    await sites.services.replicas.remove(await sites.alice(), "EDGE-C", [specs[0].did])

    def ended():
        return [r for r in sites.accounting.records.values() if r["used_bytes"] == 0]

    (record,) = await wait_for(ended, what="a record of the end")
    assert record["started_at"] < record["ended_at"]


async def test_storage_is_told_again_when_the_interval_is_over(slow_world):
    await slow_world.rse("EDGE-C")
    await slow_world.dataset(files=("a",))

    async def told(count, step_s):
        await slow_world.advance(step_s)
        return len(slow_world.accounting.records) >= count

    await wait_for(lambda: told(1, 1.1), what="a first record")
    await wait_for(lambda: told(2, 600), what="a second record")
