"""What the demo sees: the federation's events, waited for by what they say."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from twinfra.cli.session import Session
from twinfra.core.bus import Event
from twinfra.core.errors import TwinfraError
from twinfra.core.time import SYSTEM_CLOCK, rfc3339

Predicate = Callable[[Event], bool]


class Watch:
    """All events from now on, kept in order; whoever waits for one need not hurry."""

    def __init__(self, session: Session, tell: Callable[[Event], None]) -> None:
        self._session, self._tell = session, tell
        self._seen: list[Event] = []
        self._news = asyncio.Condition()
        self._since = rfc3339(SYSTEM_CLOCK.now())
        self._task = asyncio.create_task(self._read())

    async def until(self, predicate: Predicate, *, count: int = 1, within_s: float = 120) -> Event:
        """Return the `count`-th event that fits, seen already or still to come.

        Raises:
            TimeoutError: it did not come in time.
        """
        place, found = 0, 0
        async with asyncio.timeout(within_s), self._news:
            while True:
                while place < len(self._seen):
                    event, place = self._seen[place], place + 1
                    found += predicate(event)
                    if found == count:
                        return event
                await self._news.wait()

    def count(self, predicate: Predicate) -> int:
        """Return how many events so far fit."""
        return sum(map(predicate, self._seen))

    async def close(self) -> None:
        """Stop watching."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _read(self) -> None:
        """Follow the stream; where it breaks, go on behind the last event seen."""
        after: int | None = None
        while True:
            with suppress(TwinfraError, OSError):
                stream = self._session.notifications.events(since=self._since, after=after)
                async for event in stream:
                    after = event.sequence
                    self._tell(event)
                    async with self._news:
                        self._seen.append(event)
                        self._news.notify_all()
            await asyncio.sleep(0.5)


class Client:
    """Asks a service at a steady rate and counts what went wrong."""

    def __init__(self, ask: Callable[[], Awaitable[int]], per_second: int) -> None:
        self._ask, self._pause_s = ask, 1 / per_second
        self.answers: dict[int, int] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._go())

    async def stop(self) -> dict[int, int]:
        """Return how often each status was answered; 0 stands for no answer."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await asyncio.gather(*self._asking)
        return self.answers

    async def _go(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            task = asyncio.create_task(self._once())
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
            due += self._pause_s
            await asyncio.sleep(max(0.0, due - loop.time()))

    async def _once(self) -> None:
        try:
            status = await self._ask()
        except TwinfraError as error:
            status = error.status
        self.answers[status] = self.answers.get(status, 0) + 1
