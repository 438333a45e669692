"""A pod's life turned by hand: each step once or twice, neighbours that fail, on virtual time."""

from dataclasses import replace

import pytest

from twinfra.compute.containers.images.model import ImageConfig, UnpackedImage
from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.interlink.model.create import RetrievedPodData
from twinfra.compute.interlink.model.status import PodPhase
from twinfra.compute.interlink.plugin import reports
from twinfra.compute.interlink.plugin.journal import Journal
from twinfra.compute.interlink.plugin.kit import SiteKit
from twinfra.compute.interlink.plugin.lifecycle import KIND, Lifecycle
from twinfra.compute.interlink.plugin.model import KeptPod, Owner
from twinfra.compute.interlink.plugin.ports import Staged
from twinfra.compute.interlink.plugin.store import MIGRATIONS, OUTBOX, PodStore
from twinfra.compute.interlink.pods.plan import Ground
from twinfra.compute.interlink.settings import PluginSettings
from twinfra.compute.interlink.usage import UsageMaker
from twinfra.compute.sites.model import JobState
from twinfra.core.bus import Bus, Outbox
from twinfra.core.errors import InsufficientScope, InvalidRequest, NotFound, Unavailable
from twinfra.core.ids import new_uuid
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.fake_site import FakeSite
from twinfra.testkit.hand_engine import HandEngine

DIGEST = "sha256:" + "0" * 64


class Runtime:
    name = "plain"

    def launch(self, spec):
        return Launch((), spec.command)


class Images:
    missing = False

    def resolve(self, reference):
        return DIGEST

    def ensure(self, reference, credentials=None, *, policy=""):
        if self.missing:
            raise NotFound(f"no image {reference}")
        return UnpackedImage(reference, DIGEST, None, ImageConfig(cmd=("true",)))


class Inputs:
    """Has as many files as the test says."""

    def __init__(self):
        self.missing = 0
        self.asked = 0
        self.trouble = None
        self.wanted = []
        self.told = ""

    async def stage(self, request, places, resolved):
        self.asked += 1
        if self.trouble:
            raise self.trouble
        resolved.update({mount.did: f"{mount.did}.v7" for mount in request.inputs})
        return Staged(here=1, missing=self.missing, lacking=tuple(resolved.values()))

    async def bring(self, pod, lacking):
        self.wanted.append(lacking)
        return self.told


class Outputs:
    """Publishes in memory, keyed by the pod."""

    def __init__(self):
        self.versions = {}
        self.calls = 0
        self.meta = {}
        self.troubles = []
        self.released = []

    async def release(self, pod):
        self.released.append(pod.uid)

    async def publish(self, pod, request, meta):
        self.calls += 1
        if self.troubles:
            raise self.troubles.pop(0)
        self.meta = dict(meta)
        number = self.versions.setdefault(pod.uid, len(self.versions) + 1)
        return [f"{mount.did}.v{number}" for mount in request.outputs]


class Life:
    """One site, its work turned by hand."""

    def __init__(self, database, folder, *, twice):
        self.clock = VirtualClock()
        self.site = FakeSite(clock=self.clock)
        self.images, self.inputs, self.outputs = Images(), Inputs(), Outputs()
        self.kit = SiteKit(
            name="hpc-b",
            site=self.site,
            ground=Ground(Runtime(), isolated=True, network="none"),
            images=self.images,
            inputs=self.inputs,
            outputs=self.outputs,
            usage=UsageMaker("hpc-b", "host:1/local", "local", 10.0),
            jobs=folder,
            settings=PluginSettings(max_attempts=3),
            clock=self.clock,
        )
        self.store = PodStore(database)
        self.journal = Journal(self.store, Outbox(database, OUTBOX, Bus("nats://nowhere")), "hpc-b")
        self.lifecycle = Lifecycle(self.kit, self.journal)
        self.engine = HandEngine(self.clock, twice=twice, database=database)
        self.engine.use([self.lifecycle.workflow()])

    async def create(self, **spec):
        body = {"pod": make_pod(**spec), "container": []}
        data = RetrievedPodData.from_wire(body)
        request = self.kit.read(data)
        pod = KeptPod(
            report=reports.new_report(request),
            owner=Owner("https://issuer.test", "alice", "climate"),
            body=body,
            work=new_uuid(),
            created_at=self.clock.now(),
        )
        async with self.store.database.begin() as connection:
            await self.journal.add(connection, pod)
            await self.engine.start(connection, KIND, pod.work, {})
        self.uid, self.work = pod.uid, pod.work
        await self.engine.turn()
        return pod.uid

    async def turn(self, seconds=0.0):
        """Let a change be seen now, or time pass."""
        if seconds:
            await self.clock.advance(seconds)
        else:
            await self.engine.wake_in(None, KIND, self.work)
        await self.engine.turn()

    async def report(self):
        pod = await self.store.get(self.uid)
        return pod.report if pod else None

    async def told(self):
        """Return the phases and reasons that readers of events were told, in order."""
        events = [event.body for event in await self.store.events_after(0, 1000)]
        return [(event["phase"], event["reason"], event["attempt"]) for event in events]

    async def delete(self):
        pod = await self.store.get(self.uid)
        async with self.store.database.begin() as connection:
            await self.store.mark_deleting(connection, pod)
        await self.turn()


