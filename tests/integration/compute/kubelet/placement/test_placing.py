"""Pods that wait at the gate get a node, or a reason; pods at a site that fails leave it."""

import asyncio
import contextlib
import json

import pytest

from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.placement.eviction import Eviction
from twinfra.compute.kubelet.placement.gate import Gate
from twinfra.compute.kubelet.placement.images import RegistryImages
from twinfra.compute.kubelet.placement.nodes import Nodes
from twinfra.compute.kubelet.placement.ports import Ranked
from twinfra.compute.kubelet.placement.settings import PlacementSettings
from twinfra.core.errors import Unavailable
from twinfra.core.ids import new_uuid
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.testkit.images import image_for
from twinfra.testkit.ports import LOOPBACK
from twinfra.testkit.registry import registry
from twinfra.testkit.waiting import wait_for

from .conftest import CONTAINER, WITHIN_S, cronjob, job, pod, scaled, set_ready

pytestmark = [pytest.mark.real("Kubernetes"), pytest.mark.timeout(600)]

SETTINGS = PlacementSettings(again_s=(0.5, 2.0), failed_s=1.0, look_s=0.5)


class FixedRanker:
    """Ranks as it is told."""

    def __init__(self):
        self.answer = Ranked(())
        self.asked = []

    async def rank(self, wish, inputs, *, group):
        self.asked.append((tuple(inputs), group))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


class SiteOfJobs:
    """A site that has jobs until it is asked to end them and can."""

    def __init__(self):
        self.jobs, self.up, self.slow = set(), True, False
        self.deleted = []

    def _check(self):
        if not self.up:
            raise Unavailable("the site is away")

    async def delete(self, pod, *, token=None):
        self._check()
        self.deleted.append(pod["metadata"]["uid"])
        if not self.slow:
            self.jobs.discard(pod["metadata"]["uid"])

    async def status(self, pods, *, token=None):
        self._check()
        uids = [each["metadata"]["uid"] for each in pods]
        return [Report(uid) for uid in uids if uid in self.jobs]


class Report:
    """What is asked of a report here."""

    def __init__(self, uid):
        self.uid = uid


@pytest.fixture
async def running(installed):
    """Run loops until the test ends, as the installed account: with its rights and no others."""
    token = installed.token("twinfra-system", "twinfra-kubelet")
    kubeconfig = installed.token_kubeconfig(f"sa-{new_uuid()[-8:]}", token)
    client = KubeClient.from_kubeconfig(kubeconfig)
    recorder = EventRecorder(client, SYSTEM_CLOCK, per_s=100)
    tasks = [asyncio.create_task(recorder.run())]

    def run(make):
        tasks.append(asyncio.create_task(make(client, recorder).run()))

    yield run
    for task in tasks:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    await client.close()


@pytest.fixture
def gate(running):
    """Start the gate's controller."""

    def start(ranker=None, **more):
        settings = SETTINGS.model_copy(update=more)

        def make(client, recorder):
            nodes = Nodes(client, SYSTEM_CLOCK)
            images = RegistryImages(client, settings, SYSTEM_CLOCK) if more else None
            return Gate(client, recorder, nodes, ranker, settings, SYSTEM_CLOCK, images)

        running(make)

    return start


