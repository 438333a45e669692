"""Accounts, scopes, data identifiers, metadata and replicas, on both databases."""

import asyncio
from dataclasses import replace

import pytest

from twinfra.core.errors import InvalidRequest
from twinfra.data.datasets.errors import (
    AccessDenied,
    CannotAuthenticate,
    DidExists,
    DidNotFound,
    Duplicate,
    DuplicateContent,
    FileMismatch,
    FilterSyntax,
    InvalidMetadata,
    InvalidPath,
    InvalidType,
    KeyNotFound,
    ReplicaLocked,
    ReplicaNotFound,
    RseNotFound,
    ScopeNotFound,
    UnsupportedOperation,
    UnsupportedStatus,
)
from twinfra.data.datasets.model import Did, DidType, FileSpec, NewCollection, ReplicaState
from twinfra.data.datasets.service.dids import Attachment

SCENARIOS = Did("climate", "scenarios")


@pytest.fixture
async def here(still):
    for name in ("EDGE-C", "HPC-B"):
        await still.rse(name)
    return still


async def names(rows):
    return [row.did.name async for row in rows]


async def test_person_gets_one_account_when_two_requests_come_at_once(still, principal):
    who = principal("alice", ["climate"])
    callers = await asyncio.gather(*(still.services.accounts.caller(who) for _ in range(5)))
    assert {caller.account for caller in callers} == {"alice"}
    assert [one.name for one in await still.services.accounts.all()] == ["alice"]


async def test_accounts_differ_when_two_issuers_know_an_alice(still, principal):
    one = principal("alice")
    first = await still.services.accounts.caller(one)
    second = await still.services.accounts.caller(replace(one, issuer="https://other"))
    assert first.account == "alice"
    assert second.account.startswith("alice-")


async def test_caller_is_refused_when_another_account_is_asked_for(still, principal):
    with pytest.raises(CannotAuthenticate):
        await still.services.accounts.caller(principal("alice"), "root")


async def test_scope_belongs_to_the_group_when_it_is_named_like_it(here):
    await here.dataset()
    assert await here.services.accounts.scopes() == [("climate", "climate")]
    with pytest.raises(AccessDenied, match="group climate"):
        await here.services.dids.add(await here.bob(), [NewCollection(Did("climate", "x"))])
    carol = await here.caller("carol", ["climate"])
    await here.services.dids.add(carol, [NewCollection(Did("climate", "x"))])


async def test_group_scope_is_not_a_persons_when_the_person_has_its_name(here):
    person = await here.caller("climate", ["hydrology"])
    await here.dataset()
    ((scope, owner),) = await here.services.accounts.scopes()
    assert (scope, owner == person.account) == ("climate", False)
    with pytest.raises(AccessDenied):
        await here.services.dids.add(person, [NewCollection(Did("climate", "x"))])


async def test_own_scope_is_made_when_it_is_named_so(here):
    alice, accounts = await here.alice(), here.services.accounts
    await accounts.add_scope(alice, "user.alice", "alice")
    await here.services.dids.add(alice, [NewCollection(Did("user.alice", "mine"))])
    with pytest.raises(Duplicate):
        await accounts.add_scope(alice, "user.alice", "alice")
    for scope in ("hydrology", "user.bob", "user.alicex"):
        with pytest.raises(AccessDenied):
            await accounts.add_scope(alice, scope, "alice")
    with pytest.raises(ScopeNotFound):
        await here.services.dids.add(alice, [NewCollection(Did("unknown", "x"))])


async def test_nothing_is_made_when_one_name_of_many_is_taken(here):
    alice = await here.alice()
    await here.services.dids.add(alice, [NewCollection(SCENARIOS)])
    with pytest.raises(DidExists):
        await here.services.dids.add(
            alice, [NewCollection(Did("climate", "new")), NewCollection(SCENARIOS)]
        )
    with pytest.raises(DidNotFound):
        await here.services.dids.exists(Did("climate", "new"))