def make_pod(*, restart="Never", inputs="", outputs=""):
    named = {"twinfra.io/inputs": inputs, "twinfra.io/outputs": outputs}
    return {
        "metadata": {
            "name": "train",
            "namespace": "ml",
            "uid": new_uuid(),
            "annotations": {key: value for key, value in named.items() if value},
        },
        "spec": {"restartPolicy": restart, "containers": [{"name": "main", "image": "python:3"}]},
    }


@pytest.fixture(params=[False, True], ids=["once", "twice"])
async def life(request, sqlite, tmp_path):
    await sqlite.migrate(MIGRATIONS)
    return Life(sqlite, tmp_path / "jobs", twice=request.param)


async def test_succeeds_when_the_job_does(life):
    uid = await life.create()
    assert (await life.report()).reason == "Priority"
    life.site.start(uid)
    await life.turn()
    assert (await life.report()).phase is PodPhase.RUNNING
    life.site.finish(uid)
    await life.turn()
    report = await life.report()
    assert (report.phase, report.containers[0].exit_code) == (PodPhase.SUCCEEDED, 0)
    assert len(life.site.jobs) == 1


async def test_nothing_is_told_when_nothing_changed(life):
    await life.clock.advance(0.123456)
    uid = await life.create()
    life.site.start(uid)
    await life.turn()
    told = await life.told()
    for _ in range(3):
        await life.turn()
    assert await life.told() == told


async def test_waits_for_data_and_asks_again_when_time_passes(life):
    life.inputs.missing = 3
    await life.create(inputs="climate:scenarios")
    report = await life.report()
    assert (report.reason, report.message) == ("WaitingForData", "1 of 4 files are at the site")
    assert life.site.jobs == {}
    assert set(life.inputs.wanted) == {("climate:scenarios.v7",)}
    life.inputs.told = "rule 4 is STUCK: no source"
    await life.turn(seconds=60)
    assert (await life.report()).message.endswith("at the site; rule 4 is STUCK: no source")
    life.inputs.missing = 0
    await life.turn(seconds=60)
    assert len(life.site.jobs) == 1


async def test_is_over_only_after_its_outputs_are_published(life):
    life.outputs.troubles = [Unavailable("the datasets service is away")] * 4
    uid = await life.create(inputs="climate:scenarios", outputs="climate:model")
    life.site.start(uid)
    life.site.finish(uid)
    await life.turn()
    report = await life.report()
    assert (report.phase, report.reason) == (PodPhase.RUNNING, "PublishingOutputs")
    for _ in range(6):
        await life.turn(seconds=60)
    report = await life.report()
    assert report.phase is PodPhase.SUCCEEDED
    assert report.message == "registered climate:model.v1"
    assert life.outputs.meta == {"images": [DIGEST], "inputs": ["climate:scenarios.v7"]}
    assert len(life.outputs.versions) == 1


async def test_no_end_is_told_while_its_last_processes_leave(life, monkeypatch):
    uid = await life.create(outputs="climate:model")
    life.site.start(uid)
    await life.turn()
    told = life.site.status

    async def leaving(native_ids):
        found = await told(native_ids)
        return {key: replace(each, state=JobState.RUNNING) for key, each in found.items()}

    monkeypatch.setattr(life.site, "status", leaving)
    life.site.finish(uid)
    await life.turn()
    assert (await life.report()).phase is PodPhase.RUNNING
    monkeypatch.setattr(life.site, "status", told)
    for _ in range(3):
        await life.turn(seconds=60)
    report = await life.report()
    assert (report.phase, report.message) == (PodPhase.SUCCEEDED, "registered climate:model.v1")


@pytest.mark.parametrize("error", [InsufficientScope("not yours"), InvalidRequest("nothing there")])
async def test_fails_when_its_outputs_are_refused(life, error):
    life.outputs.troubles = [error] * 4
    uid = await life.create(outputs="climate:model")
    life.site.start(uid)
    life.site.finish(uid)
    await life.turn()
    report = await life.report()
    assert (report.phase, report.reason) == (PodPhase.FAILED, "OutputsFailed")
    assert (report.containers[0].exit_code, report.message) == (1, error.detail)


