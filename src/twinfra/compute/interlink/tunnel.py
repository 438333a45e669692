"""Raw bytes through a WebSocket: one connection each way, an empty message ends a direction.

Both hops and the client pump with these functions; who may open a tunnel is decided elsewhere.
"""

import asyncio
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)

PIECE_BYTES = 64 * 1024
END = b""


class Pipe(Protocol):
    """One end of a WebSocket, ours or a framework's."""

    async def send(self, piece: bytes) -> None:
        """Send one message."""
        ...

    async def receive(self) -> bytes | None:
        """Return the next message; None once the other side has closed."""
        ...


class ClientPipe:
    """A `Pipe` over an outgoing WebSocket."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket

    async def send(self, piece: bytes) -> None:
        """Send one message."""
        await self._socket.send_bytes(piece)

    async def receive(self) -> bytes | None:
        """Return the next message; None once the other side has closed."""
        while True:
            message = await self._socket.receive()
            if message.type is aiohttp.WSMsgType.BINARY:
                return bytes(message.data)
            if message.type is not aiohttp.WSMsgType.TEXT:
                return None


async def pump(pipe: Pipe, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Carry bytes both ways until both directions have ended or one side is gone."""

    async def outward() -> None:
        while piece := await reader.read(PIECE_BYTES):
            await pipe.send(piece)
        await pipe.send(END)

    async def inward() -> bool:
        while (piece := await pipe.receive()) is not None:
            if piece == END:
                with suppress(OSError):
                    writer.write_eof()
                return True
            writer.write(piece)
            await writer.drain()
        return False

    out: asyncio.Task[Any] = asyncio.create_task(outward())
    back: asyncio.Task[Any] = asyncio.create_task(inward())
    try:
        done, _ = await asyncio.wait({out, back}, return_when=asyncio.FIRST_COMPLETED)
        ended_well = all(_went_well(task) for task in done)
        if ended_well:
            await asyncio.wait({out, back})
    finally:
        for task in (out, back):
            task.cancel()
        await asyncio.gather(out, back, return_exceptions=True)
        await close(writer)


def _went_well(task: "asyncio.Task[Any]") -> bool:
    return not task.cancelled() and task.exception() is None and task.result() is not False


async def join(left: Pipe, right: Pipe) -> None:
    """Carry messages between two WebSockets until one of them is closed."""

    async def carry(source: Pipe, sink: Pipe) -> None:
        while (piece := await source.receive()) is not None:
            await sink.send(piece)

    ways = [asyncio.create_task(carry(left, right)), asyncio.create_task(carry(right, left))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


async def close(writer: asyncio.StreamWriter) -> None:
    """Close a stream whose other side may be gone already."""
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            await writer.wait_closed()


class PortForward:
    """A Unix socket on this machine; each connection to it becomes a tunnel of its own.

    Args:
        dial: opens one WebSocket to the port.
    """

    def __init__(self, dial: Callable[[], Awaitable[aiohttp.ClientWebSocketResponse]]) -> None:
        self._dial = dial
        self._folder = Path(tempfile.mkdtemp(prefix="twinfra-port-"))
        self._server: asyncio.Server | None = None
        self._live: set[asyncio.Task[None]] = set()

    @property
    def path(self) -> Path:
        """Where to connect; only this user can."""
        return self._folder / "socket"

    async def open(self) -> "PortForward":
        """Begin to listen."""
        self._server = await asyncio.start_unix_server(self._accept, str(self.path))
        return self

    async def close(self) -> None:
        """Shut the socket and all tunnels."""
        if self._server is not None:
            self._server.close()
        for task in list(self._live):
            task.cancel()
        await asyncio.gather(*self._live, return_exceptions=True)
        self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self._folder.rmdir()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # a task of our own: asyncio before 3.13 logs one of its own that is cancelled as a fault
        task = asyncio.create_task(self._carry(reader, writer))
        self._live.add(task)
        task.add_done_callback(self._live.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            socket = await self._dial()
        except TwinfraError as error:
            log.warning("port_not_reached", code=error.code, detail=error.detail)
            await close(writer)
            return
        try:
            await pump(ClientPipe(socket), reader, writer)
        finally:
            await socket.close()
