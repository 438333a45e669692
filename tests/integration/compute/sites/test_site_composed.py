"""What ``twinfra site run`` runs: all services of a site, registered at the central ones."""

import pytest

from twinfra.access.issuer.wiring import build as build_issuer
from twinfra.access.person_tokens import sign_in_here
from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.sites.wiring import build
from twinfra.core.http.client import HttpClient
from twinfra.data.datasets.client import DatasetsClient
from twinfra.data.datasets.wiring import build as build_datasets
from twinfra.orchestration.catalogue.client import CatalogueClient
from twinfra.orchestration.catalogue.wiring import build as build_catalogue
from twinfra.testkit import servers
from twinfra.testkit.serving import serving
from twinfra.testkit.waiting import wait_for

SETTINGS = """
[sites.hpc-b.compute]
cpus = 3
slots = 2
gpus = { "nvidia.com/gpu" = 1 }
[sites.hpc-b.provider]
kind = "hpc"
heartbeat_s = 0.2
groups = ["climate"]
location = { country = "SI", lat = 46.0, lon = 15.6 }
"""

pytestmark = pytest.mark.slow


@pytest.fixture
async def alice(context):
    """The central services and the site, all real; gives alice's way to call them."""
    context.home.root.mkdir(exist_ok=True)
    context.home.settings_file.write_text(SETTINGS)
    clients = []
    with servers.nats(context.home.nats, port=context.home.port("nats")):
        central = [build_issuer(context), build_catalogue(context), build_datasets(context)]
        async with serving(context, *central):
            person = await sign_in_here(context, "alice")

            def http(service):
                url = context.url(service)
                client = HttpClient(url, tls=context.tls_client(), token=person.source(url))
                clients.append(client)
                return client

            async with serving(context, *build(context, "hpc-b")):
                yield http
            for client in clients:
                await client.close()
            await person.close()


async def test_a_site_registers_itself_its_storage_and_what_it_really_can(alice, context):
    catalogue = CatalogueClient(alice("catalogue"))

    async def registered():
        return await catalogue.providers()

    (listed,) = await wait_for(registered, timeout_s=20, what="the registration")
    provider = listed.provider
    assert (provider.name, provider.kind, provider.rse) == ("hpc-b", "hpc", "HPC-B")
    assert provider.interlink_url == context.url("interlink@hpc-b")
    assert provider.resources.cpu == 3
    assert provider.policies.groups == ("climate",)
    ping = await InterlinkClient(alice("interlink@hpc-b")).ping()
    assert ("isolated" in provider.capabilities) == ping.runtime["isolated"]
    assert {"batch", "gpu"} <= set(provider.capabilities)
    assert (ping.cpus, ping.free_slots, ping.queue_length) == (3, 2, 0)

    async def storage():
        return "HPC-B" in await DatasetsClient(alice("datasets")).list_rses()

    await wait_for(storage, timeout_s=20, what="the storage element")
    before = listed.etag
    assert (await catalogue.provider("hpc-b")).etag == before
