"""Tells several readers which jobs changed; each hears of every change from its first step on."""

import asyncio
from collections.abc import AsyncIterator


class Changes:
    """A bulletin of native ids; changes of one job before a reader looks are told as one."""

    def __init__(self) -> None:
        self._readers: set[_Reader] = set()

    def tell(self, native_id: str) -> None:
        """Say that a job may have changed."""
        for reader in self._readers:
            reader.put(native_id)

    async def read(self) -> AsyncIterator[str]:
        """Yield native ids as they are told."""
        reader = _Reader()
        self._readers.add(reader)
        try:
            while True:
                yield await reader.get()
        finally:
            self._readers.discard(reader)


class _Reader:
    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}
        self._news = asyncio.Event()

    def put(self, native_id: str) -> None:
        self._waiting[native_id] = None
        self._news.set()

    async def get(self) -> str:
        while not self._waiting:
            self._news.clear()
            await self._news.wait()
        native_id = next(iter(self._waiting))
        del self._waiting[native_id]
        return native_id
