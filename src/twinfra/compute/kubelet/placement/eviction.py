"""Takes pods that we placed from a site that fails, drains or lets them wait too long.

First the job is proved gone, only then the pod fails: what makes a new one can make it no earlier,
so no two run. A site that does not answer proves nothing: the pod stays, and events say so.

Source: Kubernetes documentation, "Pod disruption conditions", "Taint based evictions".
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from twinfra.compute.kubelet.events import About, EventRecorder
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Patch, Thing
from twinfra.compute.kubelet.kube.resources import NODES, PODS
from twinfra.compute.kubelet.placement.choosing import is_draining, is_ready
from twinfra.compute.kubelet.placement.names import FORECAST, PLACED, TYPE_LABEL
from twinfra.compute.kubelet.placement.objects import GatedPod, SeenNode
from twinfra.compute.kubelet.placement.settings import PlacementSettings
from twinfra.compute.kubelet.ports import Remote
from twinfra.core.errors import NotFound, TwinfraError
from twinfra.core.tasks import end
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock, rfc3339

log = get_logger(__name__)

Json = dict[str, Any]
FINAL = frozenset({"Succeeded", "Failed"})
AGAIN_S = (0.5, 15.0)
REASON = "Evicted"
FORECAST_EXCEEDED = "ForecastExceeded"
NOT_THE_QUEUE = frozenset({
    "WaitingForData", "ContainerCreating", "PodInitializing", "ErrImagePull", "ImagePullBackOff",
    "CreateContainerConfigError",
})  # fmt: skip
"""Reasons of a pod that waits for something else than its turn."""


@dataclass(frozen=True)
class Cause:
    """Why a pod is taken from its site: a word for the condition, and a sentence."""

    reason: str
    text: str


class Eviction:
    """The evictions of one node, while this process has its lease.

    Args:
        client: on the API server.
        remote: the site.
        recorder: tells people.
        node: its name.
        settings: when.
        clock: tells and paces.
    """

    def __init__(
        self,
        client: KubeClient,
        remote: Remote,
        recorder: EventRecorder,
        node: str,
        settings: PlacementSettings,
        clock: Clock,
    ) -> None:
        self._client, self._remote, self._recorder = client, remote, recorder
        self._node, self._settings, self._clock = node, settings, clock
        self._down_since_s: float | None = None
        self._pending_since_s: dict[str, float] = {}
        self._working: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Look at the node and its pods again and again; runs until cancelled."""
        try:
            while True:
                try:
                    await self._look()
                except TwinfraError as error:
                    log.info("eviction_waits", node=self._node, code=error.code, why=error.detail)
                await self._clock.sleep(self._settings.look_s)
        finally:
            await end(list(self._working.values()))
            self._working.clear()

    async def _look(self) -> None:
        node = await self._client.get(NODES, self._node, kind=SeenNode)
        now_s = self._clock.monotonic()
        if is_ready(node):
            self._down_since_s = None
        elif self._down_since_s is None:
            self._down_since_s = now_s
        found = await self._client.list(
            PODS, kind=GatedPod, fields=f"spec.nodeName={self._node},{_NOT_OVER}"
        )
        pods = found.items or []
        self._remember(pods, now_s)
        for pod in pods:
            uid = pod.metadata.uid
            if uid in self._working or not is_ours(pod):
                continue
            cause = self._cause(node, pod, now_s)
            if cause is not None and cause.reason == FORECAST_EXCEEDED:
                cause = cause if await self._elsewhere() else None
            if cause is not None:
                self._working[uid] = asyncio.create_task(self._evict(pod, cause))

    def _remember(self, pods: Iterable[GatedPod], now_s: float) -> None:
        """Keep since when each pod waits in the queue, by our own clock."""
        waiting = {pod.metadata.uid for pod in pods if is_queued(pod)}
        self._pending_since_s = {uid: self._pending_since_s.get(uid, now_s) for uid in waiting}

    def _cause(self, node: SeenNode, pod: GatedPod, now_s: float) -> Cause | None:
        if is_draining(node):
            return Cause("SiteDrains", f"{self._node} drains")
        down_s = 0.0 if self._down_since_s is None else now_s - self._down_since_s
        if self._down_since_s is not None and down_s >= self._settings.failed_s:
            return Cause("SiteFailed", f"{self._node} has not been ready for {down_s:.0f} s")
        since_s = self._pending_since_s.get(pod.metadata.uid)
        limit_s = self._limit_s(pod)
        if since_s is not None and limit_s is not None and now_s - since_s > limit_s:
            text = f"waits at {self._node} for more than {limit_s:.0f} s"
            return Cause(FORECAST_EXCEEDED, text)
        return None

    async def _elsewhere(self) -> bool:
        """Say whether a pod could wait elsewhere: here it would lose its place for nothing."""
        nodes = await self._client.list(NODES, kind=SeenNode, labels=TYPE_LABEL)
        return any(
            each.metadata.name != self._node and is_ready(each) and not each.spec.unschedulable
            for each in nodes.items or ()
        )

    def _limit_s(self, pod: GatedPod) -> float | None:
        """Return how long a pod may wait [s]; None: for ever, as nothing else was forecast."""
        try:
            forecast_s = float((pod.metadata.annotations or {}).get(FORECAST, ""))
        except ValueError:
            return None
        if not self._settings.wait_factor:
            return None
        return max(self._settings.wait_least_s, forecast_s * self._settings.wait_factor)

    async def _evict(self, pod: GatedPod, cause: Cause) -> None:
        """Take one pod away; ends early if Kubernetes has it no more."""
        meta = pod.metadata
        about = About("Pod", meta.name, meta.uid, meta.namespace)
        log.info("eviction_begins", uid=meta.uid, node=self._node, cause=cause.reason)
        pause_s = AGAIN_S[0]
        marked = False
        try:
            while True:
                try:
                    if not marked:
                        await self._mark(pod, cause)
                        self._recorder.warning(about, REASON, f"{cause.text}: its job is ended")
                        marked = True
                    if await self._gone(pod):
                        await self._fail(pod, cause, about)
                        return
                except NotFound:
                    return
                except TwinfraError as error:
                    text = f"{cause.text}; its job is not proved gone yet: {error.detail}"
                    self._recorder.warning(about, "EvictionWaits", text)
                await self._clock.sleep(pause_s)
                pause_s = min(AGAIN_S[1], pause_s * 1.5)
        finally:
            self._working.pop(meta.uid, None)

    async def _mark(self, pod: GatedPod, cause: Cause) -> None:
        """Write the condition first: whoever sees the pod fail can tell why.

        Raises:
            NotFound: the pod is gone, or another one has its name.
        """
        await self._status(pod, {"conditions": [self._condition(cause)]})

    async def _gone(self, pod: GatedPod) -> bool:
        """End the job and say whether the site has it no more.

        Raises:
            TwinfraError: the site does not answer.
        """
        body = reference(pod)
        try:
            await self._remote.delete(body)
        except NotFound:
            log.debug("job_unknown_already", uid=pod.metadata.uid)
        reports = await self._remote.status([body])
        return all(each.uid != pod.metadata.uid for each in reports)

    async def _fail(self, pod: GatedPod, cause: Cause, about: About) -> None:
        now = await self._client.get(PODS, pod.metadata.name, pod.metadata.namespace, kind=GatedPod)
        if now.metadata.uid != pod.metadata.uid:
            return
        if now.status.phase not in FINAL:
            text = f"{cause.text}; its job is gone"
            status = {"phase": "Failed", "reason": REASON, "message": text}
            await self._status(pod, {**status, "conditions": [self._condition(cause)]})
        owned = any(each.controller for each in pod.metadata.owner_references or ())
        again = (
            "what made it makes a new one, which is placed again"
            if owned
            else "nothing makes it again: create it anew, or use a Job"
        )
        self._recorder.warning(about, REASON, f"{cause.text}; its job is gone; {again}")
        log.info("pod_evicted", uid=pod.metadata.uid, node=self._node, cause=cause.reason)

    def _condition(self, cause: Cause) -> Json:
        return {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": cause.reason,
            "message": cause.text,
            "lastTransitionTime": rfc3339(self._clock.now())[:19] + "Z",
        }

    async def _status(self, pod: GatedPod, status: Json) -> None:
        meta = pod.metadata
        body = {"metadata": {"uid": meta.uid}, "status": status}
        try:
            await self._client.patch(
                PODS, meta.name, body, meta.namespace, kind=Thing, how=Patch.STRATEGIC, sub="status"
            )
        except TwinfraError as error:
            if error.status == 409:  # another pod has the name
                raise NotFound(f"pod {meta.name} is another one now") from error
            raise


_NOT_OVER = "status.phase!=Succeeded,status.phase!=Failed"


def is_ours(pod: GatedPod) -> bool:
    """Say whether we chose the pod's site, and its end was not asked for."""
    placed = PLACED in (pod.metadata.annotations or {})
    return placed and pod.metadata.deletion_timestamp is None


def is_queued(pod: GatedPod) -> bool:
    """Say whether a pod waits for its turn at its site: nothing else was forecast."""
    status = pod.status
    return status.phase == "Pending" and not status.begun and not status.reasons & NOT_THE_QUEUE


def reference(pod: GatedPod) -> Json:
    """Return the pod as ``/delete`` and ``/status`` want it."""
    meta = pod.metadata
    return {
        "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
        "spec": {
            "containers": [{"name": each.get("name")} for each in pod.spec.containers],
            "initContainers": [
                {"name": each.get("name")} for each in pod.spec.init_containers or ()
            ],
        },
        "status": {"phase": "Running"},
    }
