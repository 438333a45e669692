"""The Rucio interface over a socket: the typed client, and bytes as Rucio's clients send them."""

import json

import pytest

from twinfra.core.errors import (
    Conflict,
    InsufficientScope,
    InvalidRequest,
    NotFound,
    TwinfraError,
    Unauthenticated,
)
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.core.service import Listener, Service
from twinfra.data.datasets.api import build_app
from twinfra.data.datasets.client import (
    DatasetsClient,
    Did,
    DidType,
    FileSpec,
    NewCollection,
    NewRule,
    ReplicaState,
)
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.serving import serving

SCENARIOS, MODEL = Did("climate", "scenarios"), Did("climate", "model")
FILES = [FileSpec(Did("climate", f"scenarios/{n}"), 10 + i, f"{i:08x}", f"{i:032x}")
         for i, n in enumerate("ab")]  # fmt: skip


class Door:
    def __init__(self, url, tls, issuer, world):
        self.url, self.tls, self.issuer, self.world = url, tls, issuer, world
        self.clients = []

    def token(self, sub="alice", groups=("climate",), **more):
        return self.issuer.token(sub, groups, aud=self.url, **more)

    def http(self, token=None):
        async def source():
            return token

        made = HttpClient(self.url, tls=self.tls, token=source if token else None)
        self.clients.append(made)
        return made

    def client(self, sub="alice", groups=("climate",)):
        return DatasetsClient(self.http(self.token(sub, groups)))

    def robot(self):
        return DatasetsClient(self.http(self.issuer.service_token("plugin@edge-c", aud=self.url)))

    async def raw(self, method, path, *, token="", body=None, **headers):
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        async with self.http().stream(
            method, path, data=body, headers=sent, token=token or None
        ) as answer:
            return answer.status, answer.headers.copy(), await answer.read()


@pytest.fixture
async def door(world, context):
    with TestIssuer() as issuer:
        port = context.home.port("datasets")
        url = context.url("datasets")
        app = build_app(world.services, issuer.authenticator(url))
        async with serving(context, Service("datasets", [Listener(app, port)])):
            made = Door(url, context.tls_client(), issuer, world)
            yield made
            for client in made.clients:
                await client.close()


@pytest.fixture
async def full(door):
    """Two storages, and a dataset at one of them."""
    robot, client = door.robot(), door.client()
    for name in ("EDGE-C", "HPC-B"):
        await robot.register_rse(
            name, base_url=f"https://{name.lower()}.test:8443", attributes={"site": name.lower()}
        )
    await client.add_replicas("EDGE-C", FILES)
    await client.dids_add([NewCollection(SCENARIOS)])
    await client.attach(SCENARIOS, [file.did for file in FILES])
    return door


async def test_client_reads_back_what_it_wrote(full):
    client = full.client()
    assert [file.did for file in await client.list_files(SCENARIOS)] == [f.did for f in FILES]
    info = await client.get_did(SCENARIOS)
    assert (info.type, info.length, info.size_bytes, info.account) == (
        DidType.DATASET, 2, 21, "alice",
    )  # fmt: skip
    assert info.is_open
    file = await client.get_did(FILES[1].did)
    assert (file.type, file.size_bytes, file.adler32) == (DidType.FILE, 11, "00000001")
    assert file.md5 == FILES[1].md5
    assert await client.list_content(SCENARIOS) == [(f.did, DidType.FILE) for f in FILES]
    assert await client.list_parents(FILES[0].did) == [(SCENARIOS, DidType.DATASET)]
    await client.close(SCENARIOS)
    assert not (await client.get_did(SCENARIOS)).is_open
    await client.open(SCENARIOS)
    await client.detach(SCENARIOS, [FILES[0].did])
    assert len(await client.list_files(SCENARIOS)) == 1


