"""Hears how pods are: by the site's events where it has them, else by asking for all at once.

Whoever wants to know a pod's state soon says so (`soon`); what is asked for meanwhile goes in one
call. Events never replace the truth: now and then all is asked for all the same. One entry that is
an error does not spoil the answer for the others.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping

from twinfra.compute.interlink.client import PodReport
from twinfra.compute.kubelet.pods.record import PodRecord, Stage
from twinfra.compute.kubelet.ports import Remote
from twinfra.compute.kubelet.settings import KubeletSettings
from twinfra.core.errors import InvalidRequest, TwinfraError, UpstreamFault
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

MOST_AT_ONCE = 5000
AGAIN_S = (0.25, 10.0)
SPOILERS_MOST = 8
EVENTS = "events"


class Freshness:
    """Asks and listens.

    Args:
        remote: the site.
        pods: of the node, by UID; read only.
        hear: called with each report.
        miss: called with each pod that the site was asked for and does not know.
        settings: how often.
        clock: paces.
    """

    def __init__(
        self,
        remote: Remote,
        pods: Mapping[str, PodRecord],
        hear: Callable[[PodReport], None],
        miss: Callable[[PodRecord], None],
        settings: KubeletSettings,
        clock: Clock,
    ) -> None:
        self._remote, self._pods = remote, pods
        self._hear, self._miss = hear, miss
        self._settings, self._clock = settings, clock
        self._wanted: set[str] = set()
        self._spoilers: dict[str, bool] = {}
        self._wake = asyncio.Event()
        self._listens = False
        self._can_listen = asyncio.Event()

    def extensions(self, names: Iterable[str]) -> None:
        """Take note of what the site's ping names."""
        if EVENTS in names:
            self._can_listen.set()
        else:
            self._can_listen.clear()

    def soon(self, uid: str) -> None:
        """Have a pod's state asked for now."""
        self._wanted.add(uid)
        self._wake.set()

    def all_soon(self) -> None:
        """Have the state of all pods asked for that may have changed."""
        self._wanted |= {
            uid
            for uid, pod in self._pods.items()
            if pod.stage is Stage.LIVE and (pod.deleting or pod.vanished or not pod.final)
        }
        self._wake.set()

    async def run(self) -> None:
        """Ask and listen; runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._ask())
            group.create_task(self._pace())
            group.create_task(self._listen())

    async def _pace(self) -> None:
        while True:
            pause_s = self._settings.resync_s if self._listens else self._settings.poll_s
            await self._clock.sleep(pause_s)
            self.all_soon()

    async def _listen(self) -> None:
        while True:
            await self._can_listen.wait()
            try:
                async for event in self._remote.events():
                    self._listens = True
                    if event.report is None:
                        self.all_soon()
                    else:
                        self._hear(event.report)
            except TwinfraError as error:
                log.info("events_refused", code=error.code, why=error.detail)
            self._listens = False
            await self._clock.sleep(self._settings.poll_s)

    async def _ask(self) -> None:
        pause_s = AGAIN_S[0]
        while True:
            await self._wake.wait()
            self._wake.clear()
            asked = [pod for uid in self._wanted if (pod := self._pods.get(uid)) is not None]
            self._wanted.clear()
            for uid in self._spoilers.keys() - self._pods.keys():
                del self._spoilers[uid]
            for start in range(0, len(asked), MOST_AT_ONCE):
                some = asked[start : start + MOST_AT_ONCE]
                try:
                    await self._ask_apart(some)
                    pause_s = AGAIN_S[0]
                except TwinfraError as error:
                    log.info("status_unanswered", code=error.code, why=error.detail)
                    self._wanted |= {pod.uid for pod in some}
                    await self._clock.sleep(pause_s)
                    pause_s = min(AGAIN_S[1], pause_s * 2)
                    self._wake.set()

    async def _ask_apart(self, pods: list[PodRecord]) -> None:
        """Ask for all; where the answer is spoiled, for halves, down to the pods that spoil it.

        Those are asked for by themselves from then on, some each time.

        Raises:
            TwinfraError: no answer, or many pods spoil it; those are known by then.
        """
        asked = {pod.uid: pod for pod in pods}
        known = [uid for uid in self._spoilers if uid in asked]
        parts = [[asked[uid]] for uid in known[:SPOILERS_MOST]]
        parts.append([pod for pod in pods if pod.uid not in self._spoilers])
        new = 0
        while parts:
            some = parts.pop()
            try:
                if some:
                    await self._ask_for(some)
            except (InvalidRequest, UpstreamFault) as error:
                middle = len(some) // 2
                if middle:
                    parts += [some[middle:], some[:middle]]
                    continue
                new += self._note_spoiler(some[0], error)
                if new == SPOILERS_MOST:
                    raise
            else:
                for pod in some:
                    self._spoilers.pop(pod.uid, None)

    def _note_spoiler(self, pod: PodRecord, error: TwinfraError) -> bool:
        """Keep in mind, at the end, that a pod's entry is an error; return whether that is new."""
        is_new = self._spoilers.pop(pod.uid, None) is None
        self._spoilers[pod.uid] = True
        if is_new:
            log.warning("status_is_an_error", uid=pod.uid, code=error.code, why=error.detail)
        return is_new

    async def _ask_for(self, pods: list[PodRecord]) -> None:
        told = {report.uid: report for report in await self._remote.status([p.ref() for p in pods])}
        for pod in pods:
            report = told.get(pod.uid)
            if report is None:
                self._miss(pod)
            else:
                self._hear(report)
