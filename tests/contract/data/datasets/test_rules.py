"""Rules are kept: on both databases, with a transfer service that does as it is told."""

import pytest

from twinfra.core.errors import InsufficientScope, Unavailable
from twinfra.data.datasets.errors import (
    AccessDenied,
    DidNotFound,
    DuplicateRule,
    InsufficientTargets,
    InvalidRseExpression,
    RuleLocked,
)
from twinfra.data.datasets.model import Did, FileSpec, Grouping, NewCollection, NewRule
from twinfra.testkit.waiting import wait_for


@pytest.fixture
async def sites(world):
    for name, kind in (("EDGE-C", "edge"), ("HPC-B", "hpc"), ("CLOUD-A", "cloud")):
        await world.rse(name, kind=kind)
    return world


async def test_rule_is_ok_at_once_when_all_replicas_are_there(sites):
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "EDGE-C")
    assert await sites.state(rule_id) == "OK"
    assert sites.transfers.submissions == []
    (event,) = await sites.events("rule.ok")
    assert event["data"]["rule_id"] == rule_id


@pytest.mark.story("the rule turns OK and an event says so")
async def test_files_are_copied_and_rule_turns_ok_when_replicas_are_missing(sites):
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "HPC-B", lifetime_s=86400)
    rule = await sites.becomes(rule_id, "OK")
    assert (rule.locks_ok, rule.locks_replicating, rule.locks_stuck) == (2, 0, 0)
    assert await sites.replicas("climate:scenarios") == {
        "climate:scenarios/a": {"EDGE-C": "AVAILABLE", "HPC-B": "AVAILABLE"},
        "climate:scenarios/b": {"EDGE-C": "AVAILABLE", "HPC-B": "AVAILABLE"},
    }
    (job,) = sites.transfers.jobs.values()
    assert [copy.destination for copy in job.copies] == [
        "https://hpc-b.test:443/dav/datasets/climate/scenarios/a",
        "https://hpc-b.test:443/dav/datasets/climate/scenarios/b",
    ]
    kinds = [e["type"] for e in await sites.events() if ".rule." in e["type"]]
    assert kinds == ["org.twinfra.rule.replicating", "org.twinfra.rule.ok"]


async def test_tokens_are_of_the_folder_and_on_behalf_of_the_maker_when_files_are_copied(sites):
    await sites.dataset()
    await sites.becomes(await sites.rule("climate:scenarios", "HPC-B"), "OK")
    folder = "/datasets/climate/scenarios"
    assert sorted(sites.tokens.asked) == [
        ("https://edge-c.test:443", f"storage.read:{folder}"),
        (
            "https://hpc-b.test:443",
            f"storage.modify:{folder} storage.create:{folder} storage.read:{folder}",
        ),
    ]
    (job,) = sites.transfers.jobs.values()
    assert all(copy.source_tokens[0].startswith("alice@") for copy in job.copies)
    assert job.metadata["person"] == {"iss": "https://issuer", "sub": "alice"}
    assert job.metadata["group"] == "climate"


async def test_each_replica_is_told_when_it_becomes_available(sites):
    await sites.dataset()
    await sites.becomes(await sites.rule("climate:scenarios", "HPC-B"), "OK")
    told = [e["data"] for e in await sites.events("replica.available")]
    assert [(t["name"], t["rse"], t["datasets"]) for t in told if t["rse"] == "HPC-B"] == [
        ("scenarios/a", "HPC-B", ["climate:scenarios"]),
        ("scenarios/b", "HPC-B", ["climate:scenarios"]),
    ]


async def test_new_content_is_replicated_when_it_joins_later(sites):
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await sites.becomes(rule_id, "OK")
    late = FileSpec(Did("climate", "scenarios/late"), 5, "00000005")
    await sites.services.replicas.add(await sites.alice(), "EDGE-C", [late])
    await sites.attach("climate:scenarios", late.did)

    async def there():
        return (await sites.replicas("climate:scenarios/late"))["climate:scenarios/late"].get(
            "HPC-B"
        ) == "AVAILABLE"

    await wait_for(there, what="the late file is there")
    rule = await sites.becomes(rule_id, "OK")
    assert rule.locks_ok == 3


async def test_new_version_is_replicated_when_it_joins_a_container(sites):
    alice = await sites.alice()
    container = NewCollection(Did("climate", "model"), sites_container())
    await sites.services.dids.add(alice, [container])
    rule_id = await sites.rule("climate:model", "CLOUD-A")
    assert await sites.state(rule_id) == "OK"
    await sites.dataset("climate:model.v1", files=("weights",), rses=("HPC-B",))
    await sites.attach("climate:model", Did("climate", "model.v1"))

    async def there():
        found = await sites.replicas("climate:model")
        return found.get("climate:model.v1/weights", {}).get("CLOUD-A") == "AVAILABLE"

    await wait_for(there, what="the version is there")


