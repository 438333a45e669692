"""A site with its real neighbours: issuer, accounting, catalogue, datasets, transfers, edges."""

from contextlib import AsyncExitStack, asynccontextmanager

from twinfra.access.issuer.wiring import build as build_issuer
from twinfra.access.person_tokens import sign_in_here
from twinfra.access.tokens import TokenClient
from twinfra.accounting.wiring import build as build_accounting
from twinfra.compute.interlink.client import PodCreateRequest
from twinfra.core.http.client import HttpClient
from twinfra.data.datasets.client import DatasetsClient
from twinfra.data.datasets.wiring import build as build_datasets
from twinfra.data.edge.wiring import build as build_edge
from twinfra.data.transfers.wiring import build as build_transfers
from twinfra.orchestration.catalogue.client import CatalogueClient, Provider
from twinfra.orchestration.catalogue.wiring import build as build_catalogue
from twinfra.testkit import servers
from twinfra.testkit.serving import serving

from .site_process import SITE, SiteProcess

OTHER = "edge-c"
DATA_SETTINGS = f"""
[edge]
fsync = "none"
settle_s = 0.01
peers_refresh_s = 1.0
[transfers]
retry_pause_s = 0.05
[sites.{SITE}.plugin]
data_fallback_s = 600
status_fallback_s = 600
"""
CENTRAL = (build_issuer, build_accounting, build_catalogue, build_datasets, build_transfers)


class Federation:
    """Real neighbours of one site, and alice."""

    def __init__(self, context, site, alice):
        self.context, self.site, self.alice = context, site, alice
        self.clients = []

    def http(self, service, source=None):
        url = self.context.url(service)
        client = HttpClient(
            url, tls=self.context.tls_client(), token=source or self.alice.source(url)
        )
        self.clients.append(client)
        return client

    @property
    def datasets(self):
        return DatasetsClient(self.http("datasets"))

    @property
    def pods(self):
        return self.site.client(self.alice.source(self.context.url(f"interlink@{SITE}")))

    async def put(self, path, body, site=SITE):
        await self.http(f"edge@{site}").request("PUT", f"/dav{path}", data=body)

    async def get(self, path):
        return (await self.http(f"edge@{SITE}").request("GET", f"/dav{path}")).body

    async def register_rse(self, rse, site, url):
        service = TokenClient.from_context(self.context, f"plugin@{site}")
        target = self.context.url("datasets")
        http = self.http("datasets", service.for_service(target))
        await DatasetsClient(http).register_rse(
            rse, base_url=url, attributes={"site": site, "type": "DISK"}
        )
        await service.close()

    async def register_edge(self, site):
        """Register a site's edge and its storage, as the site itself does."""
        url = self.context.url(f"edge@{site}")
        await self.register_rse(site.upper(), site, url)
        service = TokenClient.from_context(self.context, f"plugin@{site}")
        target = self.context.url("catalogue")
        provider = Provider(name=site, kind="edge", rse=site.upper(), edge_url=url)
        http = self.http("catalogue", service.for_service(target))
        await CatalogueClient(http).register(provider, ttl_s=3600)
        await service.close()

    async def create(self, pod):
        await self.pods.create(PodCreateRequest(pod))
        return pod["metadata"]["uid"]


@asynccontextmanager
async def federated(context):
    """Run the central services, two edges and the site's process; settings are there already."""
    with context.home.settings_file.open("a") as file:
        file.write(DATA_SETTINGS)
    async with AsyncExitStack() as stack:
        stack.enter_context(servers.nats(context.home.nats, port=context.home.port("nats")))
        central = [build(context) for build in CENTRAL]
        edges = [build_edge(context, site) for site in (SITE, OTHER)]
        await stack.enter_async_context(serving(context, *central, *edges))
        alice = await sign_in_here(context, "alice")
        stack.push_async_callback(alice.close)
        site = SiteProcess(context)
        made = Federation(context, site, alice)
        for edge in (SITE, OTHER):
            await made.register_edge(edge)
        await made.register_rse("FAR-AWAY", "far-away", "https://localhost:9")
        await site.start()
        stack.push_async_callback(site.close)
        yield made
        for client in made.clients:
            await client.close()