class World:
    """The namespace's objects, asked for with kubectl."""

    def __init__(self, cluster, namespace):
        self.cluster, self.namespace = cluster, namespace

    async def kubectl(self, *args, **more):
        return await asyncio.to_thread(self.cluster.kubectl, "-n", self.namespace, *args, **more)

    async def apply(self, *bodies):
        await asyncio.to_thread(self.cluster.apply, *bodies, namespace=self.namespace)

    async def pods(self):
        return json.loads((await self.kubectl("get", "pods", "-o", "json")).stdout)["items"]

    async def pod(self, name):
        return next(each for each in await self.pods() if each["metadata"]["name"] == name)

    async def until(self, probe, what):
        return await wait_for(probe, timeout_s=WITHIN_S, what=what)

    async def until_bound(self, count, nodes):
        async def bound():
            found = await self.pods()
            there = [each["spec"].get("nodeName") for each in found]
            return found if len(there) == count and set(there) <= set(nodes) else None

        return await self.until(bound, f"{count} pods on {nodes}")

    async def until_where(self, wanted):
        async def there():
            found = {each["metadata"]["name"]: each for each in await self.pods()}
            nodes = {name: each["spec"].get("nodeName") for name, each in found.items()}
            return found if nodes == wanted else None

        return await self.until(there, f"pods at {wanted}")

    async def until_replaced(self, old, node):
        async def replaced():
            found = {each["metadata"]["uid"]: each for each in await self.pods()}
            gone = found.pop(old["metadata"]["uid"], old)
            return gone["status"]["phase"] == "Failed" and any(
                each["spec"].get("nodeName") == node for each in found.values()
            )

        await self.until(replaced, f"the new pod at {node}")

    async def until_event(self, reason, text):
        async def told():
            found = json.loads((await self.kubectl("get", "events", "-o", "json")).stdout)["items"]
            said = [each["message"] for each in found if each["reason"] == reason]
            return next((each for each in said if text in each), None)

        return await self.until(told, f"event {reason}: {text}")


@pytest.fixture
def world(installed, offload):
    return World(installed, offload)


@pytest.mark.story("A third party's manifest or chart needs nothing")
async def test_unchanged_workloads_land_on_virtual_nodes(world, gate, virtual_node):
    node = virtual_node()
    gate()
    await world.apply(
        pod("a-pod"),
        job("a-job"),
        cronjob("a-cronjob"),
        scaled("Deployment", "a-deployment"),
        scaled("StatefulSet", "a-set"),
    )
    await world.kubectl("create", "job", "now", "--from=cronjob/a-cronjob")
    await world.until_bound(5, {node})
    assert "cores free" in await world.until_event("Placed", f"goes to {node}")


@pytest.mark.story("its events say why")
async def test_a_pod_that_fits_nowhere_is_told_why_and_placed_later(world, gate, virtual_node):
    small = virtual_node(cpu="1")
    gate()
    big = {**CONTAINER, "resources": {"requests": {"cpu": "2"}}}
    await world.apply(pod("big", containers=[big]))
    await world.until_event("PlacementFailed", f"{small} has 1 cpu free, the pod needs 2")
    assert "nodeName" not in (await world.pod("big"))["spec"]
    large = virtual_node()
    await world.until_bound(1, {large})


@pytest.mark.story("a pod whose image has no match there is never sent there")
async def test_a_pod_goes_to_the_architecture_of_its_image(world, gate, virtual_node):
    virtual_node()
    gate()
    await world.apply(pod("arm", annotations={"twinfra.io/architectures": "arm64"}))
    await world.until_event("PlacementFailed", "is made for linux/arm64")
    arm = virtual_node(architecture="arm64")
    await world.until_bound(1, {arm})


@pytest.mark.real("docker-registry")
@pytest.mark.story("a pod whose image has no match there is never sent there")
async def test_a_pod_goes_to_what_its_registry_says_of_the_image(
    world, gate, virtual_node, tmp_path
):
    amd = virtual_node()
    layout = tmp_path / "layout"
    with registry(tmp_path, {"alice": "s3cret"}) as server:
        arm = server.push(layout, image_for(layout, "arm:1", "arm64"), "team/arm:1")
        both = server.push(layout, image_for(layout, "both:1", "amd64", "arm64"), "team/both:1")
        gate(plain_registries=(server.host,), registry_answer_s=10.0)
        own = {"imagePullSecrets": [{"name": "pull"}]}
        await world.apply(
            server.pull_secret("pull"),
            pod("arm", containers=[{**CONTAINER, "image": arm}], **own),
            pod("both", containers=[{**CONTAINER, "image": both}], **own),
            pod("secret", containers=[{**CONTAINER, "image": arm}]),
        )
        await world.until_event("PlacementFailed", f"{amd} is linux/amd64, {arm} is made for linux")
        await world.until_event("Placed", f"goes to {amd}")
        held = await world.until_where({"both": amd, "secret": amd, "arm": None})
        assert held["arm"]["spec"]["schedulingGates"]
        there = virtual_node(architecture="arm64")
        await world.until_where({"both": amd, "secret": amd, "arm": there})