def sites_container():
    from twinfra.data.datasets.model import DidType

    return DidType.CONTAINER


async def test_existing_replicas_are_preferred_when_an_expression_leaves_a_choice(sites):
    await sites.dataset(rses=("EDGE-C", "CLOUD-A"))
    rule_id = await sites.rule("climate:scenarios", "HPC-B|CLOUD-A")
    assert await sites.state(rule_id) == "OK"
    locks, names = await sites.services.rules.locks(rule_id=rule_id)
    assert {names[lock.rse_id] for lock in locks} == {"CLOUD-A"}


async def test_two_copies_stand_at_two_sites_when_two_are_wanted(sites):
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "*", copies=2)
    rule = await sites.becomes(rule_id, "OK")
    assert rule.locks_ok == 4
    locks, _ = await sites.services.rules.locks(rule_id=rule_id)
    assert len({(lock.did, lock.rse_id) for lock in locks}) == 4


@pytest.mark.parametrize("grouping", list(Grouping))
async def test_clusters_stay_together_when_a_rule_groups_them(sites, grouping):
    await sites.dataset("climate:one", files=("a", "b", "c"))
    await sites.dataset("climate:two", files=("a", "b", "c"))
    alice, both = await sites.alice(), Did("climate", "both")
    await sites.services.dids.add(alice, [NewCollection(both, sites_container())])
    await sites.attach(both, Did("climate", "one"), Did("climate", "two"))
    rule_id = await sites.rule("climate:both", "HPC-B|CLOUD-A", grouping=grouping)
    await sites.becomes(rule_id, "OK")
    locks, _ = await sites.services.rules.locks(rule_id=rule_id)
    assert len(locks) == 6
    by_dataset = {}
    for lock in locks:
        by_dataset.setdefault(lock.did.name.split("/")[0], set()).add(lock.rse_id)
    if grouping is Grouping.ALL:
        assert len(set.union(*by_dataset.values())) == 1
    if grouping is Grouping.DATASET:
        assert all(len(places) == 1 for places in by_dataset.values())


async def test_one_transfer_serves_both_when_two_rules_want_the_same_replica(sites):
    sites.transfers.held = True
    await sites.dataset()
    one = await sites.rule("climate:scenarios", "HPC-B")
    two = await sites.rule("climate:scenarios", "kind=hpc")
    await wait_for(lambda: sites.transfers.jobs, what="a job")
    await sites.transfers.finish()
    await sites.becomes(one, "OK")
    await sites.becomes(two, "OK")
    assert len(sites.transfers.jobs) == 1


async def test_all_sources_are_given_orderly_when_a_file_has_several(sites):
    robot = await sites.robot()
    await sites.services.rses.set_distance(robot, "CLOUD-A", "HPC-B", 1)
    await sites.services.rses.set_distance(robot, "EDGE-C", "HPC-B", 5)
    await sites.dataset(files=("a",), rses=("EDGE-C", "CLOUD-A"))
    await sites.becomes(await sites.rule("climate:scenarios", "HPC-B"), "OK")
    (job,) = sites.transfers.jobs.values()
    assert [url.split(".")[0] for url in job.copies[0].sources] == [
        "https://cloud-a",
        "https://edge-c",
    ]


async def test_only_named_sources_are_used_when_a_rule_names_them(sites):
    await sites.dataset(files=("a",), rses=("EDGE-C", "CLOUD-A"))
    rule_id = await sites.rule("climate:scenarios", "HPC-B", source_replica_expression="kind=cloud")
    await sites.becomes(rule_id, "OK")
    (job,) = sites.transfers.jobs.values()
    assert [url.split(".")[0] for url in job.copies[0].sources] == ["https://cloud-a"]


async def test_rule_is_stuck_and_says_why_when_no_replica_exists(sites):
    alice = await sites.alice()
    lost = FileSpec(Did("climate", "lost"), 1, "00000001")
    await sites.services.replicas.add(alice, "EDGE-C", [lost])
    await sites.services.replicas.declare_bad(alice, {"EDGE-C": [lost.did]}, "eaten by mice")
    rule_id = await sites.rule("climate:lost", "HPC-B")
    rule = await sites.becomes(rule_id, "STUCK")
    assert rule.error == "climate:lost: no available replica to copy from"
    (event,) = await sites.events("rule.stuck")
    assert event["data"]["reason"] == rule.error


async def test_stuck_rule_is_kept_when_a_replica_turns_up(sites):
    await test_rule_is_stuck_and_says_why_when_no_replica_exists(sites)
    (rule_id,) = [e["data"]["rule_id"] for e in await sites.events("rule.stuck")]
    lost = FileSpec(Did("climate", "lost"), 1, "00000001")
    await sites.services.replicas.add(await sites.alice(), "CLOUD-A", [lost])
    await sites.becomes(rule_id, "OK")


