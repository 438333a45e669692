"""How much the other side is ready to take, by stream and in all.

Kubernetes' own SPDY library sends no window updates and heeds none, so a sender that insists on
them would stall for ever. Windows are therefore kept from the first sign (a window update or a
setting) that the other side keeps them too, or from the beginning where the caller says so.

Source: SPDY 3.1, 2.6.8 (flow control), of a stream and, as stream 0, of the connection.
"""

import asyncio

FIRST_BYTES = 64 * 1024
LARGEST_BYTES = 2**31 - 1
INITIAL_WINDOW = 7
CONNECTION = 0


class SendWindows:
    """The windows of one connection, as its sender must heed them.

    Args:
        strict: heed them from the beginning.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.heeded = strict
        self._first = FIRST_BYTES
        self._left: dict[int, int] = {CONNECTION: FIRST_BYTES}
        self._closed = False
        self._news = asyncio.Event()

    def opened(self, stream_id: int) -> None:
        """Begin to count for a stream."""
        self._left[stream_id] = self._first

    def closed(self, stream_id: int) -> None:
        """Forget a stream; whoever waits for its window goes on."""
        self._left.pop(stream_id, None)
        self._news.set()

    def shut(self) -> None:
        """Let everybody go on: the connection is over."""
        self._closed = True
        self._news.set()

    def updated(self, stream_id: int, delta_bytes: int) -> bool:
        """Note a window update; False: the window would pass its limit."""
        self.heeded = True
        if stream_id in self._left:
            self._left[stream_id] += delta_bytes
            self._news.set()
            return self._left[stream_id] <= LARGEST_BYTES
        return True

    def initial(self, size_bytes: int) -> None:
        """Note the setting of the first window: it counts for streams that are open, too."""
        self.heeded = True
        change, self._first = size_bytes - self._first, size_bytes
        for stream_id in self._left:
            if stream_id != CONNECTION:
                self._left[stream_id] += change
        self._news.set()

    async def take(self, stream_id: int, wanted_bytes: int) -> int:
        """Return how many bytes may be sent now, at least one; waits for room.

        A stream that is gone gets all: the sender looks itself.
        """
        while True:
            if self._closed or stream_id not in self._left:
                return wanted_bytes
            size = min(wanted_bytes, self._left[stream_id], self._left[CONNECTION])
            if not self.heeded:
                size = wanted_bytes
            if size > 0:
                self._left[stream_id] -= size
                self._left[CONNECTION] -= size
                return size
            self._news.clear()
            await self._news.wait()
