"""The data side of a federation: issuer, catalogue, accounting, datasets, transfers, notifications
and two edges, all real and over HTTPS, with NATS beside them."""

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO

import pytest

from twinfra.access.issuer.wiring import build as build_issuer
from twinfra.access.person_tokens import sign_in_here
from twinfra.access.tokens import TokenClient
from twinfra.accounting.wiring import build as build_accounting
from twinfra.core.http.client import HttpClient
from twinfra.data.datasets.client import DatasetsClient
from twinfra.data.datasets.wiring import build as build_datasets
from twinfra.data.edge.wiring import build as build_edge
from twinfra.data.notifications.client import NotificationsClient
from twinfra.data.notifications.wiring import build as build_notifications
from twinfra.data.transfers.client import TransfersClient
from twinfra.data.transfers.wiring import build as build_transfers
from twinfra.orchestration.catalogue.client import CatalogueClient, Provider
from twinfra.orchestration.catalogue.wiring import build as build_catalogue
from twinfra.testkit import servers
from twinfra.testkit.serving import serving

SITES = ("edge-c", "hpc-b")
SETTINGS = """
[notifications]
sites_refresh_s = 0.2
sink_pause_s = 0.1
[transfers]
retry_pause_s = 0.05
[edge]
fsync = "none"
shutdown_grace_s = 1.0
settle_s = 0.01
peers_refresh_s = 1.0
"""


@dataclass
class DataFederation:
    """What a test talks to, as alice unless it says otherwise."""

    context: object
    people: dict = field(default_factory=dict)
    clients: list = field(default_factory=list)

    def url(self, service):
        return self.context.url(service)

    def dav(self, site, path):
        return f"{self.url(f'edge@{site}')}/dav{path}"

    async def token(self, service, person="alice"):
        return await self.people[person].token(self.url(service))

    def http(self, service, person="alice"):
        url = self.url(service)
        client = HttpClient(
            url, tls=self.context.tls_client(), token=self.people[person].source(url)
        )
        self.clients.append(client)
        return client

    def datasets(self, person="alice"):
        return DatasetsClient(self.http("datasets", person))

    def transfers(self, person="alice"):
        return TransfersClient(self.http("transfers", person))

    def notifications(self, person="alice"):
        return NotificationsClient(self.http("notifications", person))

    async def put(self, site, path, body):
        await self.http(f"edge@{site}").request("PUT", f"/dav{path}", data=BytesIO(body))

    async def get(self, site, path, expect=(200,)):
        return await self.http(f"edge@{site}").request("GET", f"/dav{path}", expect=expect)

    async def register_sites(self, *, datasets_too=True):
        """Register each site as it registers itself."""
        for site in SITES:
            tokens = TokenClient.from_context(self.context, f"plugin@{site}")
            catalogue, datasets = (
                HttpClient(
                    self.url(name), tls=self.context.tls_client(),
                    token=tokens.for_service(self.url(name)),
                )
                for name in ("catalogue", "datasets")
            )  # fmt: skip
            edge = self.url(f"edge@{site}")
            provider = Provider(name=site, kind="edge", rse=site.upper(), edge_url=edge)
            await CatalogueClient(catalogue).register(provider, ttl_s=3600)
            if datasets_too:
                await DatasetsClient(datasets).register_rse(
                    site.upper(), base_url=edge, attributes={"site": site, "type": "DISK"}
                )
            for each in (catalogue, datasets, tokens):
                await each.close()

    async def close(self):
        for client in self.clients:
            await client.close()
        for person in self.people.values():
            await person.close()


CENTRAL = {
    "issuer": build_issuer, "catalogue": build_catalogue, "accounting": build_accounting,
    "datasets": build_datasets, "transfers": build_transfers,
    "notifications": build_notifications,
}  # fmt: skip


@asynccontextmanager
async def federated(context, *, without=()):
    """Run it all but `without`; gives what a test talks to."""
    async with AsyncExitStack() as stack:
        central = [build(context) for name, build in CENTRAL.items() if name not in without]
        edges = [build_edge(context, site) for site in SITES]
        await stack.enter_async_context(serving(context, *central, *edges))
        made = DataFederation(context)
        stack.push_async_callback(made.close)
        for person in ("alice", "bob"):
            made.people[person] = await sign_in_here(context, person)
        await made.register_sites(datasets_too="datasets" not in without)
        yield made


@pytest.fixture
def federate():
    return federated


@pytest.fixture
def prepared(context, home):
    """A home with settings and a NATS server; the test starts the rest."""
    home.root.mkdir(parents=True, exist_ok=True)
    home.settings_file.write_text(SETTINGS)
    with servers.nats(home.nats, port=home.port("nats")):
        yield context


@pytest.fixture
async def federation(prepared):
    async with federated(prepared) as made:
        yield made