async def test_each_file_is_told_of_with_its_place_when_it_joins_a_dataset(here):
    await here.dataset(rses=("EDGE-C",))
    told = [e["data"] for e in await here.events("dataset.file-added")]
    assert told[0] == {
        "scope": "climate",
        "name": "scenarios/a",
        "dataset": "climate:scenarios",
        "rse": "EDGE-C",
        "site": "edge-c",
        "rses": ["EDGE-C"],
        "size_bytes": 10,
    }
    assert [e["group"] for e in await here.events("dataset.file-added")] == ["climate"] * 2
    (made,) = await here.events("dataset.created")
    assert made["data"] == {"scope": "climate", "name": "scenarios", "type": "DATASET"}


async def test_version_is_told_of_with_its_metadata_when_it_joins_its_container(here):
    alice, model = await here.alice(), Did("climate", "model")
    v3 = NewCollection(Did("climate", "model.v3"), meta={"job": "j", "inputs": ["climate:s"]})
    await here.services.dids.add(alice, [NewCollection(model, DidType.CONTAINER), v3])
    await here.attach(model, v3.did)
    (event,) = await here.events("dataset.version-added")
    assert event["data"] == {
        "scope": "climate",
        "name": "model",
        "version": 3,
        "dataset": "climate:model.v3",
        "meta": {"job": "j", "inputs": ["climate:s"]},
    }


async def test_content_is_refused_when_it_cannot_be(here):
    alice, dids = await here.alice(), here.services.dids
    specs = await here.dataset()
    box, inner = Did("climate", "box"), Did("climate", "inner")
    await dids.add(alice, [NewCollection(one, DidType.CONTAINER) for one in (box, inner)])
    await here.attach(box, inner)
    with pytest.raises(UnsupportedOperation):
        await here.attach(box, specs[0].did)
    with pytest.raises(UnsupportedOperation):
        await here.attach(SCENARIOS, box)
    with pytest.raises(UnsupportedOperation):
        await here.attach(inner, box)
    with pytest.raises(UnsupportedOperation):
        await here.attach(box, box)
    with pytest.raises(DidNotFound):
        await here.attach(SCENARIOS, Did("climate", "nothing"))
    with pytest.raises(UnsupportedStatus):
        await here.attach(specs[0].did, specs[1].did)
    with pytest.raises(DuplicateContent):
        await here.attach(SCENARIOS, specs[0].did)
    again = Attachment(SCENARIOS, [specs[0].did])
    await dids.attach(alice, [again], ignore_duplicates=True)


async def test_closed_dataset_takes_nothing_until_it_is_opened(here):
    alice, dids = await here.alice(), here.services.dids
    specs = await here.dataset()
    late = FileSpec(Did("climate", "late"), 1)
    await here.services.replicas.add(alice, "EDGE-C", [late])
    for _ in range(2):
        await dids.set_open(alice, SCENARIOS, is_open=False)
    assert len(await here.events("dataset.closed")) == 1
    with pytest.raises(UnsupportedOperation, match="closed"):
        await here.attach(SCENARIOS, late.did)
    await dids.set_open(alice, SCENARIOS, is_open=True)
    await here.attach(SCENARIOS, late.did)
    assert len(await names(dids.content(SCENARIOS))) == len(specs) + 1


async def test_monotonic_dataset_keeps_what_it_has(here):
    alice = await here.alice()
    grows = NewCollection(Did("climate", "grows"), monotonic=True)
    await here.services.dids.add(alice, [grows])
    specs = await here.dataset()
    await here.attach(grows.did, specs[0].did)
    with pytest.raises(UnsupportedOperation, match="monotonic"):
        await here.services.dids.detach(alice, grows.did, [specs[0].did])


async def test_files_below_count_once_when_they_are_in_two_datasets(here):
    alice, dids = await here.alice(), here.services.dids
    specs = await here.dataset()
    other, box = Did("climate", "other"), Did("climate", "box")
    await dids.add(alice, [NewCollection(other), NewCollection(box, DidType.CONTAINER)])
    await here.attach(other, specs[0].did)
    await here.attach(box, SCENARIOS, other)
    assert await names(dids.files([box])) == ["scenarios/a", "scenarios/b"]
    row, length, size = await dids.get(box, dynamic=True)
    assert (row.type, length, size) == (DidType.CONTAINER, 2, 20)
    assert [one.did.name for one in await dids.parents(specs[0].did)] == ["scenarios", "other"]


