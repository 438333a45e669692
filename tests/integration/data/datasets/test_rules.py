"""Rules among real neighbours: bytes are moved by the edges, people pay, corruption is found."""

import pytest

from twinfra.data.datasets.client import Did, FileSpec, NewRule
from twinfra.testkit.waiting import wait_for

SCENARIOS = Did("climate", "scenarios")


@pytest.mark.story("The datasets service turns missing locks into transfers")
async def test_a_dataset_is_copied_edge_to_edge_and_paid_for_when_a_rule_wants_it(federation):
    bodies = {"A1B.nc": b"warm" * 20000, "E1.nc": b"mild" * 10000}
    await federation.upload("climate:scenarios", bodies)
    client = federation.datasets()
    rule = NewRule(SCENARIOS, 1, "HPC-B", lifetime_s=86400, meta={"deployment": "d-1"})
    rule_id = await client.add_rule(rule)
    stands = await federation.becomes(rule_id, "OK")
    assert (stands.locks_ok, stands.locks) == (2, 2)
    for name, body in bodies.items():
        path = f"/datasets/climate/scenarios/{name}"
        assert await federation.get("hpc-b", path) == body
    replicas = await client.list_replicas([SCENARIOS], "HPC-B")
    assert [one.at("HPC-B") for one in replicas] == [
        f"{federation.url('edge@hpc-b')}/dav/datasets/climate/scenarios/{name}" for name in bodies
    ]

    async def paid():
        page = await federation.accounting().records()
        found = {(r.kind, getattr(r, "rse", None), r.deployment) for r in page.records}
        wanted = {("storage", "EDGE-C", None), ("storage", "HPC-B", "d-1")}
        moved = [r for r in page.records if r.kind == "transfer"]
        return moved if wanted <= found and moved else None

    moved = await wait_for(paid, timeout_s=30, what="usage records")
    assert {(r.person.sub, r.group, r.deployment) for r in moved} == {("alice", "climate", "d-1")}


@pytest.mark.story("A corrupted source file: the transfer fails on the checksum, the bad copy is "
                   "removed, another source is tried")  # fmt: skip
async def test_a_corrupt_source_is_passed_over_and_marked(federation):
    specs = await federation.upload("climate:one", {"f": b"good" * 500}, ("edge-c", "cloud-a"))
    storage = federation.context.home.site("cloud-a").storage
    (storage / "datasets/climate/one/f").write_bytes(b"evil" * 500)
    robot = federation.as_service("plugin@edge-c")
    await robot.set_distance("CLOUD-A", "HPC-B", 1)
    await robot.set_distance("EDGE-C", "HPC-B", 9)
    client = federation.datasets()
    rule_id = await client.add_rule(NewRule(Did("climate", "one"), 1, "HPC-B"))
    await federation.becomes(rule_id, "OK")
    assert await federation.get("hpc-b", "/datasets/climate/one/f") == b"good" * 500
    (listed,) = await client.list_replicas([specs[0].did], all_states=True)
    assert {rse: state.value for rse, state in listed.states.items()} == {
        "CLOUD-A": "BAD",
        "EDGE-C": "AVAILABLE",
        "HPC-B": "AVAILABLE",
    }


@pytest.mark.story("where none is left the rule says STUCK and why")
async def test_the_rule_says_why_when_the_only_source_is_corrupt(federation):
    await federation.upload("climate:one", {"f": b"good" * 500})
    storage = federation.context.home.site("edge-c").storage
    (storage / "datasets/climate/one/f").write_bytes(b"evil" * 500)
    rule_id = await federation.datasets().add_rule(NewRule(Did("climate", "one"), 1, "HPC-B"))
    stuck = await federation.becomes(rule_id, "STUCK")
    assert "climate:one/f: no source is left; at EDGE-C:" in stuck.error
    assert "checksum" in stuck.error.lower()
    assert not (federation.context.home.site("hpc-b").storage / "datasets/climate/one/f").exists()


async def test_a_file_is_copied_from_where_it_landed_when_it_keeps_its_own_path(federation):
    client, body = federation.datasets(), b"ensemble" * 100
    await federation.put("edge-c", "/incoming/ensemble/m1.pp", body)
    from zlib import adler32

    did = Did("climate", "ensemble/m1.pp")
    pfn = f"{federation.url('edge@edge-c')}/dav/incoming/ensemble/m1.pp"
    await client.add_replicas("EDGE-C", [FileSpec(did, len(body), f"{adler32(body):08x}", pfn=pfn)])
    rule_id = await client.add_rule(NewRule(did, 1, "site=cloud-a"))
    await federation.becomes(rule_id, "OK")
    assert await federation.get("cloud-a", "/datasets/climate/ensemble/m1.pp") == body