async def test_client_lists_replicas_with_their_places(full):
    client = full.client()
    found = await client.list_replicas([SCENARIOS], "site=edge-c")
    assert [one.at("EDGE-C") for one in found] == [
        f"https://edge-c.test:8443/dav/datasets/climate/scenarios/{n}" for n in "ab"
    ]
    assert [one.at("HPC-B") for one in found] == [None, None]
    (whole,) = await client.dataset_replicas(SCENARIOS)
    assert (whole.rse, whole.complete, whole.available_bytes) == ("EDGE-C", True, 21)
    await client.declare_bad("EDGE-C", [FILES[0].did], "mice")
    (one,) = await client.list_replicas([FILES[0].did], all_states=True)
    assert one.states == {"EDGE-C": ReplicaState.BAD}
    assert one.at("EDGE-C") is None
    await client.set_replica_states("EDGE-C", [(FILES[0].did, ReplicaState.AVAILABLE)])
    await client.remove_replicas("EDGE-C", [FILES[1].did])
    (gone,) = await client.list_replicas([FILES[1].did])
    assert gone.pfns == {}


async def test_client_asks_for_copies_and_sees_them_come(full):
    client = full.client()
    rule = NewRule(SCENARIOS, 1, "HPC-B", lifetime_s=60, comment="c", meta={"deployment": "d"})
    rule_id = await client.add_rule(rule)
    await full.world.becomes(rule_id, "OK")
    found = await client.get_rule(rule_id)
    assert (found.did, found.copies, found.locks_ok, found.comment) == (SCENARIOS, 1, 2, "c")
    assert found.meta == {"deployment": "d"}
    assert found.expires_at is not None
    assert [one.id for one in await client.did_rules(SCENARIOS)] == [rule_id]
    assert [one.id for one in await client.list_rules(account="alice", state="OK")] == [rule_id]
    locks = await client.rule_locks(rule_id)
    assert {(lock.rse, lock.state) for lock in locks} == {("HPC-B", "OK")}
    with pytest.raises(Conflict):
        await client.add_rule(rule)
    await client.update_rule(rule_id, {"lifetime": 600})
    await client.delete_rule(rule_id)
    with pytest.raises(NotFound):
        await client.get_rule(rule_id)


async def test_client_sets_searches_and_follows_metadata(full):
    client = full.client()
    await client.set_meta(SCENARIOS, {"job": "j1", "inputs": ["climate:raw"]})
    assert await client.get_meta(SCENARIOS) == {"job": "j1", "inputs": ["climate:raw"]}
    assert await client.search("climate", {"job": "j1"}) == [SCENARIOS]
    assert await client.search("climate", {"name": "scen*"}, type_="all") == [
        SCENARIOS, *(f.did for f in FILES),
    ]  # fmt: skip
    graph = await client.lineage(SCENARIOS)
    assert {"from": "job:j1", "to": "climate:scenarios", "relation": "wrote"} in graph["edges"]


async def test_versions_are_reserved_published_and_found(full):
    client = full.client()
    job = new_uuid()
    first = await client.reserve_version(MODEL, job)
    assert (first.number, str(first.did)) == (1, "climate:model.v1")
    assert await client.reserve_version(MODEL, job) == first
    assert await client.latest_version(MODEL) is None
    other = await client.reserve_version(MODEL, new_uuid())
    assert other.number == 2
    weights = FileSpec(Did("climate", "model.v1/weights"), 5, "00000005")
    for _ in range(2):
        await client.publish_version(MODEL, first, "EDGE-C", [weights], {"job": job, "kind": "m"})
    assert await client.latest_version(MODEL) == first
    assert await client.resolve(MODEL) == first.did
    assert await client.resolve(SCENARIOS) == SCENARIOS
    assert not (await client.get_did(first.did)).is_open
    assert await client.version_of_job(MODEL, job) == first
    second = await client.new_version(MODEL, "j2", "EDGE-C", [], {"inputs": ["climate:model.v1"]})
    assert second.number == 3
    assert [v.number for v in await client.list_versions(MODEL)] == [1, 3]
    events = await full.world.events("dataset.version-added")
    assert [e["data"]["version"] for e in events] == [1, 3]
    assert events[0]["data"]["meta"] == {"job": job, "kind": "m"}


