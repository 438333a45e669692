"""From an HTTP request to a conversation: SPDY on the bare connection, or WebSocket messages.

aiohttp knows no SPDY, so the connection's transport gets another protocol after our 101; what
aiohttp keeps of the connection ends when the connection does.

Source: RFC 9110 §7.8 (Upgrade), RFC 6455; Kubernetes ``X-Stream-Protocol-Version`` negotiation.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import web

from twinfra.compute.kubelet.door.errors import Refused
from twinfra.compute.kubelet.door.settings import DoorSettings
from twinfra.compute.kubelet.door.spdy.connection import SpdyLimits

SPDY = "SPDY/3.1"
WANTED, ACCEPTED = "X-Stream-Protocol-Version", "X-Accepted-Stream-Protocol-Versions"
PIECE_BYTES = 64 * 1024


class Taken(web.StreamResponse):
    """Stands for an answer where the connection has been taken over."""

    async def prepare(self, request: web.BaseRequest) -> None:
        """Send nothing."""
        del request

    async def write_eof(self, data: bytes = b"") -> None:
        """Send nothing."""
        del data


class SocketBytes:
    """The bare connection of a request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def receive(self) -> bytes:
        """Return the next bytes; none at the end."""
        try:
            return await self._reader.read(PIECE_BYTES)
        except OSError:
            return b""

    async def send(self, data: bytes) -> None:
        """Send bytes; returns when there is room for more."""
        self._writer.write(data)
        await self._writer.drain()

    async def close(self) -> None:
        """Close both ways."""
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()


class MessageBytes:
    """The binary messages of a WebSocket, as bytes without borders."""

    def __init__(self, socket: web.WebSocketResponse) -> None:
        self._socket = socket

    async def receive(self) -> bytes:
        """Return the next bytes; none at the end."""
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                return b""
            if message.data:
                return bytes(message.data)

    async def send(self, data: bytes) -> None:
        """Send one message."""
        try:
            await self._socket.send_bytes(data)
        except aiohttp.ClientError as error:
            raise ConnectionResetError(str(error)) from error

    async def close(self) -> None:
        """Close it."""
        await self._socket.close()


class _Taker(asyncio.StreamReaderProtocol):
    """Reads the bare connection, and tells aiohttp when it is lost."""

    def __init__(self, reader: asyncio.StreamReader, before: asyncio.BaseProtocol) -> None:
        super().__init__(reader)
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._before.connection_lost(exc)


def is_websocket(request: web.Request) -> bool:
    """Say whether a request wants to become a WebSocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


def limits_of(settings: DoorSettings) -> SpdyLimits:
    """Return what one SPDY connection may use."""
    return SpdyLimits(
        max_streams=settings.max_streams, buffer_bytes=max(settings.stream_buffer_bytes, 65536)
    )


async def to_spdy(request: web.Request, protocols: Sequence[str]) -> tuple[SocketBytes, str]:
    """Turn a request's connection into a bare one.

    Returns:
        The connection, and the first of the caller's protocols that is among `protocols`.

    Raises:
        Refused: 400 no such upgrade is wanted; 403 none of `protocols` is.
    """
    if request.headers.get("Upgrade", "").lower() != SPDY.lower():
        raise Refused(400, "unable to upgrade: missing upgrade headers in request")
    named = ",".join(request.headers.getall(WANTED, [])).split(",")
    wanted = [word.strip() for word in named if word.strip()]
    if not wanted:
        raise Refused(400, f"unable to upgrade: header {WANTED} does not exist in request")
    chosen = next((word for word in wanted if word in protocols), "")
    if not chosen:
        raise Refused(
            403,
            "unable to upgrade: unable to negotiate protocol: "
            f"client supports {wanted}, server accepts {list(protocols)}",
            {ACCEPTED: ",".join(protocols)},
        )
    return _take(request, chosen), chosen


def _take(request: web.Request, chosen: str) -> SocketBytes:
    transport: Any = request.transport
    if transport is None:
        raise ConnectionResetError("the caller is gone")
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=PIECE_BYTES)
    protocol = _Taker(reader, request.protocol)
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    writer.write(
        f"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {SPDY}\r\n"
        f"{WANTED}: {chosen}\r\n\r\n".encode()
    )
    return SocketBytes(reader, writer)


async def to_websocket(
    request: web.Request, protocols: Sequence[str], settings: DoorSettings
) -> web.WebSocketResponse:
    """Turn a request into a WebSocket; its ``ws_protocol`` is the one chosen, or none.

    Raises:
        Refused: 403 the caller names protocols and none of `protocols` is among them.
    """
    named = ",".join(request.headers.getall("Sec-WebSocket-Protocol", [])).split(",")
    wanted = [word.strip() for word in named if word.strip()]
    if wanted and not any(word in protocols for word in wanted):
        raise Refused(
            403,
            "unable to upgrade: unable to negotiate protocol: "
            f"client supports {wanted}, server accepts {list(protocols)}",
        )
    made = web.WebSocketResponse(
        protocols=protocols,
        max_msg_size=settings.max_message_bytes,
        compress=False,
        timeout=settings.linger_s,
    )
    await made.prepare(request)
    return made
