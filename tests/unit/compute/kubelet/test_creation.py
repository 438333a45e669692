"""A pod is handed to its site once, whatever happens to the answer."""

import asyncio

import msgspec
import pytest

from twinfra.compute.interlink.client import CreateAnswer, PodPhase, PodReport
from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.kube.model import Meta
from twinfra.compute.kubelet.model.downward import Host
from twinfra.compute.kubelet.model.seen import SeenPod, facts_of
from twinfra.compute.kubelet.model.status import Told
from twinfra.compute.kubelet.pods.creation import Creation, NodeView
from twinfra.compute.kubelet.pods.objects import Objects
from twinfra.compute.kubelet.pods.record import PodRecord, Stage
from twinfra.compute.kubelet.pods.writer import StatusWriter
from twinfra.compute.kubelet.settings import KubeletSettings
from twinfra.core.errors import (
    Conflict,
    InsufficientScope,
    NotFound,
    SiteRejected,
    Unavailable,
    UpstreamFault,
    UpstreamTimeout,
)
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.waiting import wait_for

UID = "7c1f0d52-6f2e-4b7e-9f0e-2f4f6a8d1c11"
SPEC = b'{"containers":[{"name":"main","image":"i"}],"restartPolicy":"Never"}'


class ScriptedSite:
    """Answers `/create` from a script; knows a pod when it was taken, told or not."""

    def __init__(self, *script):
        self.script, self.requests, self.asked, self.known = list(script), [], 0, False

    async def create(self, request, *, token=None, pod_token=""):
        self.requests.append(request)
        answer = self.script.pop(0) if self.script else "fine"
        if answer in {"fine", "taken, answer lost"}:
            self.known = True
        if answer == "fine":
            return CreateAnswer(UID, "48213")
        raise UpstreamTimeout("no answer") if answer == "taken, answer lost" else answer

    async def status(self, pods, *, token=None):
        self.asked += 1
        return [PodReport(UID, "p", "ml", native_id="48213")] if self.known else []


class Cluster:
    """An API server with nothing but the pod's namespace."""

    def __init__(self):
        self.patches = []

    async def get(self, resource, name, namespace="", *, kind, sub=""):
        raise NotFound(f"{resource.plural} {name} not found")

    async def patch(self, resource, name, body, namespace="", **more):
        self.patches.append(body)

    async def create(self, *args, **more):
        return None


class PassingClock(VirtualClock):
    """Time passes as soon as somebody sleeps."""

    def __init__(self):
        super().__init__()
        self.slept = []

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self._elapsed_s += seconds
        await asyncio.sleep(0)


class Bench:
    """A creation over a scripted site."""

    def __init__(self, *script, extensions=("idempotent",), spec=SPEC, **settings):
        self.site, self.cluster, self.clock = ScriptedSite(*script), Cluster(), PassingClock()
        settings = KubeletSettings(pod_identity=False, **settings)
        self.heard, self.told = [], []
        self.recorder = EventRecorder(self.cluster, self.clock, per_s=100)
        self.writer = StatusWriter(self.cluster, "10.0.0.7", self.clock, workers=1)
        view = NodeView(
            "c/n", "https://site", lambda: Host("n", "10.0.0.7"), lambda: frozenset(extensions)
        )
        self.creation = Creation(
            self.cluster, self.site, Objects(self.cluster, self.clock, None), self.writer,
            self.recorder, view, settings, self.clock, self.heard.append, lambda *_: None,
        )  # fmt: skip
        self.seen = SeenPod(Meta(name="p", namespace="ml", uid=UID), msgspec.Raw(spec))
        self.pod = PodRecord(UID, "p", "ml", facts_of(self.seen.spec), Told())

    async def run(self):
        await asyncio.wait_for(self.creation.run(self.pod, self.seen), 10)
        return self.pod


async def test_is_live_with_its_native_id_when_the_site_takes_it():
    bench = Bench("fine")
    pod = await bench.run()
    assert (pod.stage, pod.native_id) == (Stage.LIVE, "48213")
    sent = bench.site.requests[0].pod
    assert sent["metadata"]["uid"] == UID
    assert sent["metadata"]["annotations"]["twinfra.io/virtual-node"] == "c/n"


