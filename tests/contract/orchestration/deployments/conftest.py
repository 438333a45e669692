"""The deployments API over a socket, on fake neighbours; its work is turned by hand."""

import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from twinfra.core.http.client import HttpClient
from twinfra.core.service import Listener, Service
from twinfra.orchestration.deployments.api.app import Doors, build_app
from twinfra.orchestration.deployments.api.proxy import ServiceProxy
from twinfra.orchestration.deployments.client import DeploymentsClient
from twinfra.orchestration.deployments.news import News
from twinfra.orchestration.deployments.traffic import ServiceTraffic
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.orchestra import Orchestra
from twinfra.testkit.serving import serving

ANY_STATUS = tuple(range(200, 600))
TEMPLATE = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  inputs:
    image: {type: string, default: "climate:1"}
    years: {type: integer, default: 10, constraints: [{in_range: [1, 100]}]}
  node_templates:
    train:
      type: tosca.nodes.twinfra.Job
      properties:
        image: {get_input: image}
        inputs: ["climate:scenarios"]
        outputs: ["climate:model"]
"""
SERVICE = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  node_templates:
    predict:
      type: tosca.nodes.twinfra.Service
      properties: {image: "climate:1", port: 8080, readiness_path: /ready}
"""


class Orchestrator:
    """The API and the proxy at a port, with everything behind them in memory."""

    def __init__(self, context, issuer, world, news):
        self.context, self.issuer, self.world, self.news = context, issuer, world, news
        self.url = context.url("deployments")
        self._clients = []

    def http(self, token=None):
        """Return an HTTP client that sends `token`, a good one of alice's by default."""
        given = self.token() if token is None else token

        async def source():
            return given

        made = HttpClient(self.url, tls=self.context.tls_client(), token=source if given else None)
        self._clients.append(made)
        return made

    def client(self, token=None):
        return DeploymentsClient(self.http(token))

    def token(self, sub="alice", groups=("climate",), **more):
        return self.issuer.token(sub, groups, aud=self.url, **more)

    async def ask(self, method, path, token=None, **more):
        """Send a request whatever comes of it."""
        return await self.http(token).request(method, path, expect=ANY_STATUS, **more)

    async def close(self):
        for client in self._clients:
            await client.close()

    @asynccontextmanager
    async def pod(self, uid, app):
        """Let a pod's port be answered by an aiohttp application."""
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(self.world.driver.door(uid))).start()
        try:
            yield
        finally:
            await runner.cleanup()

    async def served(self):
        """Deploy the service; return its node's id and uid once its pod was made."""
        made = await self.client().create(SERVICE)
        await self.world.play()
        (uid,) = self.world.driver.site("hpc-b").pods
        (node,) = await self.client().resources(made["uuid"])
        return made["uuid"], node["uuid"], uid


@pytest.fixture
def doors_folder():
    """A folder with a short path, as Unix sockets want."""
    with tempfile.TemporaryDirectory(prefix="twinfra-") as folder:
        yield Path(folder)


@pytest.fixture
async def orchestrator(context, sqlite, doors_folder):
    context.home.root.mkdir(parents=True, exist_ok=True)
    with TestIssuer.for_home(context.home) as issuer:
        world = await Orchestra.tuned(sqlite, base_url=context.url("deployments"))
        world.driver.doors = doors_folder
        news, settings = News(), world.kit.settings
        traffic = ServiceTraffic(world.driver, world.clock, most=settings.proxy_requests)
        traffic.use(world.store)
        world.use_traffic(traffic)
        world.store.tell(news.tell)
        guard = issuer.authenticator(context.url("deployments"))
        api = build_app(
            world.kit, world.deployments, guard, news, endpoints={"rucio_url": "https://r.example"}
        )
        proxy = ServiceProxy(traffic, guard, timeout_s=5)
        doors = Doors(api, proxy, body_limit_bytes=4 << 20)
        port = context.home.port("deployments")
        service = Service("deployments", [Listener(doors, port)], stop=[traffic.close])
        made = Orchestrator(context, issuer, world, news)
        async with serving(context, service):
            yield made
            await made.close()


@pytest.fixture
def template():
    return TEMPLATE
