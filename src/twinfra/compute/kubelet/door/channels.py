"""The caller's side of a command: numbered channels, over a WebSocket or over SPDY streams.

Channels are those of ``v5.channel.k8s.io``: 0 input, 1 output, 2 errors, 3 the end, 4 the size of
the terminal, 255 the end of the channel named. Older callers get what their version knows.
"""

import asyncio
import base64
import binascii
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

import aiohttp
from aiohttp import web

from twinfra.compute.kubelet.door.errors import Refused
from twinfra.compute.kubelet.door.spdy.connection import SpdyConnection
from twinfra.compute.kubelet.door.spdy.errors import SpdyError, StreamResetError
from twinfra.compute.kubelet.door.spdy.stream import SpdyStream

STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
V1, V2, V3, V4, V5 = (
    "channel.k8s.io",
    "v2.channel.k8s.io",
    "v3.channel.k8s.io",
    "v4.channel.k8s.io",
    "v5.channel.k8s.io",
)
BASE64_V1, BASE64_V4 = "base64.channel.k8s.io", "v4.base64.channel.k8s.io"
WEBSOCKET_PROTOCOLS = (V5, V4, BASE64_V4, V1, BASE64_V1)
SPDY_PROTOCOLS = (V5, V4, V3, V2, V1)
NAMES: Mapping[str, int] = {
    "stdin": STDIN,
    "stdout": STDOUT,
    "stderr": STDERR,
    "error": ERROR,
    "resize": RESIZE,
}
SIZE_BYTES = 1024


class Console(Protocol):
    """A caller who talks to a command."""

    async def receive(self) -> tuple[int, bytes] | None:
        """Return channel and bytes; None when the caller is gone."""
        ...

    async def send(self, channel: int, data: bytes) -> None:
        """Send bytes of the command. A lost caller raises `ConnectionResetError`."""
        ...

    async def finish(self, status: bytes) -> None:
        """Tell the end, a ``metav1.Status``; the caller has got all when this returns."""
        ...

    async def ping(self) -> None:
        """Send a sign of life."""
        ...


def failure_text(status: bytes) -> bytes:
    """Return what a version without statuses says of the end: nothing, if it was a good one."""
    try:
        told = json.loads(status)
    except ValueError:
        return status
    if not isinstance(told, dict) or told.get("status") == "Success":
        return b""
    return str(told.get("message") or told.get("reason") or "failed").encode()


class WebSocketConsole:
    """A caller with a WebSocket.

    Args:
        socket: open.
        first: the channel that is told, by an empty message, that the connection stands.
    """

    def __init__(self, socket: web.WebSocketResponse, first: int) -> None:
        self._socket, self._first = socket, first
        self._protocol = socket.ws_protocol or V1
        self._base64 = self._protocol in {BASE64_V1, BASE64_V4}
        self._has_status = self._protocol in {V4, V5, BASE64_V4}

    async def open(self) -> None:
        """Tell that the connection stands."""
        await self.send(self._first, b"")

    async def receive(self) -> tuple[int, bytes] | None:
        """Return channel and bytes; None when the caller is gone."""
        while True:
            message = await self._socket.receive()
            if message.type not in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
                return None
            text = message.type is aiohttp.WSMsgType.TEXT
            if not message.data or (self._base64 and not text):
                continue
            if self._base64:
                return _from_base64(message.data)
            # some send as text what they were given as text, as the client of Python does
            data: bytes = message.data.encode() if text else message.data
            return data[0], bytes(data[1:])

    async def send(self, channel: int, data: bytes) -> None:
        """Send bytes of the command."""
        try:
            if self._base64:
                await self._socket.send_str(f"{channel}{base64.b64encode(data).decode()}")
            else:
                await self._socket.send_bytes(bytes([channel]) + data)
        except aiohttp.ClientError as error:
            raise ConnectionResetError(str(error)) from error

    async def finish(self, status: bytes) -> None:
        """Tell the end and close."""
        told = status if self._has_status else failure_text(status)
        if told:
            await self.send(ERROR, told)
        await self._socket.close()

    async def ping(self) -> None:
        """Send a sign of life."""
        try:
            await self._socket.ping()
        except aiohttp.ClientError as error:
            raise ConnectionResetError(str(error)) from error


