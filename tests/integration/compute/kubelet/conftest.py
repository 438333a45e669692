"""A site with both interLink hops, and virtual nodes for it on a real control plane."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from dataclasses import dataclass, field
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
from twinfra.testkit.waiting import wait_for

SITE = "hpc-b"
WITHIN_S = 60.0
SLOW_S = 3.0
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
TOLERATION = {"key": "virtual-node.interlink/no-schedule", "operator": "Exists"}


class PlainRuntime:
    """Starts containers as they are; the sites here start nothing anyway."""

    name = "plain"

    def launch(self, spec):
        return Launch((), spec.command, env=dict(spec.env), inner_env=dict(spec.env))


class AnyImage:
    """Has every image but those called missing; those called slow hold the plug-in's answer up."""

    def __init__(self, root):
        self.root = root

    def resolve(self, reference):
        if reference.startswith("missing"):
            raise NotFound(f"no image {reference}")
        if reference.startswith("slow"):
            Event().wait(SLOW_S)
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


class Kubelet:
    """A virtual kubelet as a process of its own, which a test may kill."""

    def __init__(self, context, cluster, node, *more):
        self.context, self.cluster, self.node, self.more = context, cluster, node, more
        self.process = None

    @property
    def log(self):
        return self.context.home.logs / f"{self.node}.log"

    def start(self, *more):
        command = [
            sys.executable, "-m", "twinfra.cli.main", "kubelet", "run",
            "--kubeconfig", str(self.cluster.kubeconfig), "--home", str(self.context.home.root),
            "--node", f"{self.node}={self.context.url(f'interlink@{SITE}')}", *self.more, *more,
        ]  # fmt: skip
        self.context.home.logs.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def kill(self):
        self.process.kill()
        self.process.wait()

    async def stop(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            await asyncio.to_thread(self.process.wait, 30)


@dataclass
class Pods:
    """The pods of a test: made, asked for and waited for with kubectl."""

    cluster: object
    namespace: str
    node: str

    def manifest(self, name="train-0", *, bound=True, container=None, **spec):
        main = {"name": "main", "image": "python:3.12", "command": ["true"], **(container or {})}
        body = {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "automountServiceAccountToken": False,
            "tolerations": [TOLERATION],
            "containers": [main],
            **({"nodeName": self.node} if bound else {}),
            **spec,
        }
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}

    def template(self, *, annotations=None, **spec):
        """Return what a controller makes pods of, which the scheduler binds to the node."""
        body = self.manifest(bound=False, **spec)["spec"]
        body["nodeSelector"] = {"kubernetes.io/hostname": self.node}
        return {
            "metadata": {"labels": {"app": "x"}, "annotations": annotations or {}},
            "spec": body,
        }

    async def create(self, name="train-0", **spec):
        await self.apply(self.manifest(name, **spec))
        return (await self.get(name))["metadata"]["uid"]

    async def apply(self, *objects):
        await asyncio.to_thread(self.cluster.apply, *objects, namespace=self.namespace)

    async def kubectl(self, *args, **more):
        return await asyncio.to_thread(self.cluster.kubectl, "-n", self.namespace, *args, **more)

    async def json(self, *args):
        return json.loads((await self.kubectl(*args, "-o", "json")).stdout)

    async def cluster_json(self, *args):
        return await asyncio.to_thread(self.cluster.kubectl_json, *args)

    async def get(self, name="train-0"):
        done = await self.kubectl("get", "pod", name, "-o", "json", check=False)
        return json.loads(done.stdout) if done.returncode == 0 else None

    async def until(self, name, test, what=""):
        last = {}

        async def reached():
            last["pod"] = pod = await self.get(name)
            return (pod or True) if test(pod) else None

        try:
            return await wait_for(reached, timeout_s=WITHIN_S, what=what or f"pod {name}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {json.dumps(last['pod'])[:3000]}") from error

    async def until_phase(self, name, *phases):
        return await self.until(
            name, lambda pod: pod and pod["status"]["phase"] in phases, f"{name} {phases}"
        )

    async def until_gone(self, name="train-0"):
        await self.until(name, lambda pod: pod is None, f"{name} gone")

    async def until_event(self, name, reason, text=""):
        async def told():
            found = await self.json("get", "events")
            return [
                entry["message"]
                for entry in found["items"]
                if entry["involvedObject"]["name"] == name
                and entry["reason"] == reason
                and text in entry["message"]
            ]

        return await wait_for(told, timeout_s=WITHIN_S, what=f"event {reason} of {name}")


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
async def house(context, issuer, settings, serving, tmp_path, backend):
    """The site over its back end; `end_plugin` and `start_plugin` take it away and back."""
    ground = Ground(PlainRuntime(), isolated=True, network="none")
    foundation = SiteFoundation(backend, ground, AnyImage(tmp_path / "rootfs"))
    made = SiteHouse(context, issuer, foundation.site)

    async def start_plugin():
        made.end_plugin = await serving(build_plugin(context, SITE, foundation))

    async def start_api():
        made.end_api = await serving(build_api(context, SITE))

    made.start_plugin, made.start_api = start_plugin, start_api
    await start_plugin()
    await start_api()
    yield made
    for client in made.clients:
        await client.close()


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
    ground, isolation = choose_ground(compute)
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
