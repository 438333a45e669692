"""Tokens of running pods are renewed when they are due, again after a failure, and never twice."""

import asyncio
import itertools
from contextlib import asynccontextmanager
from types import SimpleNamespace

import msgspec
import pytest

from twinfra.compute.interlink.client import PodCreateRequest
from twinfra.compute.kubelet.model.seen import facts_of
from twinfra.compute.kubelet.model.status import Told
from twinfra.compute.kubelet.pods.record import PodRecord, Stage
from twinfra.compute.kubelet.pods.renewal import AGAIN_S, LOOK_S, Renewal
from twinfra.core.errors import NotFound, Unavailable
from twinfra.testkit.clock import VirtualClock

LIFE_S = 600.0
DUE_S = 0.8 * LIFE_S
VOLUMES = [{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}]


def make_pod(uid="u", volumes=VOLUMES, stage=Stage.LIVE):
    spec = msgspec.json.encode({"containers": [{"name": "main"}], "volumes": volumes})
    return PodRecord(uid, uid, "ml", facts_of(msgspec.Raw(spec)), Told(), stage=stage)


class Bench:
    """A renewal over a site that notes when it was given files; the bench makes tokens too."""

    def __init__(self, *pods, extensions=("files",)):
        self.clock, self.pods = VirtualClock(), {pod.uid: pod for pod in pods}
        self.renewed, self.told, self.trouble, self.extensions = [], [], [], set(extensions)
        recorder = SimpleNamespace(warning=lambda *said: self.told.append(said))
        self.renewal = Renewal(self, self.pods, recorder, self.clock, lambda: self.extensions)
        self.renewal.assembler = self

    async def again(self, pod):
        self.renewal.at(pod, self.clock.monotonic() + DUE_S)
        token = {"metadata": {"name": "v"}, "data": {"t": f"of {self.clock.monotonic():.0f}"}}
        return PodCreateRequest(pod={}, projected_maps=(token,))

    async def files(self, uid, *, projected):
        if self.trouble:
            raise self.trouble.pop(0)
        (volume,) = projected
        assert volume["data"]["t"] == f"of {self.clock.monotonic():.0f}"
        self.renewed.append((uid, self.clock.monotonic()))

    @asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.renewal.run())
        await asyncio.sleep(0)
        yield self
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    @property
    def moments_s(self):
        return [moment_s for _, moment_s in self.renewed]


@pytest.mark.story("projected (token with bounded life, renewed into the running job)")
async def test_a_token_is_renewed_each_time_when_four_fifths_of_its_life_are_over():
    pod = make_pod()
    async with Bench(pod).running() as bench:
        bench.renewal.at(pod, DUE_S)
        await bench.clock.advance(DUE_S - 1)
        assert bench.renewed == []
        await bench.clock.advance(2 * DUE_S + LOOK_S)
    assert bench.moments_s == pytest.approx([DUE_S, 2 * DUE_S, 3 * DUE_S], abs=LOOK_S)
    assert bench.told == []


@pytest.mark.story("a token is renewed again after a failure, well before it runs out")
async def test_it_is_tried_again_soon_and_not_more_often_later_when_the_site_was_away():
    pod = make_pod()
    async with Bench(pod).running() as bench:
        bench.trouble = [Unavailable("away")] * 5
        bench.renewal.at(pod, DUE_S)
        await bench.clock.advance(LIFE_S)
        (first_s,) = bench.moments_s
        assert first_s == pytest.approx(DUE_S + 5 * AGAIN_S, abs=LOOK_S)
        await bench.clock.advance(2 * DUE_S)
    steps_s = [later - sooner for sooner, later in itertools.pairwise(bench.moments_s)]
    assert steps_s == pytest.approx([DUE_S, DUE_S], abs=LOOK_S)


@pytest.mark.story("a site without `files` cannot renew tokens: one event says so")
async def test_one_event_says_so_when_the_site_does_not_renew_files():
    pod = make_pod()
    async with Bench(pod, extensions=()).running() as bench:
        bench.renewal.at(pod, DUE_S)
        await bench.clock.advance(10 * LIFE_S)
    assert bench.renewed == []
    ((about, reason, text),) = bench.told
    assert (about.name, reason) == ("u", "TokenNotRenewed")
    assert "will run out" in text


async def test_a_pod_gets_fresh_tokens_as_soon_as_it_is_there_when_its_creation_took_long():
    pod = make_pod(stage=Stage.SENT)
    async with Bench(pod).running() as bench:
        bench.renewal.at(pod, DUE_S)
        await bench.clock.advance(2 * LIFE_S)
        assert bench.renewed == []
        pod.stage = Stage.LIVE
        await bench.clock.advance(AGAIN_S + LOOK_S)
    assert len(bench.renewed) == 1


@pytest.mark.story("tokens of pods that were adopted after a restart are renewed")
async def test_adopted_pods_get_fresh_tokens_within_a_minute_and_not_all_at_once():
    pods = [make_pod(f"u-{number}") for number in range(50)]
    without = make_pod("without", volumes=[{"name": "v", "emptyDir": {}}])
    async with Bench(*pods, without).running() as bench:
        for pod in (*pods, *pods, without):
            bench.renewal.adopt(pod)
        await bench.clock.advance((LIFE_S - DUE_S) / 2 + LOOK_S)
        assert sorted(uid for uid, _ in bench.renewed) == sorted(pod.uid for pod in pods)
        assert len(set(bench.moments_s)) > 5


@pytest.mark.parametrize("change", ["deleting", "vanished", "left", "gone", "unknown to the site"])
async def test_nothing_is_renewed_when_the_pod_is_over(change):
    pod = make_pod()
    async with Bench(pod).running() as bench:
        bench.renewal.at(pod, DUE_S)
        if change == "left":
            pod.stage = Stage.LEFT
        elif change == "gone":
            bench.pods.clear()
        elif change == "unknown to the site":
            bench.trouble = [NotFound("no such pod")] * 9
        else:
            setattr(pod, change, True)
        await bench.clock.advance(2 * LIFE_S)
    assert bench.renewed == []
    assert bench.told == []