async def test_registering_again_changes_nothing_and_another_file_is_refused(here):
    alice, replicas = await here.alice(), here.services.replicas
    (one,) = await here.dataset(files=("a",))
    await replicas.add(alice, "EDGE-C", [one])
    assert len(await here.events("replica.available")) == 1
    for wrong in ({"size_bytes": 11}, {"adler32": "0000ffff"}):
        other = FileSpec(**{"did": one.did, "size_bytes": 10, "adler32": one.adler32, **wrong})
        with pytest.raises(FileMismatch):
            await replicas.add(alice, "HPC-B", [other])
    with pytest.raises(FileMismatch):
        await replicas.add(alice, "EDGE-C", [FileSpec(SCENARIOS, 1)])
    with pytest.raises(RseNotFound):
        await replicas.add(alice, "NOWHERE", [one])
    with pytest.raises(AccessDenied):
        await replicas.add(await here.bob(), "EDGE-C", [one])


async def test_pfn_is_kept_when_it_is_at_the_storage_and_refused_elsewhere(here):
    alice = await here.alice()
    kept = FileSpec(Did("climate", "k"), 1, pfn="https://edge-c.test:443/dav/incoming/k.nc")
    await here.services.replicas.add(alice, "EDGE-C", [kept])
    evil = FileSpec(Did("climate", "e"), 1, pfn="https://evil.test/dav/k.nc")
    with pytest.raises(InvalidPath):
        await here.services.replicas.add(alice, "EDGE-C", [evil])
    with pytest.raises(DidNotFound):
        await here.services.dids.exists(evil.did)


async def test_replica_goes_when_no_rule_needs_it(here):
    alice, replicas = await here.alice(), here.services.replicas
    (one,) = await here.dataset(files=("a",), rses=("EDGE-C", "HPC-B"))
    await here.rule("climate:scenarios", "HPC-B")
    with pytest.raises(ReplicaLocked):
        await replicas.remove(alice, "HPC-B", [one.did])
    await replicas.remove(alice, "EDGE-C", [one.did])
    assert await here.replicas("climate:scenarios/a") == {
        "climate:scenarios/a": {"HPC-B": "AVAILABLE"}
    }
    with pytest.raises(ReplicaNotFound):
        await replicas.remove(alice, "EDGE-C", [one.did])


async def test_states_are_set_by_hand_when_they_can_be(here):
    alice, replicas = await here.alice(), here.services.replicas
    (one,) = await here.dataset(files=("a",))
    await replicas.set_states(alice, "EDGE-C", [(one.did, ReplicaState.TEMPORARY_UNAVAILABLE)])
    assert (await here.replicas("climate:scenarios/a"))["climate:scenarios/a"] == {
        "EDGE-C": "TEMPORARY_UNAVAILABLE"
    }
    with pytest.raises(InvalidType):
        await replicas.set_states(alice, "EDGE-C", [(one.did, ReplicaState.COPYING)])


async def test_dataset_replicas_are_summed_by_storage(here):
    specs = await here.dataset(files=("a", "b", "c"))
    await here.services.replicas.add(await here.alice(), "HPC-B", specs[:1])
    found, rses = await here.services.replicas.datasets(SCENARIOS)
    shown = {rses[one.rse_id].name: (one.available_length, one.available_bytes) for one in found}
    assert shown == {"EDGE-C": (3, 30), "HPC-B": (1, 10)}
    assert {(one.length, one.size_bytes) for one in found} == {(3, 30)}
    at_hpc, _ = await here.services.replicas.datasets_at("HPC-B")
    assert [one.dataset.did for one in at_hpc] == [SCENARIOS]