def _from_base64(text: str) -> tuple[int, bytes]:
    try:
        return int(text[0]), base64.b64decode(text[1:], validate=True)
    except (ValueError, binascii.Error):
        return ERROR, b""  # callers send nothing there: it is passed over


class SpdyConsole:
    """A caller with SPDY streams.

    Args:
        connection: running.
        running: its task.
        protocol: chosen.
        linger_s: the caller has so long to read the end.
    """

    def __init__(
        self,
        connection: SpdyConnection,
        running: "asyncio.Task[None]",
        protocol: str,
        linger_s: float,
    ) -> None:
        self._connection, self._running = connection, running
        self._has_status = protocol in {V4, V5}
        self._linger_s = linger_s
        self._streams: dict[int, SpdyStream] = {}
        self._heard: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(maxsize=4)
        self._readers: list[asyncio.Task[Any]] = []

    async def open(self, wanted: set[int], within_s: float) -> None:
        """Wait until the caller has opened all streams.

        Raises:
            Refused: it did not in time, or opened others.
        """
        try:
            async with asyncio.timeout(within_s):
                while set(self._streams) != wanted:
                    stream = await self._connection.accepted()
                    if stream is None:
                        raise ConnectionResetError("the caller is gone")
                    channel = NAMES.get(stream.headers.get("streamtype", ""))
                    if channel not in wanted or channel in self._streams:
                        raise Refused(400, "a stream that nobody asked for")
                    await stream.accept()
                    self._streams[channel] = stream
        except TimeoutError as error:
            raise Refused(400, "timed out waiting for client to create streams") from error
        if (stdin := self._streams.get(STDIN)) is not None:
            self._readers.append(asyncio.create_task(self._input(stdin)))
        if (resize := self._streams.get(RESIZE)) is not None:
            self._readers.append(asyncio.create_task(self._sizes(resize)))
        self._readers.append(asyncio.create_task(self._gone()))

    async def receive(self) -> tuple[int, bytes] | None:
        """Return channel and bytes; None when the caller is gone."""
        return await self._heard.get()

    async def send(self, channel: int, data: bytes) -> None:
        """Send bytes of the command."""
        stream = self._streams.get(channel)
        if stream is None or not data:
            return
        try:
            await stream.write(data)
        except StreamResetError as error:
            if self._running.done():
                raise ConnectionResetError("the caller is gone") from error

    async def finish(self, status: bytes) -> None:
        """Tell the end on the error stream; the others end before it."""
        with suppress(StreamResetError):
            for channel in (STDOUT, STDERR):
                if (stream := self._streams.get(channel)) is not None:
                    await stream.finish()
            error = self._streams[ERROR]
            await error.write(status if self._has_status else failure_text(status))
            await error.finish()
        await asyncio.wait({self._running}, timeout=self._linger_s)

    async def ping(self) -> None:
        """Send a sign of life."""
        try:
            await self._connection.ping()
        except StreamResetError as error:
            raise ConnectionResetError("the caller is gone") from error

    async def close(self) -> None:
        """End what listens."""
        for task in self._readers:
            task.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)

    async def _input(self, stream: SpdyStream) -> None:
        with suppress(StreamResetError):
            while piece := await stream.read():
                await self._heard.put((STDIN, piece))
        await self._heard.put((CLOSE, bytes([STDIN])))

    async def _sizes(self, stream: SpdyStream) -> None:
        """Pass on each size; they come one behind the other, without borders."""
        decoder, text = json.JSONDecoder(), ""
        with suppress(StreamResetError):
            while piece := await stream.read():
                text = (text + piece.decode("utf-8", "replace"))[-SIZE_BYTES:].lstrip()
                while text:
                    try:
                        size, end = decoder.raw_decode(text)
                    except ValueError:
                        break
                    text = text[end:].lstrip()
                    await self._heard.put((RESIZE, json.dumps(size).encode()))

    async def _gone(self) -> None:
        with suppress(SpdyError):
            await asyncio.shield(self._running)
        while self._heard.full():
            self._heard.get_nowait()  # nobody is there to whom it would matter
        self._heard.put_nowait(None)
