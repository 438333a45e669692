"""Decides what happens to each pod of one node, from what the watch and the site tell.

One task at a time works on a pod; between them it costs a `PodRecord`. What was decided before a
crash is found again on both sides: the UID is the key, so an adopted pod is never made twice.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from twinfra.compute.interlink.client import PodPhase, PodReport
from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.kube.model import Change, WatchEvent
from twinfra.compute.kubelet.kube.reflector import Reflector, Synced, gone
from twinfra.compute.kubelet.model.seen import JOB_ID, SeenPod, facts_of
from twinfra.compute.kubelet.model.status import failed_status, told_of
from twinfra.compute.kubelet.pods.creation import Creation
from twinfra.compute.kubelet.pods.ending import Ending
from twinfra.compute.kubelet.pods.freshness import Freshness
from twinfra.compute.kubelet.pods.orphans import Orphans
from twinfra.compute.kubelet.pods.record import FINAL_PHASES, PodRecord, Stage
from twinfra.compute.kubelet.pods.renewal import Renewal
from twinfra.compute.kubelet.pods.writer import StatusWriter
from twinfra.compute.kubelet.settings import KubeletSettings
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

LOST = "LostBySite"
ORDINARY = frozenset({"", "Error", "Completed", "Cancelled"})
"""Reasons of an end that its containers' exit codes or its owner's wish explain."""


class PodController:
    """The pods of one node, while this process has its lease.

    Args:
        pods: all of them, by UID; shared with the parts below.
        reflector: tells what Kubernetes wants.
        creation: brings pods to the site.
        ending: takes them from it.
        freshness: tells how they are.
        orphans: finds jobs without a pod.
        writer: tells Kubernetes.
        recorder: tells people.
        address: of the node.
        settings: how patient.
        clock: tells the moments.
    """

    def __init__(
        self,
        pods: dict[str, PodRecord],
        reflector: Reflector[SeenPod],
        recorder: EventRecorder,
        writer: StatusWriter,
        address: str,
        settings: KubeletSettings,
        clock: Clock,
    ) -> None:
        self._pods, self._reflector = pods, reflector
        self._recorder, self._writer, self._address = recorder, writer, address
        self._settings, self._clock = settings, clock
        self._doubtful: set[str] = set()
        self._synced = False
        self._group: asyncio.TaskGroup | None = None
        self.creation: Creation
        self.ending: Ending
        self.freshness: Freshness
        self.orphans: Orphans
        self.renewal: Renewal

    async def run(self, *further: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Look after the pods until cancelled; what is under way is then let go as it stands."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._writer.run())
            group.create_task(self.freshness.run())
            group.create_task(self.orphans.run())
            for loop in further:
                group.create_task(loop())
            async for told in self._reflector.follow():
                if isinstance(told, Synced):
                    self._sync(told)
                else:
                    self._take(told)

    def hear(self, report: PodReport) -> None:
        """Take the site's word on a pod."""
        pod = self._pods.get(report.uid)
        if pod is None or pod.stage in {Stage.NEW, Stage.LEFT}:
            return
        pod.unknown_at_s = None
        if report.phase.final and pod.gone is not None:
            pod.gone.set()
        mark = hash(report)
        if mark == pod.heard or pod.final:
            return
        pod.heard, pod.report = mark, report
        pod.native_id = pod.native_id or report.native_id
        self._tell_reason(pod, report)
        if report.phase is PodPhase.PENDING and pod.told.mark and not pod.told.started_at:
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.queued_patch_s, self._writer.put, pod)
        else:
            self._writer.put(pod)

    def miss(self, pod: PodRecord) -> None:
        """Take note that the site does not know a pod that it was given."""
        if pod.gone is not None:
            pod.gone.set()
        if pod.deleting or pod.vanished or pod.final or pod.stage is not Stage.LIVE:
            return
        now_s = self._clock.monotonic()
        if pod.unknown_at_s is None:
            pod.unknown_at_s = now_s
            loop = asyncio.get_running_loop()
            loop.call_later(self._settings.lost_s, self.freshness.soon, pod.uid)
            return
        if now_s - pod.unknown_at_s < self._settings.lost_s * 0.9:
            return
        text = "the site does not know this pod any more"
        self._recorder.warning(pod.about, LOST, text)
        pod.stage = Stage.LEFT
        pod.override = failed_status(
            pod.facts, pod.told, reason=LOST, message=text, address=self._address,
            now=self._clock.now(),
        )  # fmt: skip
        self._writer.put(pod)

    def _take(self, event: WatchEvent[SeenPod]) -> None:
        """Take a change of a pod."""
        seen = event.object
        pod = self._pods.get(seen.metadata.uid)
        if event.change is Change.DELETED:
            if pod is not None:
                self._vanish(pod)
            return
        fresh = pod is None
        if pod is None:
            try:
                pod = self._remember(seen)
            except msgspec.MsgspecError as error:
                log.warning("pod_unreadable", uid=seen.metadata.uid, why=str(error))
                return
        if fresh and pod.stage is Stage.LIVE:
            self.renewal.adopt(pod)
        if not fresh and seen.status.phase in FINAL_PHASES and pod.stage in {Stage.NEW, Stage.SENT}:
            pod.overruled, pod.told = True, told_of(seen)
        if seen.metadata.deletion_timestamp is not None:
            self._end(pod, seen)
        elif fresh and pod.stage is Stage.NEW and not pod.final:
            if self._synced:
                self._work(pod, self._create(pod, seen))
            else:
                self._doubtful.add(pod.uid)

    def _remember(self, seen: SeenPod) -> PodRecord:
        metadata = seen.metadata
        facts = facts_of(seen.spec)
        native_id = (metadata.annotations or {}).get(JOB_ID, "")
        pod = PodRecord(
            uid=metadata.uid,
            name=metadata.name,
            namespace=metadata.namespace,
            facts=facts,
            told=told_of(seen),
            native_id=native_id,
            noted=bool(native_id),
            grace_s=facts.grace_s,
        )
        if native_id or (seen.status.phase in FINAL_PHASES and seen.status.host_ip):
            pod.stage = Stage.LIVE
        self._pods[pod.uid] = pod
        return pod

    def _sync(self, synced: Synced) -> None:
        """All pods of the node are known now: settle what happened while nobody looked."""
        for uid in gone(list(self._pods), synced):
            self._vanish(self._pods[uid])
        for pod in [self._pods[uid] for uid in self._doubtful if uid in self._pods]:
            if pod.stage is Stage.NEW and not pod.working:
                self._work(pod, self._settle(pod))
        self._doubtful.clear()
        self._synced = True
        self.freshness.all_soon()
        self.orphans.look()

    async def _settle(self, pod: PodRecord) -> None:
        """Adopt a pod that the site knows; hand over one that it does not know."""
        report = await self.creation.known(pod)
        if report is not None:
            self.creation.adopt(pod, report)
            self.renewal.adopt(pod)
        else:
            await self._create(pod, None)

    async def _create(self, pod: PodRecord, seen: SeenPod | None) -> None:
        await self.creation.run(pod, seen)
        if pod.stage is Stage.LIVE and not pod.overruled:
            self.freshness.soon(pod.uid)
        elif pod.stage in {Stage.SENT, Stage.LIVE} and not pod.deleting and not pod.vanished:
            await self.ending.end_there(pod)  # given up, and perhaps there all the same
            pod.stage = Stage.LEFT

    def _end(self, pod: PodRecord, seen: SeenPod) -> None:
        grace = seen.metadata.deletion_grace_period_seconds
        pod.grace_s = pod.grace_s if grace is None else grace
        if not pod.deleting:
            pod.deleting = True
            self._work(pod, self._let_go(pod))

    def _vanish(self, pod: PodRecord) -> None:
        """Kubernetes has the pod no more: so must the site."""
        if pod.vanished:
            return
        pod.vanished = True
        if not pod.deleting:
            self._work(pod, self._let_go(pod))
        elif not pod.working:
            self._pods.pop(pod.uid, None)

    async def _let_go(self, pod: PodRecord) -> None:
        """Wait for what is under way, then end the pod."""
        me = asyncio.current_task()
        others = {task for task in pod.working if task is not me}
        if others:
            if pod.stage is Stage.NEW:
                for task in others:
                    task.cancel()
            await asyncio.wait(others)
        if pod.stage is Stage.NEW and not self._synced:
            await self._doubt(pod)
        await self.ending.run(pod)
        if pod.vanished:
            self._pods.pop(pod.uid, None)

    async def _doubt(self, pod: PodRecord) -> None:
        """Find out whether a pod that is to end was ever handed over by who was here before."""
        if await self.creation.known(pod) is not None:
            pod.stage = Stage.LIVE

    def _work(self, pod: PodRecord, work: Coroutine[Any, Any, None]) -> None:
        assert self._group is not None  # noqa: S101 - narrows the type; `run` has set it
        task = self._group.create_task(work)
        pod.working.add(task)
        task.add_done_callback(pod.working.discard)

    def _tell_reason(self, pod: PodRecord, report: PodReport) -> None:
        """Tell by an event why a pod waits, when that changes, and what of its site ended it."""
        if report.phase is PodPhase.FAILED and report.reason not in ORDINARY:
            self._recorder.warning(pod.about, report.reason, report.message or report.reason)
            return
        if report.phase is not PodPhase.PENDING or not report.reason:
            return
        words = f"{report.reason}: {report.message}" if report.message else report.reason
        if words == pod.reason or report.reason == "ContainerCreating":
            return
        pod.reason = words
        self._recorder.normal(pod.about, report.reason, report.message or report.reason)
