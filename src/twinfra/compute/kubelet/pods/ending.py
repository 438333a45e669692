"""Ends a pod at its site and lets Kubernetes forget it, in this order: nothing is orphaned.

A pod that Kubernetes has dropped already (deleted by force, or while we were away) is ended at its
site all the same.
"""

import asyncio
from collections.abc import Callable

from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.resources import PODS
from twinfra.compute.kubelet.pods.record import PodRecord, Stage
from twinfra.compute.kubelet.pods.writer import StatusWriter
from twinfra.compute.kubelet.ports import Json, Remote
from twinfra.core.errors import Conflict, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

AGAIN_S = (0.5, 30.0)
LOOK_S = (0.1, 2.0)


class Ending:
    """The way of a pod out.

    Args:
        client: on the API server.
        remote: the site.
        writer: tells Kubernetes.
        recorder: tells people.
        clock: paces.
        soon: asks for a pod's state.
    """

    def __init__(
        self,
        client: KubeClient,
        remote: Remote,
        writer: StatusWriter,
        recorder: EventRecorder,
        clock: Clock,
        soon: Callable[[str], None],
    ) -> None:
        self._client, self._remote, self._writer = client, remote, writer
        self._recorder, self._clock, self._soon = recorder, clock, soon

    async def run(self, pod: PodRecord) -> None:
        """End a pod; returns when neither the site nor Kubernetes has it."""
        if pod.stage is not Stage.NEW:
            await self.end_there(pod)
        pod.stage = Stage.LEFT
        if not pod.vanished:
            await self._writer.written(pod)
            await self._forget(pod)

    async def end_there(self, pod: PodRecord) -> None:
        """End a pod at its site; returns when the site has it no more, or it is over there."""
        pod.gone = pod.gone or asyncio.Event()
        await self._ask_end(pod)
        pause_s = LOOK_S[0]
        while not pod.gone.is_set():
            self._soon(pod.uid)
            waiting = asyncio.create_task(pod.gone.wait())
            pausing = asyncio.create_task(_pause(self._clock, pause_s))
            try:
                await asyncio.wait({waiting, pausing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                pausing.cancel()
            pause_s = min(LOOK_S[1], pause_s * 1.5)

    async def _ask_end(self, pod: PodRecord) -> None:
        pause_s = AGAIN_S[0]
        while True:
            try:
                await self._remote.delete(_ending(pod))
            except TwinfraError as error:
                if error.status == 404:
                    return
                log.warning("pod_not_ended", uid=pod.uid, code=error.code, why=error.detail)
                if not pod.vanished:
                    text = f"the site does not end it: {error.detail}"
                    self._recorder.warning(pod.about, "FailedKillPod", text)
                await self._clock.sleep(error.retry_after_s or pause_s)
                pause_s = min(AGAIN_S[1], pause_s * 2)
            else:
                return

    async def _forget(self, pod: PodRecord) -> None:
        """Have Kubernetes drop the pod, and no other of its name."""
        pause_s = AGAIN_S[0]
        while not pod.vanished:
            try:
                await self._client.delete(PODS, pod.name, pod.namespace, grace_s=0, uid=pod.uid)
            except Conflict:
                return
            except TwinfraError as error:
                log.info("pod_not_dropped", uid=pod.uid, code=error.code, why=error.detail)
                await self._clock.sleep(error.retry_after_s or pause_s)
                pause_s = min(AGAIN_S[1], pause_s * 2)
            else:
                return


def _ending(pod: PodRecord) -> Json:
    """Return the body of ``/delete``: the pod, with the grace that its deletion allows."""
    body = pod.ref()
    body["metadata"]["deletionGracePeriodSeconds"] = pod.grace_s
    body["spec"]["terminationGracePeriodSeconds"] = pod.grace_s
    return body


async def _pause(clock: Clock, seconds: float) -> None:
    await clock.sleep(seconds)
