"""A site with both interLink hops, and virtual nodes for it on a real control plane."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field, replace
from threading import Event

import pytest

from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.containers.images.model import ImageConfig, UnpackedImage
from twinfra.compute.containers.images.store import ImageStore
from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.interlink.plugin.store import PodStore
from twinfra.compute.interlink.pods.plan import Ground
from twinfra.compute.interlink.wiring import SiteFoundation, build_api, build_plugin
from twinfra.compute.sites.backends import build_site
from twinfra.compute.sites.runtime import choose_ground
from twinfra.compute.sites.settings import ComputeSettings
from twinfra.core.errors import NotFound
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.core.service import Stop, run_services
from twinfra.testkit.fake_site import FakeSite
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.ports import listening
from twinfra.testkit.recorder import Recorder
from twinfra.testkit.waiting import wait_for

from .virtual_node import SITE, WITHIN_S, Kubelet, Pods

SLOW_MOST_S = 60.0
SETTINGS = """
[kubelet]
lease_s = 4
ping_s = 0.5
ping_failures = 1
poll_s = 0.3
lost_s = 1.0
doubt_s = 0.5
reconcile_s = 2.0
missing_s = [0.3, 1.0]
[sites.hpc-b.plugin]
status_fallback_s = 1.0
"""


class PlainRuntime:
    """Starts containers as they are; the sites here start nothing anyway."""

    name = "plain"

    def launch(self, spec):
        return Launch((), spec.command, env=dict(spec.env), inner_env=dict(spec.env))


class AnyImage:
    """Has every image but those called missing; those called slow hold the plug-in's answer up."""

    def __init__(self, root, go_on):
        self.root, self.go_on = root, go_on

    def resolve(self, reference):
        if reference.startswith("missing"):
            raise NotFound(f"no image {reference}")
        if reference.startswith("slow"):
            self.go_on.wait(SLOW_MOST_S)
        return "sha256:" + "0" * 64

    def ensure(self, reference, credentials=None, *, policy=""):
        digest = self.resolve(reference)
        return UnpackedImage(reference, digest, self.root, ImageConfig(cmd=("/bin/true",)))


@dataclass
class SiteHouse:
    """The site, its doors, and how a test speaks to it."""

    context: object
    issuer: TestIssuer
    site: FakeSite
    clients: list[HttpClient] = field(default_factory=list)

    @property
    def api(self):
        return self.context.url(f"interlink@{SITE}")

    def client(self):
        async def source():
            return self.issuer.service_token("deployments", aud=self.api)

        made = HttpClient(self.api, tls=self.context.tls_client(), token=source)
        self.clients.append(made)
        return InterlinkClient(made)

    def job(self, uid):
        return next((job for job in self.site.jobs.values() if job.spec.plan.uid == uid), None)

    async def until(self, test):
        return await wait_for(test, timeout_s=WITHIN_S, what="the site")

    async def kept(self, uid):
        """Return the pod as the plug-in keeps it."""
        database = self.context.database("plugin", folder=self.context.home.site(SITE).db)
        try:
            return await PodStore(database).get(uid)
        finally:
            await database.close()

    async def until_job(self, uid):
        return await wait_for(lambda: self.job(uid), timeout_s=WITHIN_S, what=f"the job of {uid}")


@pytest.fixture
async def serving(context):
    """Run services until the test ends."""
    async with contextlib.AsyncExitStack() as stack:

        async def run(*services):
            stop = Stop()
            task = asyncio.create_task(run_services(context, services, stop=stop))

            async def end():
                stop.now.set()
                await task

            stack.push_async_callback(end)
            ports = [door.port for service in services for door in service.listeners]
            await wait_for(
                lambda: task.done() or all(listening(port) for port in ports),
                timeout_s=30, what="the doors",
            )  # fmt: skip
            if task.done():
                await task
            return end

        yield run


@pytest.fixture
def issuer(context):
    with TestIssuer(tls=context.tls_server(), port=context.home.port("issuer")) as made:
        yield made


@pytest.fixture
def settings(context):
    context.home.root.mkdir(exist_ok=True)
    context.home.settings_file.write_text(SETTINGS)


@pytest.fixture
def backend():
    """The site's back end; a test file may have another."""
    return FakeSite()


@pytest.fixture
def recorder():
    """What the site's interLink API is asked; a test file may have another."""
    return Recorder()


def recorded(recorder, service):
    doors = [replace(door, app=recorder.before(door.app)) for door in service.listeners]
    return replace(service, listeners=doors)


@pytest.fixture
def slow_images():
    """Set: images called slow hold nothing up any more."""
    go_on = Event()
    yield go_on
    go_on.set()


