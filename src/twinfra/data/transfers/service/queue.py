"""Who may start: files wait in the table, and start when their link has room.

Higher priority first, then older; links share what is free evenly. Woken by submissions and by
copies that end, and by the clock when a pause between two tries is over. The durable work of a try
is accepted in the transaction that takes the file from the queue.
"""

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from errno import ETIMEDOUT

from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.core.workflow import Engine
from twinfra.data.transfers.model.faults import Scope, fault
from twinfra.data.transfers.model.links import Window
from twinfra.data.transfers.model.records import TransferFile
from twinfra.data.transfers.model.states import FileState
from twinfra.data.transfers.service.copying import KIND
from twinfra.data.transfers.service.ledger import Ledger
from twinfra.data.transfers.settings import TransferSettings
from twinfra.data.transfers.store import TransferStore, TransferUnit

log = get_logger(__name__)

LOOK_AGAIN_S = 5.0
GATHER_S = 0.02
"""Ends of copies that come so soon after one another are answered by one look."""
TIDY_EVERY_S = 60.0
OVERDUE_BATCH = 500


class Queue:
    """Lets files start.

    Args:
        store: of the service.
        ledger: where files that waited too long are settled.
        settings: bounds.
        clock: tells the moment.
    """

    def __init__(
        self, store: TransferStore, ledger: Ledger, settings: TransferSettings, clock: Clock
    ) -> None:
        self._store, self._ledger = store, ledger
        self._settings, self._clock = settings, clock
        self._windows: dict[str, Window] = {}
        self._waiting: dict[str, int] = {}
        self._news = asyncio.Event()
        self._engine: Engine | None = None
        self._tidied_at = float("-inf")

    def attach(self, engine: Engine) -> None:
        """Name the engine that runs what is started (it is built after the queue)."""
        self._engine = engine

    async def interrupt(self, file: TransferFile) -> None:
        """Stop the try of a file that was called off, wherever it is."""
        if self._engine is not None:
            await self._engine.cancel(KIND, file.work_key)

    def wake(self) -> None:
        """Let the queue look at once."""
        self._news.set()

    async def settled(self, file: TransferFile, success: bool) -> None:
        """Learn from a try that ended, and use the room that it left."""
        self._windows[file.link] = self.window(file.link).after(
            success=success,
            waiting=self._waiting.get(file.link, 0),
            least=min(self._settings.link_min_active, self._most(file.link)),
            most=self._most(file.link),
        )
        self.wake()

    def window(self, link: str) -> Window:
        """Return how many copies at once `link` bears now; a new link starts half open."""
        most = self._most(link)
        least = min(self._settings.link_min_active, most)
        return self._windows.get(link) or Window((least + most + 1) // 2)

    async def run(self) -> None:
        """Let files start as room comes, for ever; runs until cancelled."""
        while True:
            self._news.clear()
            looked_at = self._clock.now()
            await self.admit()
            await self._tidy()
            pause_s = await self._until_next(looked_at)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._news.wait()
                    await asyncio.sleep(GATHER_S)

    async def admit(self) -> int:
        """Start what may start now; returns how many files that were."""
        now = self._clock.now()
        started = 0
        async with self._store.begin() as unit:
            self._waiting = await unit.waiting_by_link(now)
            if not self._waiting:
                return 0
            active = await unit.active_by_link()
            free = self._settings.max_active - sum(active.values())
            links = sorted(self._waiting, key=lambda link: active.get(link, 0))
            for place, link in enumerate(links):
                share = -(-max(0, free - started) // (len(links) - place))
                room = min(share, self.window(link).size - active.get(link, 0))
                if room > 0:
                    started += await self._start(unit, link, room)
        if started and self._engine is not None:
            self._engine.look()
        return started

    async def _start(self, unit: TransferUnit, link: str, room: int) -> int:
        started = 0
        if self._engine is None:
            return 0
        for file in await unit.next_of_link(link, self._clock.now(), room):
            if await unit.change(file, [FileState.SUBMITTED], state=FileState.READY):
                data = {"file_id": file.file_id, "attempt": file.attempt}
                await self._engine.start(unit.connection, KIND, file.work_key, data)
                started += 1
        return started

    async def _tidy(self) -> None:
        """Fail what waited too long and forget what ended long ago, at most once a minute."""
        if self._clock.monotonic() - self._tidied_at < TIDY_EVERY_S:
            return
        self._tidied_at = self._clock.monotonic()
        now = self._clock.now()
        async with self._store.begin() as unit:
            late = await unit.overdue(now, OVERDUE_BATCH)
            await unit.forget(now - timedelta(seconds=self._settings.keep_s))
            jobs = {job.job_id: job for job in await unit.jobs([file.job_id for file in late])}
        text = "the file waited longer than the job allows"
        for file in late:
            trouble = fault(Scope.AGENT, ETIMEDOUT, "QUEUE", text, final=True)
            await self._ledger.failed(jobs[file.job_id], file, trouble)

    async def _until_next(self, looked_at: datetime) -> float:
        async with self._store.read() as unit:
            soonest = await unit.next_due_at(looked_at)
        if soonest is None:
            return LOOK_AGAIN_S
        return min(LOOK_AGAIN_S, max(0.0, (soonest - self._clock.now()).total_seconds()))

    def _most(self, link: str) -> int:
        return max(1, self._settings.link_max_active_by.get(link, self._settings.link_max_active))
