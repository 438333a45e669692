"""Server-sent events of pods: from the table, so that a reader goes on where it stopped."""

import asyncio
from collections.abc import AsyncIterator, Callable

from twinfra.compute.interlink.plugin.journal import Journal
from twinfra.compute.interlink.plugin.model import KeptEvent
from twinfra.compute.interlink.sse import COMMENT, encode
from twinfra.core.errors import InvalidRequest, RateLimited

PAGE = 200
EVENT, RESYNC = "pod", "resync"


class PodStream:
    """Gives streams of the changes of pods.

    Args:
        journal: where they stand, and who says that there are more.
        keepalive_s: a comment is sent so often on a silent stream.
        most: streams at once.
    """

    def __init__(self, journal: Journal, *, keepalive_s: float, most: int) -> None:
        self._journal, self._keepalive_s, self._most = journal, keepalive_s, most
        self._open = 0

    async def start(
        self, last_event_id: str | None, visible: Callable[[KeptEvent], bool]
    ) -> AsyncIterator[bytes]:
        """Return a stream that goes on after `last_event_id`, or begins now.

        Where the events that follow are no longer kept, a ``resync`` event says so first.

        Raises:
            InvalidRequest: the id is none of ours.
            RateLimited: there are too many streams.
        """
        if self._open >= self._most:
            raise RateLimited("too many readers of events", retry_after_s=5)
        oldest, newest = await self._journal.store.event_range()
        if not last_event_id:
            return self._frames(newest, visible, lost=False)
        if not last_event_id.isdigit():
            raise InvalidRequest("Last-Event-ID must be the id of an event of this stream")
        after = int(last_event_id)
        lost = after > newest or after + 1 < oldest
        return self._frames(newest if lost else after, visible, lost=lost)

    async def _frames(
        self, after: int, visible: Callable[[KeptEvent], bool], *, lost: bool
    ) -> AsyncIterator[bytes]:
        self._open += 1
        try:
            yield COMMENT
            if lost:
                yield encode({}, event=RESYNC, event_id=str(after))
            while True:
                waiting = asyncio.create_task(self._journal.wait_news())
                await asyncio.sleep(0)  # the waiter is in line before the table is read
                try:
                    more = True
                    while more:
                        page = await self._journal.store.events_after(after, PAGE)
                        for event in page:
                            after = event.id
                            if visible(event):
                                yield encode(event.body, event=EVENT, event_id=str(event.id))
                        more = len(page) == PAGE
                    await asyncio.wait({waiting}, timeout=self._keepalive_s)
                    if not waiting.done():
                        yield COMMENT
                finally:
                    waiting.cancel()
        finally:
            self._open -= 1
