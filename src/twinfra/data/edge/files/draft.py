"""A file on its way in: written and checksummed block by block, visible only when it is whole.

MD5 takes as long as all else together, so it runs beside it in a thread of its own.
"""

import asyncio
import os
from concurrent.futures import Executor
from types import TracebackType
from typing import Self

from twinfra.data.edge.files.checksums import Summer, version_of, write_note
from twinfra.data.edge.files.tree import Parts, Tree
from twinfra.data.edge.model import Checksums, Version
from twinfra.data.edge.threads import in_thread

BESIDE_BYTES = 256 * 1024


class Draft:
    """One new file, not yet visible; an asynchronous context manager that leaves nothing behind.

    Args:
        tree: where it will appear.
        pool: threads for file work.
        name: of the draft; unique.
    """

    def __init__(self, tree: Tree, pool: Executor, name: str) -> None:
        self._tree, self._pool, self._name = tree, pool, name
        self._summer = Summer()
        self._descriptor = -1
        self._published = False
        self.size_bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
        if self._descriptor >= 0 and not self._published:
            self._tree.drop_draft(self._name)

    async def write(self, block: memoryview | bytes) -> None:
        """Add `block`; on return it may be reused.

        Raises:
            OSError: the disk is full or broken.
        """
        if len(block) < BESIDE_BYTES:
            await in_thread(self._pool, self._write_all, block)
        else:
            both = await asyncio.gather(
                in_thread(self._pool, self._write, block),
                in_thread(self._pool, self._summer.slow, block),
                return_exceptions=True,
            )
            for outcome in both:
                if isinstance(outcome, BaseException):
                    raise outcome
        self.size_bytes += len(block)

    def checksums(self) -> Checksums:
        """Return the checksums of what was written so far."""
        return self._summer.checksums()

    def _write_all(self, block: memoryview | bytes) -> None:
        self._write(block)
        self._summer.slow(block)

    def _open(self) -> None:
        if self._descriptor < 0:
            self._descriptor = self._tree.make_draft(self._name)

    def _write(self, block: memoryview | bytes) -> None:
        self._open()
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
        self._summer.fast(block)

    def publish(self, target: Parts, *, replace: bool) -> tuple[Version, bool]:
        """Let the file appear at `target`, whose folder is there; blocks, to be called in a thread.

        Returns:
            Its version, and whether it replaced a file.

        Raises:
            FileExistsError: a file is there and `replace` is false.
            IsADirectoryError: a directory is there.
        """
        self._open()
        version = version_of(os.fstat(self._descriptor))
        write_note(self._descriptor, version, self.checksums())
        replaced = self._tree.publish(self._name, self._descriptor, target, replace=replace)
        self._published = True
        return version, replaced
