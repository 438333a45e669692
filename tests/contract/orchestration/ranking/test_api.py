"""Ranking over sockets: facts from a real catalogue and monitoring, data from a Rucio's answers."""

import json

import pytest
from aiohttp import web

from twinfra.core.errors import InsufficientScope, InvalidRequest, NotFound
from twinfra.orchestration.catalogue.client import CatalogueClient
from twinfra.orchestration.catalogue.model import Cost, Policies, Provider, Resources
from twinfra.orchestration.monitoring.client import MonitoringClient
from twinfra.orchestration.ranking.client import RankingClient
from twinfra.testkit import servers
from twinfra.testkit.waiting import wait_for

MIB = 1 << 20
ANY_STATUS = tuple(range(200, 600))
JOB = {"cpu": 1, "memory_bytes": 512 * MIB, "capabilities": ["isolated"]}
LINKS = dict.fromkeys(("cloud-a", "hpc-b", "edge-c"), 4 * MIB)
SITES = [
    Provider(
        "cloud-a", "cloud", "CLOUD-A", resources=Resources(4, 8 << 30), cost=Cost(0.05),
        capabilities=("isolated", "services"), link_bandwidth_bytes_per_s=LINKS,
    ),
    Provider(
        "hpc-b", "hpc", "HPC-B", resources=Resources(8, 16 << 30, slots=8), cost=Cost(0.01),
        capabilities=("batch", "isolated"), link_bandwidth_bytes_per_s=LINKS,
        benchmark_hepscore23=20,
    ),
    Provider(
        "edge-c", "edge", "EDGE-C", resources=Resources(1, 2 << 30),
        capabilities=("isolated",), link_bandwidth_bytes_per_s=LINKS,
    ),
    Provider(
        "closed-d", "hpc", resources=Resources(64, 64 << 30), capabilities=("isolated",),
        policies=Policies(("hydrology",)),
    ),
]  # fmt: skip
FREE = {"cloud-a": 4, "hpc-b": 8, "edge-c": 0, "closed-d": 64}


class Rucio:
    """Answers what ranking asks of a Rucio server: a dataset, a versioned container, a file."""

    def __init__(self):
        self.tokens = []
        self.held = {"EDGE-C": 12 * MIB}
        self.dids = {
            "scenarios": {"type": "DATASET", "bytes": 12 * MIB, "length": 2},
            "model": {"type": "CONTAINER", "bytes": 3 * MIB},
            "model.v2": {"type": "DATASET", "bytes": 2 * MIB, "length": 1},
            "one.nc": {"type": "FILE", "bytes": MIB},
        }

    def _entry(self, name):
        return {"scope": "climate", "name": name, "account": "root", **self.dids[name]}

    async def did(self, request):
        self.tokens.append(request.headers["Authorization"])
        name = request.match_info["name"]
        if name not in self.dids:
            body = {"ExceptionClass": "DataIdentifierNotFound", "ExceptionMessage": "not found"}
            return web.json_response(body, status=404)
        return web.json_response(self._entry(name))

    async def content(self, request):
        lines = [self._entry("model.v2")] if request.match_info["name"] == "model" else []
        return web.Response(text="\n".join(map(json.dumps, lines)))

    async def datasets(self, request):
        name = request.match_info["name"]
        whole = self.dids[name]["bytes"]
        held = self.held if name == "scenarios" else {"HPC-B": whole}
        lines = [
            {
                **self._entry(name), "rse": rse, "bytes": whole, "length": 2,
                "available_bytes": count, "available_length": 2,
            }
            for rse, count in held.items()
        ]  # fmt: skip
        return web.Response(text="\n".join(map(json.dumps, lines)))

    async def replicas(self, request):
        line = {
            **self._entry("one.nc"),
            "rses": {"CLOUD-A": ["https://x/1"]},
            "states": {"CLOUD-A": "AVAILABLE", "HPC-B": "COPYING"},
        }
        return web.Response(text=json.dumps(line))

    def app(self):
        app = web.Application()
        app.router.add_get("/dids/climate/{name}", self.did)
        app.router.add_get("/dids/climate/{name}/dids", self.content)
        app.router.add_get("/replicas/climate/{name}/datasets", self.datasets)
        app.router.add_post("/replicas/list", self.replicas)
        return app