@pytest.fixture
def founded(tmp_path, slow_images):
    """Return what a site over a back end stands on."""

    def found(backend):
        ground = Ground(PlainRuntime(), isolated=True, network="none")
        return SiteFoundation(backend, ground, AnyImage(tmp_path / "rootfs", slow_images))

    return found


@pytest.fixture
async def house(context, issuer, settings, serving, founded, backend, recorder):
    """The site over its back end; `end_plugin` and `start_plugin` take it away and back."""
    foundation = founded(backend)
    made = SiteHouse(context, issuer, foundation.site)

    async def start_plugin():
        made.end_plugin = await serving(build_plugin(context, SITE, foundation))

    async def start_api():
        made.end_api = await serving(recorded(recorder, build_api(context, SITE)))

    made.start_plugin, made.start_api = start_plugin, start_api
    await start_plugin()
    await start_api()
    yield made
    for client in made.clients:
        await client.close()


@pytest.fixture
async def more_sites(context, house, serving, tmp_path):
    """Make further sites beside `house`, each over its back end; gives their interLink APIs."""

    async def make(name, backend):
        ground = Ground(PlainRuntime(), isolated=True, network="none")
        foundation = SiteFoundation(backend, ground, AnyImage(tmp_path / "rootfs", Event()))
        await serving(build_plugin(context, name, foundation))
        await serving(build_api(context, name))
        return context.url(f"interlink@{name}")

    return make


@pytest.fixture
async def kubelets(context, control_plane):
    """Make virtual kubelets, not yet started; they and their nodes are gone after the test."""
    made = []

    def make(node, *more):
        made.append(Kubelet(context, control_plane, node, *more))
        return made[-1]

    yield make
    for each in made:
        await each.stop()
        nodes = [word.partition("=")[0] for word in (each.node, *each.more[1::2])]
        control_plane.kubectl("delete", "node", *nodes, "--ignore-not-found", check=False)


@pytest.fixture
def door(context, settings, control_plane, node_name):
    """A certificate for the node's own API that the control plane trusts."""
    shown = control_plane.kubelet_serving(node_name)
    with context.home.settings_file.open("a") as file:
        file.write(
            f'[kubelet-api]\ncertificate = "files"\n'
            f'certificate_file = "{shown.certfile}"\nkey_file = "{shown.keyfile}"\n'
        )


@pytest.fixture
async def local_house(context, issuer, settings, door, serving, layout):
    """The site over real keepers, in place of `house`; gives a way to its interLink API."""
    with context.home.settings_file.open("a") as file:
        file.write(f'[sites.{SITE}.compute]\nimages = ["{layout}"]\n')
    compute = context.settings(ComputeSettings, SITE)
    ground, isolation = choose_ground(compute, context.home.site(SITE).jobs)
    images = ImageStore(compute.images, context.home.site(SITE).images)
    backend = build_site(context, SITE)
    made = SiteHouse(context, issuer, backend)
    foundation = SiteFoundation(backend, ground, images, isolation)
    made.end_plugin = await serving(build_plugin(context, SITE, foundation))
    made.end_api = await serving(build_api(context, SITE))
    yield made.client()
    for client in made.clients:
        await client.close()
    await made.end_api()
    await made.end_plugin()  # first, for it starts lost pods again
    for folder in context.home.site(SITE).jobs.glob("*/attempts"):
        await KeeperHandle(folder.parent).prove_gone()


@pytest.fixture
def node_name():
    return f"hpc-{new_uuid()[-8:]}"


@pytest.fixture
async def kubelet(context, house, control_plane, node_name):
    """A virtual kubelet, not yet started."""
    made = Kubelet(context, control_plane, node_name)
    yield made
    await made.stop()
    control_plane.kubectl("delete", "node", node_name, "--ignore-not-found", check=False)


@pytest.fixture
async def node(kubelet, control_plane, node_name):
    """A started virtual node that is ready."""
    kubelet.start()
    await until_ready(control_plane, node_name)
    return node_name


@pytest.fixture
def pods(control_plane, kube_namespace, node_name):
    return Pods(control_plane, kube_namespace, node_name)


def condition(body, kind):
    found = body.get("status", {}).get("conditions", [])
    return next((entry for entry in found if entry["type"] == kind), {})


async def until_ready(cluster, name, status="True"):
    """Return the node when its condition Ready is as wanted."""

    async def reached():
        done = await asyncio.to_thread(
            cluster.kubectl, "get", "node", name, "-o", "json", check=False
        )
        if done.returncode:
            return None
        body = json.loads(done.stdout)
        return body if condition(body, "Ready").get("status") == status else None

    return await wait_for(reached, timeout_s=WITHIN_S, what=f"node {name} Ready={status}")


@pytest.fixture
def ready():
    return until_ready


@pytest.fixture
def condition_of():
    return condition