async def test_a_registry_that_does_not_answer_holds_no_pod(world, gate, virtual_node):
    node = virtual_node()
    over, callers = asyncio.Event(), []

    async def say_nothing(_, writer):
        callers.append(asyncio.current_task())
        await over.wait()
        writer.close()
        await writer.wait_closed()

    silent = await asyncio.start_server(say_nothing, LOOPBACK, 0)
    async with silent:
        host = "{}:{}".format(*silent.sockets[0].getsockname())
        gate(plain_registries=(host,), registry_answer_s=0.5)
        image = {**CONTAINER, "image": f"{host}/team/app:1"}
        await world.apply(*(pod(f"p{n}", containers=[image]) for n in range(3)))
        await world.until_bound(3, {node})
        over.set()
        await asyncio.gather(*callers)


@pytest.mark.story("Our controller ranks the sites for each gated pod")
async def test_the_ranking_decides_and_a_ranking_away_delays(world, gate, virtual_node):
    here, there = virtual_node(), virtual_node()
    ranker = FixedRanker()
    ranker.answer = Unavailable("ranking is away")
    gate(ranker)
    await world.kubectl("annotate", "namespace", world.namespace, "twinfra.io/group=climate")
    await world.apply(pod("data", annotations={"twinfra.io/inputs": "climate:a, climate:b"}))
    await world.until_event("PlacementDelayed", "ranking is away")
    ranker.answer = Ranked((there,), {there: "the data is there"}, {here: "no copy"}, {there: 60})
    (found,) = await world.until_bound(1, {there})
    await world.until_event("Placed", "the data is there")
    await world.until_event("PlacedElsewhere", f"{here} will not do: no copy")
    assert ranker.asked[-1] == (("climate:a", "climate:b"), "climate")
    assert found["metadata"]["annotations"]["twinfra.io/forecast-wait-s"] == "60"


def evicting(running, site, node, **more):
    settings = SETTINGS.model_copy(update=more)
    running(lambda client, recorder: Eviction(client, site, recorder, node, settings, SYSTEM_CLOCK))


def disruption(found):
    conditions = found["status"].get("conditions", [])
    return next((each for each in conditions if each["type"] == "DisruptionTarget"), None)


@pytest.mark.story("its controller's new pod is ranked again; never two at once")
async def test_a_jobs_pod_leaves_a_draining_site_once_its_job_is_gone(
    world, running, gate, virtual_node
):
    first = virtual_node()
    gate()
    await world.apply(job("work"))
    (old,) = await world.until_bound(1, {first})
    second = virtual_node()
    site = SiteOfJobs()
    site.jobs.add(old["metadata"]["uid"])
    site.slow = True
    evicting(running, site, first)
    await world.kubectl("cordon", first)
    await world.kubectl("annotate", "node", first, "twinfra.io/drain=true")
    await world.until(lambda: len(site.deleted) > 2, "the site to be asked")
    (held,) = await world.pods()
    assert held["status"]["phase"] == "Pending"
    assert disruption(held)["reason"] == "SiteDrains"
    site.slow = False
    await world.until_replaced(old, second)
    await world.until_event("Evicted", "what made it makes a new one")