async def test_storage_is_registered_again_when_its_door_moved(full):
    robot = full.robot()
    for _ in range(2):
        await robot.register_rse(
            "EDGE-C", base_url="https://edge-c.test:9999", attributes={"site": "edge-c", "x": 1}
        )
    (one, _) = await full.client().list_replicas([SCENARIOS])
    assert one.at("EDGE-C").startswith("https://edge-c.test:9999/dav/datasets/")
    assert (await robot.rse_attributes("EDGE-C"))["x"] == 1
    assert await robot.list_rses("site=edge-c|HPC-B") == ["EDGE-C", "HPC-B"]
    await robot.set_distance("EDGE-C", "HPC-B", 3)
    await robot.set_distance("EDGE-C", "HPC-B", 4)


@pytest.mark.story("A wrong token, an expired one, one for another audience: 401 with the reason")
@pytest.mark.parametrize(
    ("token", "reason"),
    [("expired", "expired"), ("forged", "signature"), ("elsewhere", "another audience"),
     ("rubbish", "not a well-formed JWT"), ("none", "a bearer token is needed")],
)  # fmt: skip
async def test_token_is_refused_with_the_reason(full, token, reason):
    tokens = {
        "expired": full.issuer.expired(aud=full.url),
        "forged": full.issuer.forged(aud=full.url),
        "elsewhere": full.issuer.token(aud="https://elsewhere"),
        "rubbish": "rubbish",
        "none": None,
    }
    with pytest.raises(Unauthenticated, match=reason):
        await DatasetsClient(full.http(tokens[token])).whoami()


@pytest.mark.story("a good token without the right: 403")
async def test_good_token_without_the_right_is_refused(full):
    bob = full.client("bob", ["hydrology"])
    with pytest.raises(InsufficientScope, match="group climate"):
        await bob.dids_add([NewCollection(Did("climate", "mine"))])
    with pytest.raises(InsufficientScope, match="only services"):
        await bob.register_rse("MINE", base_url="https://x.test")
    assert len(await bob.list_files(SCENARIOS)) == 2


async def test_token_is_taken_from_ruciosheader_too(full):
    status, headers, body = await full.raw(
        "GET", "/accounts/whoami", X_Rucio_Auth_Token=full.token(), X_Rucio_Account="alice"
    )
    assert (status, json.loads(body)["account"]) == (200, "alice")
    assert headers["Content-Type"] == "application/json"
    status, _, body = await full.raw("GET", "/auth/validate", X_Rucio_Auth_Token=full.token())
    assert status == 200
    assert "'account': 'alice'" in body.decode()
    status, _, body = await full.raw(
        "GET", "/accounts/whoami", X_Rucio_Auth_Token=full.token(), X_Rucio_Account="root"
    )
    assert (status, json.loads(body)["ExceptionClass"]) == (401, "CannotAuthenticate")


async def test_errors_are_spelt_as_rucio_spells_them(full):
    status, headers, body = await full.raw("GET", "/dids/climate/no", token=full.token())
    assert status == 404
    assert headers["ExceptionClass"] == "DataIdentifierNotFound"
    assert headers["ExceptionMessage"] == "climate:no does not exist"
    told = json.loads(body)
    assert told["ExceptionClass"] == "DataIdentifierNotFound"
    assert (told["code"], told["retryable"]) == ("not-found", False)


async def test_own_route_answers_problem_details(full):
    status, headers, body = await full.raw("GET", "/lineage/climate/no", token=full.token())
    assert (status, headers["Content-Type"]) == (404, "application/problem+json")
    assert json.loads(body)["code"] == "not-found"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/subscriptions/", 501), ("POST", "/dids/resurrect", 501),
     ("GET", "/requests/list", 501), ("POST", "/rules/abc/move", 501), ("GET", "/export", 501),
     ("GET", "/auth/userpass", 501), ("GET", "/nothing", 404), ("PUT", "/rules/", 501)],
)  # fmt: skip
async def test_what_is_not_offered_is_said_so(full, method, path, status):
    found, headers, _ = await full.raw(method, path, token=full.token(), body=b"{}")
    assert found == status, headers
    if status == 501:
        assert headers["ExceptionClass"] == "UnsupportedOperation"