async def test_rule_is_ok_when_somebody_else_uploads_what_it_wants(sites):
    sites.transfers.trouble = Unavailable("away")
    specs = await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await sites.services.replicas.add(await sites.alice(), "HPC-B", specs)
    await sites.becomes(rule_id, "OK")


async def test_rule_waits_and_says_so_when_the_transfer_service_is_away(sites):
    sites.transfers.trouble = Unavailable("nobody listens")
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "HPC-B")

    async def said():
        return (await sites.services.rules.get(rule_id)).error

    assert "nobody listens" in await wait_for(said, what="the rule says why it waits")
    sites.transfers.trouble = None
    await sites.becomes(rule_id, "OK")


async def test_rule_is_refused_when_it_cannot_be(sites):
    await sites.dataset()
    with pytest.raises(InvalidRseExpression):
        await sites.rule("climate:scenarios", "NOWHERE")
    with pytest.raises(InvalidRseExpression):
        await sites.rule("climate:scenarios", "HPC-B|")
    with pytest.raises(InsufficientTargets):
        await sites.rule("climate:scenarios", "*", copies=4)
    with pytest.raises(DidNotFound):
        await sites.rule("climate:nothing", "HPC-B")
    await sites.rule("climate:scenarios", "EDGE-C")
    with pytest.raises(DuplicateRule):
        await sites.rule("climate:scenarios", "EDGE-C")
    held = [one for one in sites.tokens.held if one not in sites.tokens.revoked]
    assert len(held) == 1


async def test_nothing_is_made_when_the_issuer_refuses_the_delegation(sites):
    await sites.dataset()
    sites.tokens.trouble = InsufficientScope("no")
    with pytest.raises(InsufficientScope):
        await sites.rule("climate:scenarios", "HPC-B")
    assert [rule async for rule in sites.services.rules.each({})] == []


async def test_rule_of_others_is_left_alone_when_a_stranger_asks(sites):
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "EDGE-C")
    bob = await sites.bob()
    with pytest.raises(AccessDenied):
        await sites.services.rules.remove(bob, rule_id)
    with pytest.raises(AccessDenied):
        await sites.services.rules.update(bob, rule_id, {"lifetime": 1})
    wanted = NewRule(Did.parse("climate:scenarios"), 1, "HPC-B", account="alice")
    with pytest.raises(AccessDenied):
        await sites.services.rules.add(bob, [wanted])


async def test_locked_rule_stays_when_it_shall_be_removed(sites):
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "EDGE-C", locked=True)
    with pytest.raises(RuleLocked):
        await sites.services.rules.remove(await sites.alice(), rule_id)


async def test_transfers_are_called_off_when_their_rule_is_removed(sites):
    sites.transfers.held = True
    await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await wait_for(lambda: sites.transfers.jobs, what="a job")
    await sites.services.rules.remove(await sites.alice(), rule_id)
    await wait_for(lambda: sites.transfers.cancelled, what="the job is cancelled")

    async def clean():
        found = await sites.replicas("climate:scenarios")
        return all(list(places) == ["EDGE-C"] for places in found.values())

    await wait_for(clean, what="no trace of the copies")
    assert len(sites.tokens.revoked) == 1


async def test_transfer_goes_on_when_another_rule_still_wants_it(sites):
    sites.transfers.held = True
    await sites.dataset()
    one = await sites.rule("climate:scenarios", "HPC-B")
    two = await sites.rule("climate:scenarios", "kind=hpc")
    await wait_for(lambda: sites.transfers.jobs, what="a job")
    await sites.services.rules.remove(await sites.alice(), one)
    await sites.transfers.finish()
    await sites.becomes(two, "OK")
    assert sites.transfers.cancelled == []


async def test_locks_go_when_content_leaves(sites):
    specs = await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "EDGE-C")
    parent = Did.parse("climate:scenarios")
    await sites.services.dids.detach(await sites.alice(), parent, [specs[0].did])

    async def one_left():
        return (await sites.services.rules.get(rule_id)).locks_ok == 1

    await wait_for(one_left, what="one lock is left")


async def test_lost_copy_is_made_again_when_it_is_declared_bad(sites):
    specs = await sites.dataset()
    rule_id = await sites.rule("climate:scenarios", "HPC-B")
    await sites.becomes(rule_id, "OK")
    await sites.services.replicas.declare_bad(
        await sites.alice(), {"HPC-B": [specs[0].did]}, "bit rot"
    )
    await wait_for(lambda: len(sites.transfers.jobs) == 2, what="a second job")
    await sites.becomes(rule_id, "OK")
    (bad,) = await sites.events("replica.bad")
    assert bad["data"]["reason"] == "bit rot"