@pytest.mark.story("4xx is ProviderFailed at once, with the text")
@pytest.mark.parametrize("refusal", [SiteRejected, InsufficientScope, NotFound])
async def test_fails_at_once_when_the_site_refuses(refusal):
    bench = Bench(refusal("spec.x: no"))
    pod = await bench.run()
    assert pod.override["reason"] == "ProviderFailed"
    assert pod.override["message"] == "spec.x: no"
    assert len(bench.site.requests) == 1
    assert pod.stage is Stage.LEFT


@pytest.mark.story(
    "A lost answer asks /status first: a pod that is there is adopted, not made again"
)
async def test_adopts_the_pod_when_only_the_answer_was_lost():
    bench = Bench("taken, answer lost")
    pod = await bench.run()
    assert (pod.stage, pod.native_id) == (Stage.LIVE, "48213")
    assert len(bench.site.requests) == 1
    assert bench.heard


@pytest.mark.story("5xx creates again only if the site says unknown, bounded, then ProviderFailed")
async def test_tries_again_and_gives_up_when_the_site_is_in_trouble():
    trouble = [UpstreamFault("broken"), Unavailable("away"), Conflict("ask again"), "fine"]
    bench = Bench(*trouble)
    assert (await bench.run()).stage is Stage.LIVE
    assert (len(bench.site.requests), bench.site.asked) == (4, 3)
    bench = Bench(*[UpstreamFault("broken")] * 9, create_attempts=3)
    pod = await bench.run()
    assert pod.override["reason"] == "ProviderFailed"
    assert len(bench.site.requests) == 3
    assert pod.stage is Stage.SENT


@pytest.mark.story("A plug-in without idempotent gets two status answers 15 s apart first")
async def test_asks_twice_when_the_site_may_run_a_pod_twice():
    bench = Bench(UpstreamTimeout("no answer"), "fine", extensions=())
    assert (await bench.run()).stage is Stage.LIVE
    assert bench.site.asked == 2
    assert 15.0 in bench.clock.slept


async def test_is_not_handed_over_when_its_end_was_asked_for():
    bench = Bench("fine")
    bench.pod.deleting = True
    assert (await bench.run()).stage is Stage.NEW
    assert bench.site.requests == []


@pytest.mark.story("A missing object is waited for, with an event naming it")
async def test_waits_for_a_config_map_when_it_is_missing():
    spec = b'{"containers":[{"name":"main"}],"volumes":[{"name":"c","configMap":{"name":"late"}}]}'
    bench = Bench("fine", spec=spec)
    task = asyncio.create_task(bench.run())
    await wait_for(lambda: bench.pod.override, what="the word on what is missing")
    state = bench.pod.override["containerStatuses"][0]["state"]["waiting"]
    assert state["message"] == 'configmap "late" not found'
    bench.pod.vanished = True
    assert (await task).stage is Stage.NEW


@pytest.mark.story("A pod with $(...), newlines, #SBATCH in names and values arrives as data")
@pytest.mark.parametrize("text", ["$(reboot)", "a\n#SBATCH --x", "`id`", "'; rm -rf /", "\u0000x"])
async def test_arrives_as_data_when_a_value_looks_like_a_command(text):
    spec = msgspec.json.encode(
        {"containers": [{"name": "main", "args": [text], "env": [{"name": "A", "value": text}]}]}
    )
    bench = Bench("fine", spec=spec)
    await bench.run()
    (container,) = bench.site.requests[0].pod["spec"]["containers"]
    assert container["args"] == [text]
    assert container["env"] == [{"name": "A", "value": text}]


async def test_writes_one_patch_with_the_last_word_when_a_pod_changes_quickly():
    bench = Bench()
    bench.pod.stage, bench.pod.native_id = Stage.LIVE, "48213"
    running = asyncio.create_task(bench.writer.run())
    for phase in (PodPhase.PENDING, PodPhase.RUNNING):
        bench.pod.report = PodReport(UID, "p", "ml", phase=phase)
        bench.writer.put(bench.pod)
    await bench.writer.written(bench.pod)
    running.cancel()
    (patch,) = bench.cluster.patches
    assert patch["metadata"] == {"uid": UID, "annotations": {"JobID": "48213"}}
    assert bench.pod.noted