BAD = [
    ("POST", "/dids", b"not json"), ("POST", "/dids", b'{"a": 1}'), ("POST", "/dids", b"[1]"),
    ("POST", "/replicas", b"{}"), ("POST", "/replicas/list", b'{"dids": "x"}'),
    ("POST", "/rules/", b"{}"), ("POST", "/rules/", b'{"dids": [], "copies": 1}'),
    ("PUT", "/dids/climate/scenarios/status", b"{}"), ("POST", "/dids/attachments", b"[]"),
    ("POST", "/dids", b'[{"scope": "cli mate", "name": "x", "type": "DATASET"}]'),
    ("POST", "/dids", b'[{"scope": "climate", "name": "x", "type": "PLANET"}]'),
    ("GET", "/rses/?expression=%7C", None), ("GET", "/dids/climate/dids/search?type=moon", None),
    ("GET", "/dids/climate/dids/search?filters=%5B", None),
    ("GET", "/dids/climate/dids/search?limit=many", None),
    ("PUT", "/rses/EDGE-C/protocols/https/edge-c.test/port", b"{}"),
    ("POST", "/rses/EDGE-C/protocols/https", b'{"port": "many"}'),
    ("GET", "/rules/?colour=red", None), ("POST", "/replicas/bad", b'{"replicas": [{"a": 1}]}'),
    ("POST", "/replicas",
     b'{"rse": "EDGE-C", "files": [{"scope": "climate", "name": "x", "bytes": -1}]}'),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body"), BAD)
async def test_malformed_request_is_refused_and_the_server_lives(full, method, path, body):
    status, headers, _ = await full.raw(method, path, token=full.token(), body=body)
    assert 400 <= status < 500, status
    assert headers["ExceptionClass"]
    assert await full.client().ping()


async def test_health_needs_no_token_and_the_rest_does(full):
    for path in ("/healthz", "/readyz", "/ping"):
        assert (await full.raw("GET", path))[0] == 200
    for path in ("/metrics", "/openapi.json", "/docs", "/dids/climate/", "/rses/", "/nosuch"):
        assert (await full.raw("GET", path))[0] in {401, 404}
    for path in ("/metrics", "/openapi.json", "/docs"):
        assert (await full.raw("GET", path, token=full.token()))[0] == 200


async def test_long_lists_come_as_a_stream(full):
    client = full.client()
    many = [FileSpec(Did("climate", f"many/{n:05}"), n, f"{n:08x}") for n in range(2500)]
    await client.add_replicas("EDGE-C", many)
    box = Did("climate", "many")
    await client.dids_add([NewCollection(box)])
    await client.attach(box, [file.did for file in many])
    listed = [file async for file in client.iter_files(box)]
    assert [file.did for file in listed] == [file.did for file in many]
    assert len(await client.list_replicas([box], "EDGE-C")) == 2500
    status, headers, body = await full.raw(
        "POST", "/replicas/list", token=full.token(), Accept="application/metalink4+xml",
        body=json.dumps({"dids": [{"scope": "climate", "name": "scenarios"}],
                         "resolve_parents": True}).encode(),
    )  # fmt: skip
    assert (status, headers["Content-Type"]) == (200, "application/metalink4+xml")
    assert body.count(b"<did>climate:scenarios</did>") == 2


async def test_client_error_is_of_our_tree_when_the_server_refuses(full):
    client = full.client()
    with pytest.raises(InvalidRequest):
        await client.list_rses("NOWHERE")
    with pytest.raises(Conflict):
        await client.dids_add([NewCollection(SCENARIOS)])
    await client.dids_add([NewCollection(SCENARIOS)], exist_ok=True)
    with pytest.raises(Conflict):
        await client.dids_add([NewCollection(SCENARIOS, DidType.CONTAINER)], exist_ok=True)
    with pytest.raises(TwinfraError):
        await client.list_replicas([Did("climate", "nothing")])
