"""A site with real keepers of real containers, its services in a process that a test may kill."""

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from twinfra.access.issuer.wiring import build as build_issuer
from twinfra.access.person_tokens import sign_in_here
from twinfra.access.tokens import TokenClient
from twinfra.accounting.wiring import build as build_accounting
from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.interlink.client import InterlinkClient, PodCreateRequest
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.data.datasets.client import DatasetsClient
from twinfra.data.datasets.wiring import build as build_datasets
from twinfra.data.edge.wiring import build as build_edge
from twinfra.data.transfers.wiring import build as build_transfers
from twinfra.orchestration.catalogue.client import CatalogueClient, Provider
from twinfra.orchestration.catalogue.wiring import build as build_catalogue
from twinfra.testkit import servers
from twinfra.testkit.images import BUSYBOX, busybox_image
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.ports import listening
from twinfra.testkit.serving import serving
from twinfra.testkit.waiting import wait_for

SITE = "hpc-b"
OTHER = "edge-c"
PROGRAM = Path(__file__).with_name("plugin_process.py")


class SiteProcess:
    """The process of a site's plug-in and API server."""

    command = (sys.executable, PROGRAM)

    def __init__(self, context):
        self.context = context
        self.tokens = TokenClient.from_context(context, "deployments")
        self.process = None
        self.clients = []

    @property
    def jobs(self):
        return self.context.home.site(SITE).jobs

    async def start(self):
        log = self.context.home.logs / "site.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - a fork is quick, and is waited for
                [*self.command, self.context.home.root],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            )  # fmt: skip
        ports = [self.context.home.port(f"{kind}@{SITE}") for kind in ("plugin", "interlink")]
        await wait_for(
            lambda: self.process.poll() is not None or all(listening(port) for port in ports),
            timeout_s=120, what="the site",
        )  # fmt: skip
        assert self.process.poll() is None, log.read_text()[-3000:]

    def kill(self):
        self.process.kill()
        self.process.wait()

    async def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        await asyncio.to_thread(self.process.wait, 60)

    def client(self, source=None):
        url = self.context.url(f"interlink@{SITE}")
        token = source or self.tokens.for_service(url)
        http = HttpClient(url, tls=self.context.tls_client(), token=token)
        self.clients.append(http)
        return InterlinkClient(http)

    async def close(self):
        """End the process, its jobs and all connections."""
        self.kill()
        for client in self.clients:
            await client.close()
        await self.tokens.close()
        for folder in self.jobs.iterdir():
            if (folder / "attempts").exists():
                await KeeperHandle(folder).prove_gone()

    def keeper(self, uid):
        return KeeperHandle(self.jobs / uid)

    def kill_keeper(self, uid):
        os.kill(self.keeper(uid).identity().pid, signal.SIGKILL)

    async def until(self, pod, *phases, timeout_s=30.0, attempt=1):
        client, found = self.client(), []

        async def reached():
            found[:] = await client.status([pod])
            return [r for r in found if r.phase in phases and _attempt(r) >= attempt]

        try:
            return (await wait_for(reached, timeout_s=timeout_s, what=f"phase {phases}"))[0]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{found}\n{self.story()}") from None

    def story(self):
        """What the site's processes wrote last: its own log, and the states of its jobs."""
        states = [path.read_text() for path in self.jobs.glob("*/state.json")]
        return "\n".join([(self.context.home.logs / "site.log").read_text()[-5000:], *states])

    def output(self, uid, container="main", attempt=1):
        folder = self.jobs / uid / "attempts" / str(attempt) / "logs" / container
        return b"".join(path.read_bytes() for path in sorted(folder.glob("*.log")))


def _attempt(report):
    return report.containers[0].restarts + 1


def shell(script, *, uid=None, restart="Never", **more):
    """Return a pod of one busybox container."""
    container = {"name": "main", "image": BUSYBOX, "command": ["sh", "-c", script]}
    container |= {"resources": {"limits": {"cpu": "500m", "memory": "64Mi"}}}
    container |= more.pop("container", {})
    return {
        "metadata": {
            "name": "job-0",
            "namespace": "climate",
            "uid": uid or new_uuid(),
            "annotations": more.pop("annotations", {}),
        },
        "spec": {
            "restartPolicy": restart,
            "terminationGracePeriodSeconds": 1,
            "containers": [container],
            **more,
        },
        "status": {"phase": "Pending"},
    }


@pytest.fixture(scope="session")
def layout(tmp_path_factory):
    """The image of all tests here, built once."""
    folder = tmp_path_factory.mktemp("images")
    work = folder / "busybox"
    work.mkdir()
    busybox_image(folder / "layout", work)
    return folder / "layout"


@pytest.fixture
def settings(context, layout):
    """The site's settings; a test may write further ones below."""
    context.home.root.mkdir(exist_ok=True)
    context.home.settings_file.write_text(f'[sites.{SITE}.compute]\nimages = ["{layout}"]\n')


@pytest.fixture
def issuer(context):
    with TestIssuer(tls=context.tls_server(), port=context.home.port("issuer")) as made:
        yield made


@pytest.fixture
async def site(context, issuer, settings):
    made = SiteProcess(context)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
def make_pod():
    return shell


@pytest.fixture
def site_class():
    return SiteProcess


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


@pytest.fixture
async def federation(context, settings):
    """The central services, transfers too, and two edges, all real; the site is a process."""
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
