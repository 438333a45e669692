"""Hears from the kernel where something happens in the tree, and compares whole folders at need.

inotify only wakes: it says where to look, and ``examiner`` looks. A new folder is watched first and
then listed, so what was made in it a moment earlier is seen too; a lost notice, or a start after
a time away, is made good by comparing everything.
"""

import asyncio
import select
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Executor
from contextlib import suppress

from asyncinotify import Event, Inotify, Mask

from twinfra.core.telemetry import get_logger
from twinfra.data.edge.files.tree import Found, Tree
from twinfra.data.edge.inventory.changes import FolderMade
from twinfra.data.edge.inventory.examiner import Examiner
from twinfra.data.edge.inventory.inventory import Inventory
from twinfra.data.edge.model import Known
from twinfra.data.edge.paths import OWN, resource_at
from twinfra.data.edge.threads import in_thread

log = get_logger(__name__)

WANTED = (
    Mask.CLOSE_WRITE
    | Mask.CREATE
    | Mask.DELETE
    | Mask.MOVED_FROM
    | Mask.MOVED_TO
    | Mask.ATTRIB
    | Mask.ONLYDIR
    | Mask.EXCL_UNLINK
)
READ_AT_ONCE = 256
FOLDERS_AT_ONCE = 32
RESCAN_UNWATCHED_S = 30.0
GONE = Mask.DELETE | Mask.MOVED_FROM
COME = Mask.CREATE | Mask.MOVED_TO