@pytest.mark.story("A pod that asked for hardware and not for a site is evicted")
async def test_a_jobs_pod_leaves_a_site_where_it_waits_longer_than_forecast(
    world, running, gate, virtual_node
):
    first, second = virtual_node(), virtual_node()
    ranker = FixedRanker()
    ranker.answer = Ranked((first, second), wait_s={first: 2.0, second: 60.0})
    gate(ranker)
    await world.apply(job("work"))
    (old,) = await world.until_bound(1, {first})
    site = SiteOfJobs()
    site.jobs.add(old["metadata"]["uid"])
    site.slow = True
    ranker.answer = Ranked((second,), refused={first: "its queue is long"})
    evicting(running, site, first, wait_factor=1.0, wait_least_s=1.0)
    told = await world.until_event("Evicted", "its job is ended")
    assert told.startswith(f"waits at {first} for more than 2 s")
    await world.until(lambda: len(site.deleted) > 2, "the site to be asked")
    (held,) = await world.pods()
    assert held["status"]["phase"] == "Pending"
    assert disruption(held)["reason"] == "ForecastExceeded"
    site.slow = False
    await world.until_replaced(old, second)


async def test_a_pod_stays_in_the_queue_when_its_data_comes_or_nothing_was_forecast(
    world, running, gate, virtual_node
):
    node, _elsewhere = virtual_node(), virtual_node()
    ranker = FixedRanker()
    ranker.answer = Ranked((node,), wait_s={node: 1.0})
    gate(ranker)
    await world.apply(pod("for-data"), pod("late"))
    await world.until_bound(2, {node})
    ranker.answer = Ranked((node,))
    await world.apply(pod("unforeseen"))
    await world.until_bound(3, {node})
    waiting = {"name": "main", "state": {"waiting": {"reason": "WaitingForData"}}}
    rest = {"image": "", "imageID": "", "ready": False, "restartCount": 0}
    status = {"status": {"containerStatuses": [{**waiting, **rest}]}}
    patch = ("patch", "pod", "for-data", "--subresource=status", "--type=merge")
    await world.kubectl(*patch, "-p", json.dumps(status))
    evicting(running, SiteOfJobs(), node, wait_factor=1.0, wait_least_s=1.0)

    async def phases():
        found = {each["metadata"]["name"]: each["status"]["phase"] for each in await world.pods()}
        return found if found["late"] == "Failed" else None

    found = await world.until(phases, "the late pod to fail")
    assert (found["for-data"], found["unforeseen"]) == ("Pending", "Pending")


@pytest.mark.story("a bare pod fails and says so")
async def test_a_bare_pod_stays_until_its_failed_site_proves_its_job_gone(
    world, running, gate, installed, virtual_node
):
    node = virtual_node()
    gate()
    await world.apply(pod("bare"))
    (old,) = await world.until_bound(1, {node})
    site = SiteOfJobs()
    site.jobs.add(old["metadata"]["uid"])
    site.up = False
    evicting(running, site, node)
    await asyncio.to_thread(set_ready, installed, node, "False")
    await world.until_event("EvictionWaits", "not proved gone yet: the site is away")
    assert (await world.pod("bare"))["status"]["phase"] == "Pending"
    site.up = True

    async def failed():
        found = await world.pod("bare")
        return found if found["status"]["phase"] == "Failed" else None

    found = await world.until(failed, "the bare pod to fail")
    assert disruption(found)["reason"] == "SiteFailed"
    await world.until_event("Evicted", "nothing makes it again")


@pytest.mark.story("A pod that asked for hardware and not for a site is evicted")
async def test_a_pod_that_asked_for_its_site_stays(world, running, gate, virtual_node):
    node = virtual_node()
    gate()
    await world.apply(pod("loyal", annotations={"twinfra.io/site": node}), pod("free"))
    await world.until_bound(2, {node})
    site = SiteOfJobs()
    evicting(running, site, node)
    await world.kubectl("cordon", node)
    await world.kubectl("annotate", "node", node, "twinfra.io/drain=true")

    async def phases():
        found = {each["metadata"]["name"]: each["status"]["phase"] for each in await world.pods()}
        return found if found["free"] == "Failed" else None

    assert (await world.until(phases, "the free pod to fail"))["loyal"] == "Pending"
