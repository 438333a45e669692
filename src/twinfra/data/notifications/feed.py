"""The event stream for people, as server-sent events: the page and ``twinfra events`` read it.

A reader remembers its own place (``Last-Event-ID`` is the place in the stream); nothing is kept
for it here. Events of other groups are left out.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress

from twinfra.access.model import Principal
from twinfra.core.bus import Bus, Event
from twinfra.core.errors import RateLimited
from twinfra.data.notifications.follow import Wish, end_of_stream, latest
from twinfra.data.notifications.metrics import STREAMS
from twinfra.data.notifications.model import EventFilter, may_see


class Feed:
    """Opens streams for readers.

    Args:
        bus: that is read.
        most: readers at once.
        keepalive_s: the longest silence.
    """

    def __init__(self, bus: Bus, *, most: int, keepalive_s: float) -> None:
        self._bus, self._most, self._keepalive_s = bus, most, keepalive_s
        self._open = 0
        self._closing = asyncio.Event()

    async def open(
        self,
        principal: Principal,
        wish: Wish,
        wanted: EventFilter,
        *,
        after: int | None,
        from_now: bool,
    ) -> AsyncIterator[bytes]:
        """Return the frames of one reader.

        Args:
            principal: whose groups decide what is shown.
            wish: which types and sites, and from when.
            wanted: what else narrows.
            after: place of the last event seen.
            from_now: begin at the end of the stream.

        Raises:
            RateLimited: too many readers.
            Unavailable: the stream cannot be had now.
        """
        if self._open >= self._most:
            raise RateLimited("too many readers of the event stream", retry_after_s=10)
        if after is None and from_now:
            after = await end_of_stream(self._bus)
        return self._frames(principal, wish, wanted, after)

    async def until_cancelled(self) -> None:
        """End all streams when the service stops; a background loop of it."""
        try:
            await asyncio.Event().wait()
        finally:
            self._closing.set()

    async def _frames(
        self, principal: Principal, wish: Wish, wanted: EventFilter, after: int | None
    ) -> AsyncIterator[bytes]:
        self._open += 1
        events = latest(self._bus, wish, after=after, idle_s=self._keepalive_s)
        closing = asyncio.create_task(self._closing.wait())
        following: asyncio.Future[Event | None] | None = None
        try:
            with STREAMS.track_inprogress():
                yield b": connected\n\n"
                while True:
                    following = asyncio.ensure_future(anext(events))
                    await asyncio.wait({following, closing}, return_when=asyncio.FIRST_COMPLETED)
                    if closing.done():
                        return
                    event = following.result()
                    shown = event is not None and wanted.admits(event)
                    if event is None:
                        yield b": still here\n\n"
                    elif shown and _visible(principal, event):
                        yield frame_of(event)
        finally:
            self._open -= 1
            for task in (following, closing):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, StopAsyncIteration):
                        await task
            await events.aclose()


def _visible(principal: Principal, event: Event) -> bool:
    return may_see(event, principal.groups, is_service=principal.is_service)


def frame_of(event: Event) -> bytes:
    """Return an event as one server-sent frame: its place, its type, the CloudEvent."""
    body = json.dumps(event.to_json())
    return f"id: {event.sequence}\nevent: {event.type}\ndata: {body}\n\n".encode()