class Watcher:
    """Watches the tree of one site.

    Args:
        tree: what is watched.
        inventory: what is known of it.
        examiner: looks at what may have changed.
        pool: threads for listing.
        rescan_s: everything is compared so often.
    """

    def __init__(
        self,
        tree: Tree,
        inventory: Inventory,
        examiner: Examiner,
        pool: Executor,
        rescan_s: float,
    ) -> None:
        self._tree, self._inventory, self._examiner = tree, inventory, examiner
        self._pool, self._rescan_s = pool, rescan_s
        self._inotify: Inotify | None = None
        self._folders: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        self._unwatched = False
        self._busy = False
        self._to_scan: asyncio.Queue[str] = asyncio.Queue()
        self._whole = asyncio.Event()
        self.scans = 0

    @property
    def is_idle(self) -> bool:
        """Whether the kernel has nothing to say, and no folder waits to be compared."""
        if self._inotify is None or self._busy or not self._to_scan.empty():
            return False
        return not select.select([self._inotify.fd], [], [], 0)[0]

    def open(self) -> None:
        """Begin to hear; what happens from now on is not missed."""
        self._inotify = Inotify(cache_size=READ_AT_ONCE)
        self._watch("/")
        self._whole.set()

    def close(self) -> None:
        """Stop hearing."""
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None

    async def hear(self) -> None:
        """Take what the kernel says; runs until it is cancelled."""
        assert self._inotify is not None  # noqa: S101 - `open` comes first
        while True:
            self._on(await self._inotify.get())

    async def compare_new_folders(self) -> None:
        """List folders as they come; runs until it is cancelled."""
        while True:
            tops = [await self._to_scan.get()]
            while not self._to_scan.empty():
                tops.append(self._to_scan.get_nowait())
            self._busy = True
            try:
                await self._compare_below(tops)
            finally:
                self._busy = False

    async def compare_everything(self) -> None:
        """Compare the tree with the inventory at the start, when asked and once in a while."""
        while True:
            with suppress(TimeoutError):
                wait_s = min(self._rescan_s, RESCAN_UNWATCHED_S if self._unwatched else 1e9)
                async with asyncio.timeout(wait_s):
                    await self._whole.wait()
            self._whole.clear()
            seen = await self._compare_below(["/"])
            for folder in await self._inventory.folders():
                if folder not in seen:
                    self._examiner.notice(folder)
            self.scans += 1

    # ------------------------------------------------------------- notices

    def _on(self, event: Event) -> None:
        if event.mask & Mask.Q_OVERFLOW:
            log.warning("notices_lost")
            self._whole.set()
            return
        watch = event.watch
        if watch is None:
            return
        if event.mask & Mask.IGNORED:
            folder = self._folders.pop(watch.wd, None)
            if folder is not None and self._watches.get(folder) == watch.wd:
                del self._watches[folder]
            return
        folder = self._folders.get(watch.wd)
        if folder is None or event.name is None:
            return
        name = str(event.name)
        if (folder == "/" and name == OWN) or not _is_text(name):
            return
        path = f"{folder.rstrip('/')}/{name}"
        if event.mask & Mask.ISDIR and event.mask & COME:
            self._to_scan.put_nowait(path)
            return
        if event.mask & Mask.ISDIR and event.mask & GONE:
            self._unwatch(path)
        self._examiner.notice(path)

    def _watch(self, folder: str) -> None:
        """Watch one folder; watching it again corrects its path."""
        assert self._inotify is not None  # noqa: S101 - `open` comes first
        try:
            with self._tree.folder(resource_at(folder).parts) as descriptor:
                wd = self._inotify.add_watch(f"/proc/self/fd/{descriptor}", WANTED).wd
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            if not self._unwatched:
                log.warning("folder_not_watched", path=folder, error=str(error))
            self._unwatched = True
            return
        self._folders[wd] = folder
        self._watches[folder] = wd

    def _unwatch(self, path: str) -> None:
        """Forget a folder that went away, and those below it."""
        assert self._inotify is not None  # noqa: S101 - `open` comes first
        stem = path + "/"
        for folder in [f for f in self._watches if f == path or f.startswith(stem)]:
            wd = self._watches.pop(folder)
            self._folders.pop(wd, None)
            watch = self._inotify._watches.get(wd)  # noqa: SLF001 - there is no look-up by number
            if watch is not None:
                with suppress(OSError):  # a deleted folder's watch is gone already
                    self._inotify.rm_watch(watch)

    # ------------------------------------------------------------- comparing

    async def _compare_below(self, tops: Iterable[str]) -> set[str]:
        """Watch and compare `tops` and all below them; returns the folders that are there."""
        seen: set[str] = set()
        waiting = deque((top, False) for top in tops)
        while waiting:
            count = min(len(waiting), FOLDERS_AT_ONCE)
            batch = dict(waiting.popleft() for _ in range(count))
            outcomes = await asyncio.gather(
                *(self._compare_one(folder, new) for folder, new in batch.items())
            )
            for folder, deeper in zip(batch, outcomes, strict=True):
                if deeper is not None:
                    seen.add(folder)
                    waiting.extend(deeper)
            await self._examiner.calm()
        return seen

    async def _compare_one(self, folder: str, new: bool) -> list[tuple[str, bool]] | None:
        """Watch and compare one folder.

        Args:
            folder: its path.
            new: it is known to be unknown to the inventory.

        Returns:
            The folders in it, each with whether it is new; none if it is away.
        """
        self._watch(folder)
        found = await in_thread(self._pool, self._list, folder)
        if found is None:
            self._examiner.notice(folder)
            return None
        if folder != "/":
            async with self._inventory.changing(folder):
                old = None if new else await self._inventory.known(folder)
                new = old is None or not old.is_directory
                if new:
                    await self._inventory.record(FolderMade(folder))
        return self._compare(folder, found, {} if new else await self._inventory.children(folder))

    def _compare(
        self, folder: str, found: Iterable[Found], known: dict[str, Known]
    ) -> list[tuple[str, bool]]:
        """Have examined what differs; returns the folders in it, each with whether it is new."""
        deeper = []
        for item in found:
            path = f"{folder.rstrip('/')}/{item.name}"
            old = known.pop(path, None)
            if item.is_directory:
                deeper.append((path, old is None))
            elif old is None or old.version != item.version:
                self._examiner.notice(path)
        for path in known:
            self._examiner.notice(path)
        return deeper

    def _list(self, folder: str) -> list[Found] | None:
        try:
            return list(self._tree.entries(resource_at(folder).parts))
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            return None


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
