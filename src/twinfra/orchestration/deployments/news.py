"""Who waits for news of a deployment in this process is told when its history grew."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress


class News:
    """Waiting rooms, one a deployment."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def tell(self, deployments: Iterable[str]) -> None:
        """Let those look who wait for any of `deployments`."""
        for deployment in deployments:
            for event in self._waiting.get(deployment, ()):
                event.set()

    @contextmanager
    def about(self, deployment: str) -> Iterator["Room"]:
        """Open a place in the waiting room of `deployment`."""
        event = asyncio.Event()
        self._waiting.setdefault(deployment, set()).add(event)
        try:
            yield Room(event)
        finally:
            present = self._waiting[deployment]
            present.discard(event)
            if not present:
                del self._waiting[deployment]

    @property
    def readers(self) -> int:
        """Return how many wait."""
        return sum(len(events) for events in self._waiting.values())


class Room:
    """A place in a waiting room."""

    def __init__(self, event: asyncio.Event) -> None:
        self._event = event

    async def wait(self, timeout_s: float) -> bool:
        """Wait for news since the last call, at most so long; say whether there was any."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        told = self._event.is_set()
        self._event.clear()
        return told
