"""The peer: a poller that asks for one pod per call, all in turn, a round every 5 seconds."""

import asyncio
import time

from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.interlink.model.reading import Json
from twinfra.core.errors import TwinfraError

ROUND_S = 5.0
FINAL = frozenset({"Succeeded", "Failed"})


class Poller:
    """Asks the same interLink API as the kubelet, about the same pods."""

    def __init__(self, client: InterlinkClient) -> None:
        self._client = client
        self.pods: dict[str, Json] = {}
        self.seen: dict[tuple[str, str], float] = {}
        self.calls = 0

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            began = time.monotonic()
            for uid, pod in list(self.pods.items()):
                await self._ask(uid, pod)
            await asyncio.sleep(max(0.0, ROUND_S - (time.monotonic() - began)))

    async def _ask(self, uid: str, pod: Json) -> None:
        self.calls += 1
        try:
            reports = await self._client.status([pod])
        except TwinfraError:
            return  # the next round asks again
        for report in reports:
            self.seen.setdefault((uid, str(report.phase.value)), time.time())
            if report.phase.value in FINAL:
                self.pods.pop(uid, None)
