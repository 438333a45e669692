"""Tells Kubernetes how pods are: one patch at a time for a pod, many pods at once.

A pod that changes twice while its patch is under way is patched once more, with the last word. What
says nothing new is not written.
"""

import asyncio
from typing import Any

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Patch, Thing
from twinfra.compute.kubelet.kube.resources import PODS
from twinfra.compute.kubelet.model.seen import JOB_ID
from twinfra.compute.kubelet.model.status import after, mark_of, status_of
from twinfra.compute.kubelet.pods.record import PodRecord
from twinfra.core.errors import Conflict, InvalidRequest, NotFound, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

AGAIN_S = (0.2, 10.0)


class StatusWriter:
    """Writes pods' statuses.

    Args:
        client: on the API server.
        address: of the node.
        clock: tells the moments, paces new attempts.
        workers: patches at once.
    """

    def __init__(self, client: KubeClient, address: str, clock: Clock, *, workers: int) -> None:
        self._client, self._address, self._clock = client, address, clock
        self._workers = workers
        self._queue: asyncio.Queue[PodRecord] = asyncio.Queue()
        self._queued: set[str] = set()
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._idle = asyncio.Condition()

    def put(self, pod: PodRecord) -> None:
        """Have a pod's last word written soon."""
        if pod.uid in self._busy:
            self._again.add(pod.uid)
        elif pod.uid not in self._queued:
            self._queued.add(pod.uid)
            self._queue.put_nowait(pod)

    async def written(self, pod: PodRecord) -> None:
        """Return when nothing of `pod` waits to be written."""
        async with self._idle:
            await self._idle.wait_for(
                lambda: pod.uid not in self._queued and pod.uid not in self._busy
            )

    async def run(self) -> None:
        """Write; runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            pod = await self._queue.get()
            self._queued.discard(pod.uid)
            self._busy.add(pod.uid)
            try:
                await self._write(pod)
            finally:
                self._busy.discard(pod.uid)
                if pod.uid in self._again:
                    self._again.discard(pod.uid)
                    self.put(pod)
                async with self._idle:
                    self._idle.notify_all()

    async def _write(self, pod: PodRecord) -> None:
        pause_s = AGAIN_S[0]
        while not pod.vanished:
            status = self._next(pod)
            body = self._body(pod, status)
            if body is None:
                return
            try:
                await self._client.patch(
                    PODS, pod.name, body, pod.namespace, kind=Thing, how=Patch.STRATEGIC,
                    sub="status",
                )  # fmt: skip
            except (NotFound, Conflict):  # it is gone: the watch will say so
                log.debug("pod_gone_before_status", uid=pod.uid)
                return
            except InvalidRequest as error:
                log.warning("pod_status_refused", uid=pod.uid, why=error.detail)
                return
            except TwinfraError as error:
                log.info("pod_status_delayed", uid=pod.uid, why=error.detail)
                self._give_back(pod, status)
                await self._clock.sleep(error.retry_after_s or pause_s)
                pause_s = min(AGAIN_S[1], pause_s * 2)
                continue
            if status is not None:
                pod.told = after(pod.told, status)
            pod.noted = bool(pod.native_id)
            return

    def _next(self, pod: PodRecord) -> dict[str, Any] | None:
        """Take the pod's next status; none where nothing new is to be said."""
        if pod.final:
            pod.report = pod.override = None
            return None
        status, pod.override = pod.override, None
        if status is None and pod.report is not None:
            status = status_of(
                pod.report, pod.facts, pod.told, address=self._address, now=self._clock.now()
            )
            pod.report = None
        if status is None or mark_of(status) == pod.told.mark:
            return None
        return status

    def _body(self, pod: PodRecord, status: dict[str, Any] | None) -> dict[str, Any] | None:
        metadata: dict[str, Any] = {"uid": pod.uid}
        if pod.native_id and not pod.noted:
            metadata["annotations"] = {JOB_ID: pod.native_id}
        elif status is None:
            return None
        return {"metadata": metadata, **({} if status is None else {"status": status})}

    def _give_back(self, pod: PodRecord, status: dict[str, Any] | None) -> None:
        """Keep what could not be written, unless there is a newer word."""
        if pod.report is None and pod.override is None and status is not None:
            pod.override = status