FOUND = [
    ({"name": "*"}, {"one", "two", "three"}),
    ({"name": "t*"}, {"two", "three"}),
    ({"name": "t_o"}, None),
    ({"job": "j1"}, {"one"}),
    ({"job.ne": "j1"}, {"two", "three"}),
    ({"year.gt": 2000}, {"two"}),
    ({"year.lte": 2000}, {"one"}),
    ({"year": "2000"}, set()),
    ({"final": True}, {"two"}),
    ({"job": "j*"}, {"one", "two"}),
    ({"job": "j2", "year.gt": 1}, {"two"}),
    ({"account": "alice"}, {"one", "two", "three"}),
    ({"created_at.gt": "2020-01-01T00:00:00"}, {"one", "two", "three"}),
    ({"nothing": 1}, set()),
]


@pytest.mark.parametrize(("filters", "meant"), FOUND)
async def test_search_finds_by_columns_and_metadata(here, filters, meant):
    metas = {"one": {"job": "j1", "year": 2000}, "two": {"job": "j2", "year": 2001, "final": True}}
    new = [
        NewCollection(Did("climate", name), meta=metas.get(name, {}))
        for name in ("one", "two", "three")
    ]
    await here.services.dids.add(await here.alice(), new)
    found = set(await names(here.services.dids.search("climate", [filters], [DidType.DATASET])))
    assert found == (meant or set())


async def test_search_joins_filters_by_or_and_refuses_what_it_does_not_know(here):
    new = [NewCollection(Did("climate", name), meta={"n": name}) for name in ("one", "two", "x")]
    await here.services.dids.add(await here.alice(), new)
    search = here.services.dids.search
    found = await names(search("climate", [{"n": "one"}, {"n": "two"}], [DidType.DATASET]))
    assert found == ["one", "two"]
    for wrong in ({"n.like": "x"}, {"n": None}, {'a"b': "x"}, {"name": "x'*"}, {"created_at": "?"}):
        with pytest.raises(FilterSyntax):
            await names(search("climate", [wrong], [DidType.DATASET]))


async def test_metadata_is_merged_read_and_removed(here):
    alice, metadata = await here.alice(), here.services.metadata
    await here.services.dids.add(alice, [NewCollection(SCENARIOS, meta={"a": 1})])
    await metadata.set(alice, [(SCENARIOS, {"b": {"deep": [1, None]}})])
    (row,) = await metadata.get([SCENARIOS, Did("climate", "nothing")])
    assert row.meta == {"a": 1, "b": {"deep": [1, None]}}
    await metadata.remove(alice, SCENARIOS, "a")
    with pytest.raises(KeyNotFound):
        await metadata.remove(alice, SCENARIOS, "a")
    with pytest.raises(InvalidMetadata):
        await metadata.set(alice, [(SCENARIOS, {"bytes": 1})])
    with pytest.raises(InvalidRequest):
        await metadata.set(alice, [(SCENARIOS, {"lifetime": "long"})])
    with pytest.raises(AccessDenied):
        await metadata.set(await here.bob(), [(SCENARIOS, {"x": 1})])


async def test_lineage_leads_from_files_to_predictions(here):
    alice = await here.alice()
    await here.dataset(files=("a",))
    meta = {
        "job": "j1", "inputs": ["climate:scenarios"], "deployment": "d", "kind": "model",
        "predictions": [{"id": "p1"}],
    }  # fmt: skip
    model, v1 = Did("climate", "model"), Did("climate", "model.v1")
    await here.services.dids.add(
        alice, [NewCollection(model, DidType.CONTAINER), NewCollection(v1, meta=meta)]
    )
    await here.attach(model, v1)
    shown = (await here.services.lineage.graph(Did("climate", "scenarios/a"))).to_json(SCENARIOS)
    edges = {(e["from"], e["to"]) for e in shown["edges"]}
    assert edges == {
        ("climate:scenarios/a", "climate:scenarios"),
        ("climate:scenarios", "job:j1"),
        ("job:j1", "climate:model.v1"),
        ("climate:model.v1", "climate:model"),
        ("climate:model.v1", "prediction:p1"),
    }
    again = (await here.services.lineage.graph(model)).to_json(model)
    assert {(e["from"], e["to"]) for e in again["edges"]} == edges