@pytest.fixture
async def rucio(federation):
    made = Rucio()
    runner = web.AppRunner(made.app())
    await runner.setup()
    tls = federation.context.tls_server().context()
    port = federation.home.port("datasets")
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    yield made
    await runner.cleanup()


@pytest.fixture
async def world(federation, rucio, make_doors, tmp_path):
    """The demo's sites, each with doors of its own, watched and ranked."""
    text = "[monitoring]\nprobe_interval_s = 0.1\ncatalogue_interval_s = 0.1\n"
    federation.home.settings_file.write_text(text)
    (tmp_path / "nats").mkdir()
    federation.doors = {}
    opened = []
    with servers.nats(tmp_path / "nats", port=federation.home.port("nats")):
        async with federation.running("catalogue", "monitoring", "ranking"):
            for provider in SITES:
                doors = federation.doors[provider.name] = make_doors()
                free = {"cpu": FREE[provider.name], "memory": 1 << 30, "slots": None}
                doors.body = {**doors.body, "free": free, "queue": {}}
                opened.append(doors.open(federation, provider.name))
                await register(federation, provider, await opened[-1].__aenter__())
            await all_known(federation)
            yield federation
    for each in opened:
        await each.__aexit__(None, None, None)


async def register(federation, provider, url):
    from dataclasses import replace

    token = federation.service("catalogue", f"plugin@{provider.name}")
    client = CatalogueClient(federation.client("catalogue", token))
    await client.register(replace(provider, interlink_url=url))


async def all_known(federation):
    token = federation.service("monitoring", "ranking")
    client = MonitoringClient(federation.client("monitoring", token))

    async def up():
        return sum(each.up for each in await client.statuses()) == len(SITES)

    await wait_for(up, timeout_s=15, what="all sites are up")


@pytest.fixture
def alice(world):
    return RankingClient(world.client("ranking", world.person("ranking")))


@pytest.fixture
def deployments(world):
    return RankingClient(world.client("ranking", world.service("ranking", "deployments")))


async def test_every_route_wants_a_token(federation, rucio, guarded):
    async with federation.running("ranking"):
        await guarded("ranking", "POST", "/rank", {"group": "climate"})
        for path in ("/rankings/1", "/rankings?deployment=d", "/metrics", "/docs"):
            await guarded("ranking", "GET", path)


@pytest.mark.story(
    "The orchestrator ranks the providers and says why: each factor, its value and weight"
)
async def test_batch_site_wins_and_says_why_when_the_demo_asks(world, alice, rucio):
    answer = await alice.rank(JOB, ["climate:scenarios"], group="climate", deployment="d1")
    assert answer.sites == ("hpc-b", "cloud-a", "edge-c")
    best = answer.body["candidates"][0]
    assert set(best) == {"site", "score", "rank", "factors"}
    locality = best["factors"][0]
    assert set(locality) == {
        "name", "value", "unit", "normalised", "weight", "contribution", "why",
    }  # fmt: skip
    assert (locality["name"], locality["value"], locality["unit"]) == ("data_locality", 3.0, "s")
    assert answer.excluded == {"closed-d": "its policy does not admit the group climate"}
    assert answer.body["model_version"].startswith("formula-1+")
    assert rucio.tokens[0].startswith("Bearer ")


@pytest.mark.story("give `edge-c` a free CPU: it wins, and no transfer is made")
async def test_edge_wins_when_it_has_a_free_cpu(world, alice):
    doors = world.doors["edge-c"]
    doors.body = {**doors.body, "free": {"cpu": 1, "memory": 1 << 30}}
    token = world.service("monitoring", "ranking")
    await MonitoringClient(world.client("monitoring", token)).probe("edge-c")
    answer = await alice.rank(JOB, ["climate:scenarios"], group="climate")
    assert answer.sites[0] == "edge-c"
    assert answer.body["candidates"][0]["factors"][0]["value"] == 0.0


