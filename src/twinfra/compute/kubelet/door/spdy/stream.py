"""One stream of a connection: bytes both ways, each way ended by itself."""

import asyncio
from collections import deque
from typing import Protocol

from twinfra.compute.kubelet.door.spdy.errors import StreamResetError
from twinfra.compute.kubelet.door.spdy.frames import (
    Data,
    Frame,
    Reset,
    RstStream,
    SynReply,
    WindowUpdate,
)
from twinfra.compute.kubelet.door.spdy.headers import Pairs
from twinfra.compute.kubelet.door.spdy.windows import SendWindows

PIECE_BYTES = 32 * 1024


class Sender(Protocol):
    """The connection as its streams see it."""

    windows: SendWindows

    async def send(self, frame: Frame) -> None:
        """Send a frame in the order of the calls; returns when there is room for more."""
        ...

    async def consumed(self, size_bytes: int) -> None:
        """Note that so many bytes left a buffer."""
        ...

    def forget(self, stream_id: int) -> None:
        """Drop a stream that is over both ways."""
        ...


class SpdyStream:
    """A stream that the other side opened.

    Args:
        stream_id: of the stream.
        headers: that it was opened with.
        sender: its connection.
        buffer_bytes: are kept unread; then the whole connection waits for this stream's reader.
    """

    def __init__(
        self, stream_id: int, headers: Pairs, sender: Sender, *, buffer_bytes: int
    ) -> None:
        self.stream_id, self.headers = stream_id, dict(headers)
        self._sender, self._buffer_bytes = sender, buffer_bytes
        self._pieces: deque[bytes] = deque()
        self._held_bytes = self._unreported_bytes = 0
        self._ended = self._finished = self._reset = False
        self._news, self._room = asyncio.Event(), asyncio.Event()

    async def accept(self) -> None:
        """Tell the other side that the stream stands."""
        await self._sender.send(SynReply(self.stream_id))

    async def read(self) -> bytes:
        """Return the next bytes as they came; none when the other side has ended its direction.

        Raises:
            StreamResetError: the stream or its connection is gone.
        """
        while not self._pieces:
            if self._reset:
                raise StreamResetError(self.stream_id)
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        piece = self._pieces.popleft()
        self._held_bytes -= len(piece)
        self._room.set()
        await self._report(len(piece))
        return piece

    async def write(self, data: bytes) -> None:
        """Send bytes, as fast as the other side takes them.

        Raises:
            StreamResetError: the stream or its connection is gone, or this direction was ended.
        """
        rest = memoryview(data)
        while rest:
            if self._reset or self._finished:
                raise StreamResetError(self.stream_id)
            wanted = min(len(rest), PIECE_BYTES)
            size = await self._sender.windows.take(self.stream_id, wanted)
            if self._reset or self._finished:
                raise StreamResetError(self.stream_id)
            await self._sender.send(Data(self.stream_id, bytes(rest[:size])))
            rest = rest[size:]

    async def finish(self) -> None:
        """End our direction; again is fine."""
        if self._finished or self._reset:
            return
        self._finished = True
        await self._sender.send(Data(self.stream_id, fin=True))
        self._over()

    async def reset(self, why: Reset = Reset.CANCEL) -> None:
        """End both directions at once; again is fine."""
        if self._reset or (self._ended and self._finished):
            return
        self.lose()
        await self._sender.send(RstStream(self.stream_id, why))

    async def put(self, data: bytes, *, fin: bool) -> None:
        """Take what arrived; waits while the buffer is full."""
        if data and not self._reset and not self._ended:
            self._pieces.append(data)
            self._held_bytes += len(data)
            self._news.set()
        elif data:
            await self._sender.consumed(len(data))
        if fin:
            self._ended = True
            self._news.set()
            self._over()
        while self._held_bytes > self._buffer_bytes and not self._reset:
            self._room.clear()
            await self._room.wait()

    def lose(self) -> None:
        """Note that the stream is gone."""
        self._reset = True
        self._pieces.clear()
        self._held_bytes = 0
        self._news.set()
        self._room.set()
        self._sender.forget(self.stream_id)

    async def _report(self, size: int) -> None:
        self._unreported_bytes += size
        await self._sender.consumed(size)
        if self._unreported_bytes >= PIECE_BYTES and not self._ended and not self._reset:
            delta, self._unreported_bytes = self._unreported_bytes, 0
            await self._sender.send(WindowUpdate(self.stream_id, delta))

    def _over(self) -> None:
        if self._ended and self._finished:
            self._sender.forget(self.stream_id)
