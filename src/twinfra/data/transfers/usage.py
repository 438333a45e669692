"""Hands usage records to accounting: kept with the job that they belong to, sent until taken."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.data.transfers.store import TransferStore

log = get_logger(__name__)

BATCH = 200
LOOK_S = 2.0
PAUSE_MAX_S = 60.0
Post = Callable[[Sequence[Mapping[str, Any]]], Awaitable[object]]


class UsagePump:
    """Sends what stands in the table of usage, in order, for ever.

    Args:
        store: of the service.
        post: hands records over; the same record twice counts once.
        clock: paces tries.
    """

    def __init__(self, store: TransferStore, post: Post, clock: Clock) -> None:
        self._store, self._post, self._clock = store, post, clock
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Let the pump look at once."""
        self._news.set()

    async def run(self) -> None:
        """Send for ever; runs until cancelled. While nobody takes records they wait."""
        pause_s = LOOK_S
        while True:
            self._news.clear()
            try:
                sent = await self.pump()
            except TwinfraError as error:
                log.warning("usage_not_taken", error=error.detail, after_s=pause_s)
                await self._clock.sleep(pause_s)
                pause_s = min(PAUSE_MAX_S, pause_s * 2)
                continue
            pause_s = LOOK_S
            if not sent:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._news.wait()

    async def pump(self) -> int:
        """Send one batch; returns how many records that was."""
        async with self._store.read() as unit:
            rows = await unit.usage(BATCH)
        if not rows:
            return 0
        await self._post([record for _, record in rows])
        async with self._store.begin() as unit:
            await unit.drop_usage([row_id for row_id, _ in rows])
        return len(rows)
