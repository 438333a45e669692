"""One site whose pods live as a test turns them: neighbours in memory, virtual time."""

import pytest

from twinfra.compute.containers.images.model import ImageConfig, UnpackedImage
from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.interlink.model.create import RetrievedPodData
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
from twinfra.core.bus import Bus, Outbox
from twinfra.core.errors import NotFound
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
