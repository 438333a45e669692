"""Renews what runs out inside running jobs: ServiceAccount tokens, before their life is over.

The site swaps the files of the pod's projected volumes; a site without the extension ``files``
cannot, and the pod's event says so once.
"""

import heapq
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from twinfra.compute.interlink.client import PodCreateRequest
from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.model.volumes import SHORTEST_TOKEN_S
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
        renewed_at: share of a token's life after which it is renewed.
    """

    def __init__(
        self,
        site: FileSite,
        pods: Mapping[str, PodRecord],
        recorder: EventRecorder,
        clock: Clock,
        extensions: Callable[[], frozenset[str]],
        *,
        renewed_at: float = 0.8,
    ) -> None:
        self._site, self._pods, self._recorder = site, pods, recorder
        self._clock, self._extensions = clock, extensions
        self._spread_s = SHORTEST_TOKEN_S * min(renewed_at, 1 - renewed_at) / 2
        self._due: list[tuple[float, str]] = []
        self._moments: dict[str, float] = {}
        self.assembler: Assembler

    def at(self, pod: PodRecord, moment_s: float) -> None:
        """Renew a pod's tokens at a moment of the monotonic clock, and at none named before."""
        self._moments[pod.uid] = moment_s
        heapq.heappush(self._due, (moment_s, pod.uid))

    def adopt(self, pod: PodRecord) -> None:
        """Renew the tokens of a pod that was handed over before our time, if it has any.

        Nobody knows how old they are: it is done while the shortest-lived still have half of what
        they have when due. Pods take turns by their UIDs, so that not all are renewed at once.
        """
        if pod.facts.has_tokens and pod.uid not in self._moments:
            turn = zlib.crc32(pod.uid.encode()) / 2**32
            self.at(pod, self._clock.monotonic() + turn * self._spread_s)

    async def run(self) -> None:
        """Renew what is due; runs until cancelled."""
        while True:
            now_s = self._clock.monotonic()
            while self._due and self._due[0][0] <= now_s:
                moment_s, uid = heapq.heappop(self._due)
                if self._moments.get(uid) != moment_s:
                    continue
                del self._moments[uid]
                pod = self._pods.get(uid)
                if pod is not None:
                    await self._renew(pod)
            next_s = self._due[0][0] - now_s if self._due else LOOK_S
            await self._clock.sleep(min(LOOK_S, max(0.05, next_s)))

    async def _renew(self, pod: PodRecord) -> None:
        if pod.final or pod.deleting or pod.vanished or pod.stage is Stage.LEFT:
            return
        if pod.stage is not Stage.LIVE:
            self.at(pod, self._clock.monotonic() + AGAIN_S)
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
