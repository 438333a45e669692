"""What time brings: rules and data end, jobs are asked about, stuck rules are tried again."""

import pytest

from twinfra.data.datasets.errors import DidNotFound
from twinfra.data.datasets.model import Did
from twinfra.testkit.waiting import wait_for


@pytest.fixture
async def sites(slow_world):
    for name in ("EDGE-C", "HPC-B"):
        await slow_world.rse(name)
    return slow_world


async def until(world, check, step_s=5.0):
    """Move the clock bit by bit until something is so."""

    async def so():
        answer = await check()
        if not answer:
            await world.advance(step_s)
        return answer

    return await wait_for(so, timeout_s=20)


async def test_rule_goes_when_its_lifetime_is_over(sites):
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "EDGE-C", lifetime_s=3600)
    await sites.advance(3500)
    assert await sites.state(rule_id) == "OK"
    await sites.advance(101)
    await sites.gone(rule_id)
    await wait_for(lambda: sites.tokens.revoked, what="the delegation is ended")


async def test_rule_lives_longer_when_its_lifetime_is_extended(sites):
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "EDGE-C", lifetime_s=100)
    await sites.services.rules.update(await sites.alice(), rule_id, {"lifetime": 1000})
    await sites.advance(500)
    assert await sites.state(rule_id) == "OK"
    await sites.advance(501)
    await sites.gone(rule_id)


async def test_dataset_goes_with_its_rules_when_its_lifetime_is_over(sites):
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "EDGE-C")
    did, alice = Did.parse("climate:scenarios"), await sites.alice()
    await sites.services.metadata.set(alice, [(did, {"lifetime": 86400})])
    await sites.advance(86401)
    await sites.gone(rule_id)

    async def gone():
        try:
            await sites.services.dids.exists(did)
        except DidNotFound:
            return True
        return False

    await wait_for(gone, what="the dataset is gone")


async def test_dataset_stays_when_its_lifetime_is_taken_back(sites):
    await sites.dataset()
    did, alice = Did.parse("climate:scenarios"), await sites.alice()
    await sites.services.metadata.set(alice, [(did, {"lifetime": 100})])
    await sites.services.metadata.set(alice, [(did, {"lifetime": None})])
    await sites.advance(200)
    assert (await sites.services.dids.exists(did)).expires_at is None


async def test_end_of_a_job_is_seen_when_no_event_comes(sites):
    sites.transfers.ended = None
    await sites.dataset(files=("a",))
    rule_id = await sites.rule("climate:scenarios", "HPC-B")

    async def fine():
        return await sites.state(rule_id) == "OK"

    await until(sites, fine)


async def test_failed_request_waits_longer_each_time(sites):
    source = "https://edge-c.test:443/dav/datasets/climate/scenarios/a"
    sites.transfers.faults[source] = "TRANSFER [110] connection timed out"
    await sites.dataset(files=("a",))
    await sites.rule("climate:scenarios", "HPC-B")
    await wait_for(lambda: len(sites.transfers.jobs) == 1)
    await _attempt_after(sites, 10, count=2)
    await _attempt_after(sites, 20, count=3)


async def _attempt_after(world, seconds, *, count):
    async def waits():
        async with world.core.work.read() as tx:
            rules = [rule async for rule in tx.rules.each({})]
            return await tx.requests.next_try(rules[0].id)

    await wait_for(waits, what="the request waits")
    await world.advance(seconds - 1)
    assert len(world.transfers.jobs) == count - 1
    await world.advance(1.1)
    await wait_for(lambda: len(world.transfers.jobs) == count, what=f"attempt {count}")


async def test_stuck_rule_is_tried_again_when_its_repair_is_due(sites):
    alice = await sites.alice()
    specs = await sites.dataset(files=("a",))
    await sites.services.replicas.declare_bad(alice, {"EDGE-C": [specs[0].did]}, "mice")
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await sites.becomes(rule_id, "STUCK")
    async with sites.core.work.begin() as tx:
        rse_id = next(n for n, r in (await tx.rses.all()).items() if r.name == "EDGE-C")
        (row,) = (await tx.dids.get_many([specs[0].did])).values()
        from twinfra.data.datasets.model import ReplicaState

        await tx.replicas.set_state(rse_id, [row.id], ReplicaState.AVAILABLE, sites.clock.now())
    await sites.advance(61)
    await sites.becomes(rule_id, "OK")


async def test_rule_is_suspended_when_it_was_stuck_for_two_weeks(sites):
    alice = await sites.alice()
    specs = await sites.dataset(files=("a",))
    await sites.services.replicas.declare_bad(alice, {"EDGE-C": [specs[0].did]}, "mice")
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await sites.becomes(rule_id, "STUCK")

    async def given_up():
        return await sites.state(rule_id) == "SUSPENDED"

    await until(sites, given_up, step_s=86400.0)