async def test_publishes_nothing_when_the_job_failed(life):
    uid = await life.create(outputs="climate:model")
    life.site.start(uid)
    life.site.finish(uid, 3)
    await life.turn()
    assert life.outputs.calls == 0
    assert (await life.report()).containers[0].exit_code == 3


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
async def test_is_tried_again_under_the_next_number_when_its_keeper_was_lost(life, policy):
    uid = await life.create(restart=policy)
    for attempt, name in ((1, uid), (2, f"{uid}.2")):
        life.site.start(name)
        await life.turn()
        assert (await life.report()).attempt == attempt
        life.site.lose(name)
        await life.turn()
    report = await life.report()
    assert (report.attempt, report.containers[0].restarts) == (3, 2)
    assert report.containers[0].last.reason == "KeeperLost"
    life.site.start(f"{uid}.3")
    life.site.lose(f"{uid}.3")
    await life.turn()
    assert (await life.report()).phase is PodPhase.FAILED
    assert sorted(set(life.site.submissions)) == [uid, f"{uid}.2", f"{uid}.3"]
    assert [phase for phase, _, _ in await life.told()].count("Failed") <= 2


async def test_fails_when_its_keeper_was_lost_and_it_never_restarts(life):
    uid = await life.create()
    life.site.start(uid)
    life.site.lose(uid)
    await life.turn()
    report = await life.report()
    assert (report.phase, report.reason) == (PodPhase.FAILED, "KeeperLost")
    assert len(life.site.jobs) == 1


async def test_one_usage_record_an_attempt(life):
    uid = await life.create(restart="Always")
    life.site.start(uid)
    await life.clock.advance(10)
    life.site.lose(uid)
    await life.turn()
    life.site.start(f"{uid}.2")
    life.site.finish(f"{uid}.2")
    await life.turn()
    records = dict(await life.store.usage())
    assert sorted(records) == [f"job:hpc-b:{uid}", f"job:hpc-b:{uid}.2"]
    first = records[f"job:hpc-b:{uid}"]
    assert (first["wall_s"], first["cpu_s"], first["attempt"]) == (10, 5, 1)
    assert first["person"] == {"iss": "https://issuer.test", "sub": "alice"}


async def test_nothing_is_used_when_nothing_ran(life):
    await life.create()
    await life.site.cancel("1000")
    life.site.jobs["1000"].started_at = None
    await life.turn()
    assert await life.store.usage() == []


async def test_waits_without_end_when_the_batch_system_is_away(life):
    life.site.down = True
    await life.create()
    for _ in range(8):
        await life.turn(seconds=31)
    assert (await life.report()).phase is PodPhase.PENDING
    assert (await life.report()).message == "the fake batch system is down"
    life.site.down = False
    await life.turn(seconds=31)
    assert len(life.site.jobs) == 1


async def test_fails_when_its_image_is_gone(life):
    life.images.missing = True
    await life.create()
    report = await life.report()
    assert (report.phase, report.reason) == (PodPhase.FAILED, "ErrImagePull")
    assert report.message == "image python:3: no image python:3"


async def test_fails_when_an_input_is_gone(life):
    life.inputs.trouble = NotFound("there is no climate:scenarios")
    await life.create(inputs="climate:scenarios")
    assert (await life.report()).phase is PodPhase.FAILED


@pytest.mark.parametrize("moment", ["staging", "queued", "running", "over"])
async def test_is_forgotten_when_it_is_deleted(life, moment):
    if moment == "staging":
        life.inputs.missing = 1
    uid = await life.create(inputs="climate:scenarios")
    if moment in {"running", "over"}:
        life.site.start(uid)
        await life.turn()
    if moment == "over":
        life.site.finish(uid)
        await life.turn()
    await life.delete()
    await life.turn()
    assert await life.report() is None
    assert not (life.kit.jobs / uid).exists()
    assert life.engine.at(KIND) == {}
    assert uid in life.outputs.released
    phases = [phase for phase, _, _ in await life.told()]
    assert phases[-1] == ("Succeeded" if moment == "over" else "Failed")
    assert all(job.state.final for job in life.site.jobs.values())


async def test_is_forgotten_by_itself_when_it_is_old(life):
    uid = await life.create()
    life.site.start(uid)
    life.site.finish(uid)
    await life.turn()
    await life.turn(seconds=life.kit.settings.keep_finished_s + 1)
    assert await life.report() is None


async def test_a_crash_of_ours_ends_the_pod_after_some_tries(life, monkeypatch):
    async def broken(*_):
        raise ZeroDivisionError

    life.inputs.stage = broken
    await life.create(inputs="climate:scenarios")
    for _ in range(10):
        await life.turn(seconds=60)
    assert (await life.report()).reason == "InternalError"


async def test_fresh_data_is_linked_into_a_running_service(life):
    uid = await life.create(restart="Always", inputs="climate:ensemble")
    life.site.start(uid)
    await life.turn()
    asked = life.inputs.asked
    await life.turn()
    assert life.inputs.asked == asked
    life.lifecycle.fresh_data.add(uid)
    await life.turn()
    assert life.inputs.asked > asked
