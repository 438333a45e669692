"""Renews what runs out inside running jobs: ServiceAccount tokens, at 80 % of their life.

The site swaps the files of the pod's projected volumes; a site without the extension ``files``
cannot, and the pod's event says so once.
"""

import heapq
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twinfra.compute.interlink.client import PodCreateRequest
from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.pods.record import PodRecord, Stage
from twinfra.core.errors import NotFound, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

FILES = "files"
AGAIN_S = 10.0
LOOK_S = 5.0


class FileSite(Protocol):
    """A site that renews files; `InterlinkClient` is one."""

    async def files(self, uid: str, *, projected: tuple[dict[str, Any], ...]) -> None:
        """Renew the files of a running pod's volumes."""
        ...


class Assembler(Protocol):
    """Makes what goes to the site anew; `Creation` is one, and schedules the next renewal."""

    async def again(self, pod: PodRecord) -> PodCreateRequest:
        """Return the pod and its objects as they are now."""
        ...


class Renewal:
    """Remembers which pod's tokens run out when.

    Args:
        site: takes files.
        pods: of the node, by UID; read only.
        recorder: tells people.
        clock: tells the moments.
        extensions: of the site, as last told.
    """

    def __init__(
        self,
        site: FileSite,
        pods: Mapping[str, PodRecord],
        recorder: EventRecorder,
        clock: Clock,
        extensions: Callable[[], frozenset[str]],
    ) -> None:
        self._site, self._pods, self._recorder = site, pods, recorder
        self._clock, self._extensions = clock, extensions
        self._due: list[tuple[float, str]] = []
        self.assembler: Assembler

    def at(self, pod: PodRecord, moment_s: float) -> None:
        """Renew a pod's tokens at a moment of the monotonic clock."""
        heapq.heappush(self._due, (moment_s, pod.uid))

    async def run(self) -> None:
        """Renew what is due; runs until cancelled."""
        while True:
            now_s = self._clock.monotonic()
            while self._due and self._due[0][0] <= now_s:
                _, uid = heapq.heappop(self._due)
                pod = self._pods.get(uid)
                if pod is not None:
                    await self._renew(pod)
            next_s = self._due[0][0] - now_s if self._due else LOOK_S
            await self._clock.sleep(min(LOOK_S, max(0.05, next_s)))

    async def _renew(self, pod: PodRecord) -> None:
        if pod.final or pod.deleting or pod.vanished or pod.stage is Stage.LEFT:
            return
        if FILES not in self._extensions():
            self._tell_once(pod)
            return
        try:
            request = await self.assembler.again(pod)
            await self._site.files(pod.uid, projected=request.projected_maps)
            log.info("pod_tokens_renewed", uid=pod.uid)
        except NotFound as error:
            log.info("pod_tokens_unwanted", uid=pod.uid, why=error.detail)
        except TwinfraError as error:
            log.warning("pod_tokens_not_renewed", uid=pod.uid, code=error.code, why=error.detail)
            self.at(pod, self._clock.monotonic() + AGAIN_S)

    def _tell_once(self, pod: PodRecord) -> None:
        text = "this site does not renew files: the pod's ServiceAccount token will run out"
        self._recorder.warning(pod.about, "TokenNotRenewed", text)