@pytest.mark.story("stopping a site's process makes monitoring exclude it")
async def test_site_is_excluded_when_monitoring_finds_it_down(world, alice):
    world.doors["hpc-b"].status = 500
    token = world.service("monitoring", "ranking")
    await MonitoringClient(world.client("monitoring", token)).probe("hpc-b")
    answer = await alice.rank(JOB, ["climate:scenarios"], group="climate")
    assert "hpc-b" not in answer.sites
    reasons = {each["site"]: each["reason"] for each in answer.body["excluded"]}
    assert reasons["hpc-b"] == "down"
    assert "monitoring found it down: interlink" in answer.excluded["hpc-b"]


async def test_latest_version_and_files_are_found_when_inputs_name_them(world, alice):
    answer = await alice.rank(JOB, ["climate:model", "climate:one.nc"], group="climate")
    why = {c["site"]: c["factors"][0]["why"] for c in answer.body["candidates"]}
    assert "1.0 MiB of climate:one.nc come from cloud-a" in why["hpc-b"]
    assert "climate:model" not in why["hpc-b"]
    assert "2.0 MiB of climate:model come from hpc-b" in why["cloud-a"]


async def test_past_answer_is_shown_to_its_group_only(world, alice, deployments):
    answer = await alice.rank(JOB, group="climate", deployment="d1")
    later = await alice.rank(JOB, group="climate", deployment="d1", exclude=["hpc-b"])
    assert await alice.answer(answer.id) == answer
    assert [each.id for each in await deployments.of_deployment("d1")] == [later.id, answer.id]
    bob = RankingClient(world.client("ranking", world.person("ranking", "bob", ("hydrology",))))
    with pytest.raises(NotFound):
        await bob.answer(answer.id)
    assert await bob.of_deployment("d1") == []
    with pytest.raises(NotFound):
        await alice.answer("nothing")


async def test_person_is_refused_when_the_group_is_not_theirs(world, alice, deployments):
    with pytest.raises(InsufficientScope, match="only members of hydrology"):
        await alice.rank(JOB, group="hydrology")
    assert "closed-d" in (await deployments.rank(JOB, group="hydrology")).sites


@pytest.mark.story("An input dataset that does not exist: refused before anything starts")
async def test_all_missing_inputs_are_named_when_some_do_not_exist(world, alice):
    with pytest.raises(InvalidRequest) as caught:
        await alice.rank(JOB, ["climate:no", "climate:scenarios", "nonsense"], group="climate")
    assert "there is no dataset climate:no" in caught.value.detail
    assert "'nonsense' is not a data identifier" in caught.value.detail


async def test_body_is_refused_when_a_field_is_wrong(world):
    client = world.client("ranking", world.person("ranking"))
    for body, field in (
        ({}, "group"),
        ({"group": "climate", "requirements": {"cpu": 0}}, "cpu"),
        ({"group": "climate", "requirements": {"cpu": "NaN"}}, "cpu"),
        ({"group": "climate", "requirements": {"capabilities": ["A B"]}}, "capabilities"),
        ({"group": "climate", "colour": "red"}, "colour"),
        ({"group": "climate", "inputs": ["s:d"] * 101}, "more than 100 inputs"),
    ):
        reply = await client.request("POST", "/rank", json=body, expect=ANY_STATUS)
        assert (reply.status, reply.json()["code"]) == (400, "invalid-request")
        assert field in reply.json()["detail"]


async def test_answer_is_503_when_a_neighbour_is_away(federation, rucio):
    async with federation.running("ranking"):
        token = federation.person("ranking")
        reply = await federation.client("ranking", token).request(
            "POST", "/rank", json={"group": "climate"}, expect=ANY_STATUS
        )
        assert (reply.status, reply.json()["retryable"]) == (503, True)
