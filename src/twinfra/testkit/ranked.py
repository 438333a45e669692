"""A federation whose sites only show what is free; for tests of ranking and of who follows it.

The issuer, catalogue, monitoring, datasets service and ranking are the real ones.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from twinfra.access.issuer import wiring as issuer
from twinfra.access.person_tokens import sign_in_here
from twinfra.access.tokens import TokenClient
from twinfra.core.http.client import HttpClient, TokenSource
from twinfra.core.service import Context
from twinfra.data.datasets import wiring as datasets
from twinfra.data.datasets.client import DatasetsClient, Did, FileSpec, NewCollection
from twinfra.orchestration.catalogue import wiring as catalogue
from twinfra.orchestration.catalogue.client import CatalogueClient, Provider
from twinfra.orchestration.catalogue.model import Resources
from twinfra.orchestration.monitoring import wiring as monitoring
from twinfra.orchestration.ranking import wiring as ranking
from twinfra.orchestration.ranking.client import RankingClient
from twinfra.testkit import servers
from twinfra.testkit.ports import LOOPBACK
from twinfra.testkit.serving import serving

MIB = 1 << 20
NAMES = ("issuer", "catalogue", "monitoring", "datasets", "ranking")
LINK_BYTES_PER_S = 4 * MIB
SETTINGS = "[monitoring]\nprobe_interval_s = 0.2\ncatalogue_interval_s = 0.2\n"


@dataclass
class RankedFederation:
    """A running federation.

    Attributes:
        context: of its home.
        free: cores free at each site; a test may change them.
        person: the datasets service, asked as a person.
        asks: ranking, asked as that person.
    """

    context: Context
    free: dict[str, float]
    stack: AsyncExitStack = field(repr=False)
    person: DatasetsClient = field(init=False)
    asks: RankingClient = field(init=False)

    async def dataset(self, did: Did, rse: str, *names: str) -> None:
        """Make a dataset of files of 6 MiB each, which are at one storage element."""
        files = [FileSpec(Did(did.scope, name), 6 * MIB, "00000001") for name in names]
        await self.person.dids_add([NewCollection(did)])
        await self.person.add_replicas(rse, files)
        await self.person.attach(did, [file.did for file in files])

    async def sign_in(self) -> None:
        """Let a person ask."""
        alice = await sign_in_here(self.context, "alice")
        self.stack.push_async_callback(alice.close)
        self.person = DatasetsClient(self._http("datasets", alice.source(self._url("datasets"))))
        self.asks = RankingClient(self._http("ranking", alice.source(self._url("ranking"))))

    async def add_site(self, site: str, cpu: float) -> None:
        """Open a site's doors and register it and its storage, as the site itself would."""
        token = TokenClient.from_context(self.context, f"plugin@{site}")
        self.stack.push_async_callback(token.close)
        url = await self.stack.enter_async_context(_doors(self.context, site, self.free))
        provider = Provider(
            site,
            "hpc",
            site.upper(),
            url,
            url,
            resources=Resources(cpu, 8 << 30),
            link_bandwidth_bytes_per_s=dict.fromkeys(self.free, LINK_BYTES_PER_S),
        )
        source = token.for_service(self._url("catalogue"))
        await CatalogueClient(self._http("catalogue", source)).register(provider)
        storage = DatasetsClient(self._http("datasets", token.for_service(self._url("datasets"))))
        await storage.register_rse(site.upper(), base_url=url, attributes={"site": site})

    def _url(self, name: str) -> str:
        return self.context.url(name)

    def _http(self, name: str, source: TokenSource) -> HttpClient:
        made = HttpClient(self._url(name), tls=self.context.tls_client(), token=source)
        self.stack.push_async_callback(made.close)
        return made


@asynccontextmanager
async def ranked_federation(
    context: Context, folder: Path, cpus: Mapping[str, float], free: Mapping[str, float]
) -> AsyncIterator[RankedFederation]:
    """Run a federation until the block ends.

    Args:
        context: of its home; the settings are written there.
        folder: an existing one, for the bus.
        cpus: cores of each site.
        free: of these, at first.
    """
    context.home.settings_file.parent.mkdir(parents=True, exist_ok=True)
    with context.home.settings_file.open("a") as file:
        file.write(SETTINGS)
    for name in (*NAMES, *(f"interlink@{site}" for site in cpus)):
        context.home.port(name)
    with servers.nats(folder, port=context.home.port("nats")):
        rooms = (issuer, catalogue, monitoring, datasets, ranking)
        async with (
            serving(context, *(room.build(context) for room in rooms)),
            AsyncExitStack() as stack,
        ):
            made = RankedFederation(context, dict(free), stack)
            await made.sign_in()
            for site, cpu in cpus.items():
                await made.add_site(site, cpu)
            yield made


@asynccontextmanager
async def _doors(context: Context, site: str, free: Mapping[str, float]) -> AsyncIterator[str]:
    """Answer pings and health of a site that only shows what is free; gives its base URL."""

    async def ping(request: web.Request) -> web.Response:
        body = {"status": "ok", "free": {"cpu": free[site], "memory": 8 << 30}, "queue": {}}
        return web.json_response(body if request.headers.get("Authorization") else {})

    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    app = web.Application()
    app.router.add_post("/pinglink", ping)
    app.router.add_get("/healthz", health)
    runner = web.AppRunner(app)
    await runner.setup()
    port = context.home.port(f"interlink@{site}")
    tls = context.tls_server().context()
    await web.TCPSite(runner, LOOPBACK, port, ssl_context=tls).start()
    try:
        yield f"https://localhost:{port}"
    finally:
        await runner.cleanup()
