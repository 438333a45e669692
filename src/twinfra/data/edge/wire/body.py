"""The body of one request on its way from the socket to whoever reads it, in two blocks of memory.

The connection fills one block while the reader works on the other; when both are taken the
connection stops reading. So memory does not grow with the body, and no byte is copied twice.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from twinfra.data.edge.wire.errors import HttpRefusal

BLOCKS = 2
SMALLEST_BLOCK_BYTES = 4096
UNKNOWN_BLOCK_BYTES = 64 * 1024


class Body:
    """The bytes of one request body.

    Args:
        length: in bytes, if known.
        block_bytes: size of one block at most.
        start: called once, when the body is first asked for (leave to send it).
        resume: called when a full pipe has room again.
    """

    def __init__(
        self,
        length: int | None,
        block_bytes: int,
        *,
        start: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self.length = length
        self.received = 0
        self.ended = length == 0
        wanted = UNKNOWN_BLOCK_BYTES if length is None else max(length, SMALLEST_BLOCK_BYTES)
        self._block_bytes = min(block_bytes, wanted)
        self._start, self._resume = start, resume
        self._started = False
        self._free: deque[bytearray] = deque()
        self._made = 0
        self._current: bytearray | None = None
        self._filled = 0
        self._full: deque[tuple[bytearray, int]] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BaseException | None = None

    # ------------------------------------------------------------- the connection's side

    def room(self) -> memoryview | None:
        """Return where the next bytes go, or none while the reader holds everything."""
        block = self._current
        if block is None:
            if self._free:
                block = self._free.popleft()
            elif self._made < BLOCKS:
                self._made += 1
                block = bytearray(self._block_bytes)
            else:
                return None
            self._current, self._filled = block, 0
        view = memoryview(block)[self._filled :]
        if self.length is not None:
            view = view[: self.length - self.received]
        return view

    def filled(self, count: int) -> None:
        """Note that `count` bytes were put at the front of `room`."""
        self._filled += count
        self.received += count
        if self.length is not None and self.received == self.length:
            self.end()
        elif self._current is not None and self._filled == len(self._current):
            self._hand_over()

    def put(self, data: memoryview) -> int:
        """Copy as much of `data` as there is room for; returns how much."""
        taken = 0
        while taken < len(data) and not self.ended:
            view = self.room()
            if view is None:
                break
            count = min(len(view), len(data) - taken)
            view[:count] = data[taken : taken + count]
            self.filled(count)
            taken += count
        return taken

    def end(self) -> None:
        """Note that the body is whole."""
        self.ended = True
        if self._current is not None and self._filled:
            self._hand_over()
        self._wake()

    def fail(self, failure: BaseException) -> None:
        """Note that no more will come."""
        if not self.ended and self._failure is None:
            self._failure = failure
            self._wake()

    def _hand_over(self) -> None:
        assert self._current is not None  # noqa: S101 - narrows the type; callers have looked
        self._full.append((self._current, self._filled))
        self._current = None
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ------------------------------------------------------------- the reader's side

    @property
    def started(self) -> bool:
        """Whether somebody has asked for the body."""
        return self._started

    async def blocks(self) -> AsyncIterator[memoryview]:
        """Give the body block by block; each block is good until the next one is asked for.

        Raises:
            ClientGone: the client went away in the middle.
            HttpRefusal: the body is not of the form it said.
        """
        if not self._started:
            self._started = True
            self._start()
        while True:
            while not self._full:
                if self._failure is not None:
                    raise self._failure
                if self.ended:
                    return
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter
            block, count = self._full.popleft()
            try:
                yield memoryview(block)[:count]
            finally:
                self._free.append(block)
                self._resume()

    async def read(self, limit_bytes: int) -> bytes:
        """Return the whole body.

        Raises:
            HttpRefusal: 413, it is longer than `limit_bytes`.
        """
        if self.length is not None and self.length > limit_bytes:
            raise HttpRefusal(413, f"the body is over {limit_bytes} bytes")
        whole = bytearray()
        async for block in self.blocks():
            whole += block
            if len(whole) > limit_bytes:
                raise HttpRefusal(413, f"the body is over {limit_bytes} bytes")
        return bytes(whole)
