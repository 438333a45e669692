"""Looks at paths where something may have happened behind the door's back, and records what is so.

A path is looked at once it has been quiet for a moment; a file that somebody still writes is left
until they are done. Knows nothing of inotify: ``watcher`` says where to look.
"""

import asyncio
import fcntl
import heapq
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

from sqlalchemy.exc import SQLAlchemyError

from twinfra.core.telemetry import get_logger
from twinfra.data.edge.files.checksums import read_note, sum_file, version_of, write_note
from twinfra.data.edge.files.tree import Found, Parts, Tree
from twinfra.data.edge.inventory.changes import FilePut, FolderMade, Removed
from twinfra.data.edge.inventory.inventory import Inventory
from twinfra.data.edge.model import Checksums, Known, Version
from twinfra.data.edge.paths import resource_at
from twinfra.data.edge.threads import in_thread

log = get_logger(__name__)

AT_ONCE = 64
CROWD = 20_000
RETRY_S = 1.0
_IGNORED_SIGNAL = signal.SIGURG  # the kernel's word that somebody wants our lease; default: nothing


class Busy(Enum):
    """Why a file cannot be summed up now."""

    WRITTEN = "somebody has it open for writing, or has just written"
    CHANGED = "it changed while it was read"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the examiner waits.

    Attributes:
        settle_s: after the last notice, before a path is looked at.
        growing_s: between two looks at a file that is being written.
    """

    settle_s: float
    growing_s: float


class Examiner:
    """Brings the inventory up to what the disk says, path by path.

    Args:
        tree: the disk.
        inventory: what is known.
        pools: threads for short file work, and for reading whole files.
        patience: how long to wait.
    """

    def __init__(
        self,
        tree: Tree,
        inventory: Inventory,
        pools: tuple[Executor, Executor],
        patience: Patience,
    ) -> None:
        self._tree, self._inventory = tree, inventory
        self._pool, self._reading = pools
        self._patience = patience
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []
        self._working: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._alarm = asyncio.Event()
        self._calm = asyncio.Event()
        self._calm.set()
        self._stopped = False

    @property
    def backlog(self) -> int:
        """How many paths wait or are being looked at."""
        return len(self._due) + len(self._working)

    def notice(self, path: str, delay_s: float | None = None) -> None:
        """Look at `path` once it has been quiet for a moment."""
        wait_s = self._patience.settle_s if delay_s is None else delay_s
        due = time.monotonic() + wait_s
        self._due[path] = due
        heapq.heappush(self._heap, (due, path))
        self._alarm.set()
        if len(self._due) > CROWD:
            self._calm.clear()

    async def calm(self) -> None:
        """Wait while too many paths wait."""
        await self._calm.wait()

    async def run(self) -> None:
        """Look at what is due; runs until it is cancelled."""
        try:
            while True:
                path = await self._next()
                await self._room.acquire()
                self._working.add(path)
                task = asyncio.get_running_loop().create_task(self._look(path))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            self._stopped = True
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _next(self) -> str:
        """Return the next path that is due and not being looked at; waits for it."""
        while True:
            now = time.monotonic()
            while self._heap and self._heap[0][0] <= now:
                due, path = heapq.heappop(self._heap)
                if self._due.get(path) != due:
                    continue  # noticed again since
                del self._due[path]
                if path not in self._working:
                    return path
                self.notice(path)
            self._alarm.clear()
            wait_s = self._heap[0][0] - now if self._heap else None
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._alarm.wait()

    async def _look(self, path: str) -> None:
        try:
            await self.examine(path)
        except (OSError, SQLAlchemyError) as error:
            log.warning("path_not_examined", path=path, error=str(error))
            self.notice(path, RETRY_S)
        finally:
            self._working.discard(path)
            self._room.release()
            if len(self._due) < CROWD:
                self._calm.set()

    async def examine(self, path: str) -> None:
        """Record what is at `path` now; what cannot be judged yet is looked at again later."""
        parts = resource_at(path).parts
        async with self._inventory.changing(path):
            found = await in_thread(self._pool, self._find, parts)
            known = await self._inventory.known(path)
            if found is None or found.version is None:
                await self._record_absence_or_folder(path, found, known)
                return
        if known is not None and known.version == found.version:
            return
        outcome = await in_thread(self._reading, self._sum, parts, found.version)
        if isinstance(outcome, Busy):
            busy = outcome is Busy.WRITTEN
            self.notice(path, self._patience.growing_s if busy else None)
            return
        async with self._inventory.changing(path):
            again = await in_thread(self._pool, self._find, parts)
            if again is None or again.version != found.version:
                self.notice(path)
                return
            await self._inventory.record(
                FilePut(path, found.version, outcome, rewritten=not _touched(known, found.version))
            )

    async def _record_absence_or_folder(
        self, path: str, found: Found | None, known: Known | None
    ) -> None:
        if found is None:
            if known is not None:
                await self._inventory.record(Removed(path))
        elif known is None or not known.is_directory:
            await self._inventory.record(FolderMade(path))

    # ------------------------------------------------------------- in threads

    def _find(self, parts: Parts) -> Found | None:
        try:
            return self._tree.find(parts)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _sum(self, parts: Parts, version: Version) -> Checksums | Busy:
        try:
            descriptor, found = self._tree.open(parts)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return Busy.CHANGED
        try:
            if version_of(found) != version:
                return Busy.CHANGED
            if _is_being_written(descriptor, found, self._patience.growing_s):
                return Busy.WRITTEN
            checksums = read_note(descriptor, version)
            if checksums is None:
                checksums = sum_file(descriptor, self._is_stopped)
                if checksums is None:
                    return Busy.CHANGED
                write_note(descriptor, version, checksums)
            return checksums
        finally:
            os.close(descriptor)

    @property
    def _is_stopped(self) -> Callable[[], bool]:
        return lambda: self._stopped


def _touched(known: Known | None, version: Version) -> bool:
    """Say whether it is the same file as before, of the same size."""
    old = known.version if known is not None else None
    return old is not None and old.inode == version.inode and old.size_bytes == version.size_bytes


def _is_being_written(descriptor: int, found: os.stat_result, growing_s: float) -> bool:
    """Say whether somebody has the file open for writing.

    The kernel grants a read lease only on a file that nobody writes (fcntl(2), F_SETLEASE). Where
    it grants none at all, a file counts as finished when it has been still for `growing_s`.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, _IGNORED_SIGNAL)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return time.time() - found.st_mtime < growing_s
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
