"""The inventory as the edge uses it: changes in, committed in groups; events out, in order.

Who changes a path holds `changing` for as long as disk and inventory may differ, so that the
watcher does not take the door's own work for somebody else's.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from twinfra.core.ids import new_uuid
from twinfra.core.tasks import to_the_end
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.data.edge.inventory.changes import Change, FilePut, FolderMade, Removed
from twinfra.data.edge.inventory.store import InventoryStore, Row, checksums_of
from twinfra.data.edge.model import Change as Kind
from twinfra.data.edge.model import Known, StorageEvent, moment_of

log = get_logger(__name__)

REMEMBERED = 16384
PRUNE_EVERY_S = 300.0


@dataclass
class _Ticket:
    """Changes that wait to be committed together with others'."""

    changes: Sequence[Change]
    done: bool = False
    failure: BaseException | None = None


@dataclass
class _Hold:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


class Inventory:
    """What is known of the files of one site.

    Args:
        store: the tables.
        clock: dates events.
        site: the site's name.
        rse: the site's storage element.
    """

    def __init__(self, store: InventoryStore, clock: Clock, *, site: str, rse: str) -> None:
        self._store, self._clock = store, clock
        self._site, self._rse = site, rse
        self._name = ""
        self._pending: list[_Ticket] = []
        self._commit = asyncio.Lock()
        self._held: dict[str, _Hold] = {}
        self._recent: OrderedDict[str, Known] = OrderedDict()
        self._wanted: dict[str, asyncio.Future[Known | None]] = {}
        self._looking = False
        self._lookups: asyncio.Task[None] | None = None
        self._news: asyncio.Future[None] | None = None
        self.newest = 0

    async def load(self) -> None:
        """Read who we are and how far events have come."""
        self._name = await self._store.fact("inventory", new_uuid())
        _, self.newest = await self._store.bounds()

    async def close(self) -> None:
        """Wait for look-ups under way; the database may be closed then."""
        if self._lookups is not None:
            await asyncio.wait([self._lookups])

    # ------------------------------------------------------------- changes

    @asynccontextmanager
    async def changing(self, *paths: str) -> AsyncIterator[None]:
        """Hold `paths`: nobody else changes them, or judges them, meanwhile."""
        ordered = sorted(set(paths))
        holds = []
        for path in ordered:
            hold = self._held.setdefault(path, _Hold())
            hold.users += 1
            holds.append(hold)
        taken: list[_Hold] = []
        try:
            for hold in holds:
                await hold.lock.acquire()
                taken.append(hold)
            yield
        finally:
            for hold in taken:
                hold.lock.release()
            for path, hold in zip(ordered, holds, strict=True):
                hold.users -= 1
                if not hold.users:
                    del self._held[path]

    async def record(self, *changes: Change) -> None:
        """Commit `changes` and their events, together with what others record at the moment.

        Guarantees: on return they are in the database; if this raises, none of them is.
        """
        ticket = _Ticket(changes)
        self._pending.append(ticket)
        async with self._commit:
            if not ticket.done:
                batch, self._pending = self._pending, []
                await to_the_end(self._apply(batch))
        if ticket.failure is not None:
            raise ticket.failure

    async def _apply(self, batch: Sequence[_Ticket]) -> None:
        failure: BaseException | None = None
        changes = [change for ticket in batch for change in ticket.changes]
        try:
            newest = await self._store.apply(changes, self._clock.now())
            self.newest = max(self.newest, newest or 0)
        except Exception as error:  # noqa: BLE001 - told to each who waits, not swallowed
            failure = error
        for ticket in batch:
            ticket.done, ticket.failure = True, failure
        if failure is None:
            self._remember(changes)
            self._wake()

    def _remember(self, changes: Sequence[Change]) -> None:
        for change in changes:
            if isinstance(change, FilePut):
                known = Known(change.path, change.version, change.checksums)
                self._recent[change.path] = known
                self._recent.move_to_end(change.path)
            elif isinstance(change, FolderMade):
                self._recent[change.path] = Known(change.path)
            elif isinstance(change, Removed) and self._is_file(change.path):
                self._recent.pop(change.path, None)
            else:
                self._recent.clear()
        while len(self._recent) > REMEMBERED:
            self._recent.popitem(last=False)

    def _is_file(self, path: str) -> bool:
        known = self._recent.get(path)
        return known is not None and not known.is_directory

    # ------------------------------------------------------------- looking

    async def known(self, path: str) -> Known | None:
        """Return what is known at `path`."""
        found = self._recent.get(path)
        if found is not None:
            return found
        wanted = self._wanted.get(path)
        if wanted is None:
            wanted = self._wanted[path] = asyncio.get_running_loop().create_future()
            if not self._looking:
                self._looking = True
                self._lookups = asyncio.get_running_loop().create_task(self._look_up())
        return await asyncio.shield(wanted)

    async def _look_up(self) -> None:
        """Answer questions together: those that come while one is asked wait for the next."""
        try:
            while self._wanted:
                wanted, self._wanted = self._wanted, {}
                try:
                    found = await self._store.known(wanted)
                except Exception as error:  # noqa: BLE001 - told to each who waits, not swallowed
                    for future in wanted.values():
                        future.set_exception(error)
                    continue
                for path, future in wanted.items():
                    future.set_result(found.get(path))
        finally:
            self._looking = False

    async def children(self, folder: str) -> dict[str, Known]:
        """Return what is known directly in `folder`, by path."""
        return await self._store.children(folder)

    async def folders(self) -> list[str]:
        """Return all directories known."""
        return await self._store.folders()

    # ------------------------------------------------------------- events

    async def events(self, after: int, limit: int) -> list[Row]:
        """Return up to `limit` rows of the outbox after id `after`."""
        return await self._store.events(after, limit)

    async def oldest(self) -> int:
        """Return the id of the oldest event that is kept."""
        return (await self._store.bounds())[0]

    def event_of(self, row: Row) -> StorageEvent:
        """Return the event of a file that a row of the outbox is."""
        kind: Kind = row["change"]
        return StorageEvent(
            id=f"{self._name}-{row['id']}",
            sequence=row["id"],
            change=kind,
            site=self._site,
            rse=self._rse,
            path=row["path"],
            at=row["at"],
            size_bytes=row["size_bytes"],
            checksums=checksums_of(row),
            modified_at=moment_of(row["mtime_ns"]) if row["mtime_ns"] is not None else None,
            cookie=row["cookie"],
        )

    async def news(self, after: int, timeout_s: float) -> bool:
        """Wait until there is an event after id `after`, or something else to look at.

        Returns:
            False when nothing came in time.
        """
        if self.newest > after:
            return True
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait([self._news], timeout=timeout_s)
        return bool(done)

    def wake(self) -> None:
        """Let everyone who waits for news look again."""
        self._wake()

    def _wake(self) -> None:
        waiting, self._news = self._news, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    async def prune_forever(self, *, keep_s: int, keep: int) -> None:
        """Drop old events from time to time; runs until it is cancelled."""
        while True:
            before = self._clock.now() - timedelta(seconds=keep_s)
            dropped = await self._store.prune(before, keep)
            if dropped:
                log.info("events_dropped", count=dropped)
            await self._clock.sleep(PRUNE_EVERY_S)
