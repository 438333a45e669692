"""Ranking with the federation's own issuer, catalogue, monitoring and datasets service."""

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from twinfra.access.issuer import wiring as issuer
from twinfra.access.person_tokens import sign_in_here
from twinfra.access.tokens import TokenClient
from twinfra.core.errors import InvalidRequest, TwinfraError
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Stop, run_services
from twinfra.data.datasets import wiring as datasets
from twinfra.data.datasets.client import DatasetsClient, Did, FileSpec, NewCollection
from twinfra.orchestration.catalogue import wiring as catalogue
from twinfra.orchestration.catalogue.client import CatalogueClient, Provider
from twinfra.orchestration.catalogue.model import Resources
from twinfra.orchestration.monitoring import wiring as monitoring
from twinfra.orchestration.ranking import wiring as ranking
from twinfra.orchestration.ranking.client import RankingClient
from twinfra.testkit import servers
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for

MIB = 1 << 20
NAMES = ("issuer", "catalogue", "monitoring", "datasets", "ranking")
SITES = {"hpc-b": 8, "edge-c": 0}
SETTINGS = "[monitoring]\nprobe_interval_s = 0.2\ncatalogue_interval_s = 0.2\n"
JOB = {"cpu": 1, "memory_bytes": 512 * MIB}
SCENARIOS = Did("climate", "scenarios")


@asynccontextmanager
async def doors(context, site, free_cpu):
    """Answer pings and health of a site that only shows what is free."""

    async def ping(request):
        body = {"status": "ok", "free": {"cpu": free_cpu[site], "memory": 8 << 30}, "queue": {}}
        return web.json_response(body if request.headers.get("Authorization") else {})

    async def health(_request):
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.router.add_post("/pinglink", ping)
    app.router.add_get("/healthz", health)
    runner = web.AppRunner(app)
    await runner.setup()
    port = context.home.port(f"interlink@{site}")
    tls = context.tls_server().context()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield f"https://localhost:{port}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def context_running(context, tmp_path):
    context.home.settings_file.parent.mkdir(parents=True, exist_ok=True)
    context.home.settings_file.write_text(SETTINGS)
    for name in (*NAMES, *(f"interlink@{site}" for site in SITES)):
        context.home.port(name)
    (tmp_path / "nats").mkdir()
    with servers.nats(tmp_path / "nats", port=context.home.port("nats")):
        rooms = (issuer, catalogue, monitoring, datasets, ranking)
        stop = Stop()
        built = [room.build(context) for room in rooms]
        task = asyncio.create_task(run_services(context, built, stop=stop))
        for name in NAMES:
            port = context.home.port(name)
            await wait_for(lambda port=port: task.done() or listening(port), what=f"{name} listens")
        yield context
        stop.now.set()
        await task


@pytest.mark.story(
    "The orchestrator ranks the providers and says why: each factor, its value and weight"
)
@pytest.mark.slow
async def test_edge_holds_the_data_and_wins_only_with_a_free_cpu(context_running):
    context, free = context_running, dict(SITES)
    opened, clients = [], []

    def http(name, source):
        clients.append(HttpClient(context.url(name), tls=context.tls_client(), token=source))
        return clients[-1]

    alice = await sign_in_here(context, "alice")
    tokens = {site: TokenClient.from_context(context, f"plugin@{site}") for site in SITES}
    person = DatasetsClient(http("datasets", alice.source(context.url("datasets"))))
    asks = RankingClient(http("ranking", alice.source(context.url("ranking"))))
    try:
        for site, token in tokens.items():
            opened.append(doors(context, site, free))
            url = await opened[-1].__aenter__()
            provider = Provider(
                site,
                "hpc",
                site.upper(),
                url,
                url,
                resources=Resources(8 if site == "hpc-b" else 1, 8 << 30),
                link_bandwidth_bytes_per_s=dict.fromkeys(SITES, 4 * MIB),
            )
            source = token.for_service(context.url("catalogue"))
            await CatalogueClient(http("catalogue", source)).register(provider)
            storage = DatasetsClient(http("datasets", token.for_service(context.url("datasets"))))
            await storage.register_rse(site.upper(), base_url=url, attributes={"site": site})
        files = [FileSpec(Did("climate", f"scenarios/{n}.nc"), 6 * MIB, "00000001") for n in "ab"]
        await person.dids_add([NewCollection(SCENARIOS)])
        await person.add_replicas("EDGE-C", files)
        await person.attach(SCENARIOS, [file.did for file in files])

        async def best():
            try:
                return await asks.rank(JOB, [str(SCENARIOS)], group="climate")
            except TwinfraError as error:
                return error if isinstance(error, InvalidRequest) else None

        async def first_is(site):
            answer = await best()
            return answer if getattr(answer, "sites", ())[:1] == (site,) else None

        answer = await wait_for(lambda: first_is("hpc-b"), timeout_s=20, what="hpc-b is best")
        why = answer.body["candidates"][0]["factors"][0]["why"]
        assert why == "12.0 MiB of climate:scenarios come from edge-c at 4.0 MiB/s, 3 s"
        free["edge-c"] = 1
        answer = await wait_for(lambda: first_is("edge-c"), timeout_s=20, what="edge-c is best")
        assert answer.body["candidates"][0]["factors"][0]["value"] == 0
        with pytest.raises(InvalidRequest, match="there is no dataset climate:nothing"):
            await asks.rank(JOB, ["climate:nothing"], group="climate")
    finally:
        for each in (*clients, *tokens.values(), alice):
            await each.close()
        for each in opened:
            await each.__aexit__(None, None, None)
