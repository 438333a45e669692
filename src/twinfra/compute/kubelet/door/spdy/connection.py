"""The serving end of a SPDY connection: it accepts streams, never opens one."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from twinfra.compute.kubelet.door.spdy.errors import SpdyError, StreamResetError
from twinfra.compute.kubelet.door.spdy.frames import (
    Data,
    Frame,
    FrameReader,
    FrameWriter,
    GoAway,
    Ping,
    Reset,
    RstStream,
    Settings,
    SynStream,
    WindowUpdate,
)
from twinfra.compute.kubelet.door.spdy.stream import PIECE_BYTES, SpdyStream
from twinfra.compute.kubelet.door.spdy.windows import CONNECTION, INITIAL_WINDOW, SendWindows


class Bytes(Protocol):
    """What a connection reads from and writes to: a socket, or a WebSocket's messages."""

    async def receive(self) -> bytes:
        """Return the next bytes; none at the end."""
        ...

    async def send(self, data: bytes) -> None:
        """Send bytes; returns when there is room for more. A lost peer raises `OSError`."""
        ...

    async def close(self) -> None:
        """Close both ways."""
        ...


@dataclass(frozen=True)
class SpdyLimits:
    """What one connection may use.

    Attributes:
        max_streams: open at once; more are refused, one by one.
        buffer_bytes: unread of one stream; at least the protocol's first window of 64 KiB.
        max_frame_bytes: of one frame.
        max_header_bytes: of one header block, no longer compressed.
        max_headers: in one block.
        strict_windows: heed windows from the beginning, see `windows`.
    """

    max_streams: int = 256
    buffer_bytes: int = 256 * 1024
    max_frame_bytes: int = 1024 * 1024
    max_header_bytes: int = 64 * 1024
    max_headers: int = 100
    strict_windows: bool = False


class SpdyConnection:
    """A connection whose other side opens streams.

    Guarantees: `run` returns when the other side is gone, has broken the protocol, or `close` was
    called; then every stream is lost and `accepted` gives no more.

    Args:
        wire: where the bytes are.
        limits: of this connection.
    """

    def __init__(self, wire: Bytes, limits: SpdyLimits) -> None:
        self._wire, self._limits = wire, limits
        self._writer = FrameWriter()
        self._streams: dict[int, SpdyStream] = {}
        self._arrived: asyncio.Queue[SpdyStream | None] = asyncio.Queue()
        self._sending = asyncio.Lock()
        self._last_id = self._unreported_bytes = self._ping_id = 0
        self._over = False
        self.windows = SendWindows(strict=limits.strict_windows)
        self.frames_seen = 0

    async def run(self) -> None:
        """Read until the end.

        Raises:
            SpdyError: the other side broke the protocol or a limit.
        """
        limits = self._limits
        reader = FrameReader(
            max_frame_bytes=limits.max_frame_bytes,
            max_header_bytes=limits.max_header_bytes,
            max_headers=limits.max_headers,
        )
        try:
            while piece := await self._wire.receive():
                for frame in reader.feed(piece):
                    await self._take(frame)
        except OSError:
            return
        finally:
            self._end()

    async def accepted(self) -> SpdyStream | None:
        """Return the next stream that the other side opened; None when there will be no more."""
        if self._over and self._arrived.empty():
            return None
        return await self._arrived.get()

    async def send(self, frame: Frame) -> None:
        """Send a frame in the order of the calls.

        Raises:
            StreamResetError: the connection is over.
        """
        async with self._sending:
            if self._over:
                raise StreamResetError(0)
            try:
                await self._wire.send(self._writer.encode(frame))
            except OSError as error:
                raise StreamResetError(0) from error

    async def consumed(self, size_bytes: int) -> None:
        """Note that so many bytes left a buffer."""
        self._unreported_bytes += size_bytes
        if self._unreported_bytes >= PIECE_BYTES and not self._over:
            delta, self._unreported_bytes = self._unreported_bytes, 0
            await self.send(WindowUpdate(CONNECTION, delta))

    def forget(self, stream_id: int) -> None:
        """Drop a stream that is over both ways."""
        self._streams.pop(stream_id, None)
        self.windows.closed(stream_id)

    async def ping(self) -> None:
        """Send a sign of life: a peer that is gone without a word is found out by it."""
        self._ping_id += 2
        await self.send(Ping(self._ping_id))

    async def close(self) -> None:
        """Say goodbye and close; what was sent before arrives."""
        with suppress(StreamResetError):
            await self.send(GoAway(self._last_id))
        self._end()
        await self._wire.close()

    def _end(self) -> None:
        self._over = True
        for stream in list(self._streams.values()):
            stream.lose()
        self.windows.shut()
        self._arrived.put_nowait(None)

    async def _take(self, frame: Frame) -> None:
        if not isinstance(frame, Ping):
            self.frames_seen += 1
        match frame:
            case Data(stream_id, data, fin):
                await self._data(stream_id, data, fin=fin)
            case SynStream():
                await self._syn(frame)
            case RstStream(stream_id, _):
                if (stream := self._streams.get(stream_id)) is not None:
                    stream.lose()
            case Ping(ping_id):
                if ping_id % 2:  # even ones are answers to ours
                    await self.send(frame)
            case WindowUpdate() | Settings():
                self._windows_changed(frame)
            case _:
                pass  # what replies, headers and goodbyes say is of no use to a server

    def _windows_changed(self, frame: WindowUpdate | Settings) -> None:
        if isinstance(frame, WindowUpdate):
            if not self.windows.updated(frame.stream_id, frame.delta_bytes):
                raise SpdyError("a window passed its limit")
            return
        for key, value in frame.entries:
            if key == INITIAL_WINDOW:
                self.windows.initial(value)

    async def _data(self, stream_id: int, data: bytes, *, fin: bool) -> None:
        stream = self._streams.get(stream_id)
        if stream is None:
            if stream_id > self._last_id:
                raise SpdyError("data of a stream that was never opened")
            await self.consumed(len(data))
            return
        await stream.put(data, fin=fin)

    async def _syn(self, frame: SynStream) -> None:
        if frame.stream_id % 2 == 0 or frame.stream_id <= self._last_id:
            raise SpdyError("a stream's number is not the next")
        self._last_id = frame.stream_id
        if len(self._streams) >= self._limits.max_streams or frame.unidirectional:
            await self.send(RstStream(frame.stream_id, Reset.REFUSED_STREAM))
            return
        self.windows.opened(frame.stream_id)
        stream = SpdyStream(
            frame.stream_id, frame.headers, self, buffer_bytes=self._limits.buffer_bytes
        )
        self._streams[frame.stream_id] = stream
        if frame.fin:
            await stream.put(b"", fin=True)
        self._arrived.put_nowait(stream)
