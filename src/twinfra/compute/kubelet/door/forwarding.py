"""``/portForward``: connections into a pod, each a pair of SPDY streams or of channels."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

import aiohttp
from aiohttp import web

from twinfra.compute.interlink.tunnel import ClientPipe
from twinfra.compute.kubelet.door.channels import BASE64_V4, V4, WebSocketConsole
from twinfra.compute.kubelet.door.errors import Refused
from twinfra.compute.kubelet.door.settings import DoorSettings
from twinfra.compute.kubelet.door.spdy.connection import Bytes, SpdyConnection
from twinfra.compute.kubelet.door.spdy.errors import StreamResetError
from twinfra.compute.kubelet.door.spdy.frames import Reset
from twinfra.compute.kubelet.door.spdy.stream import SpdyStream
from twinfra.compute.kubelet.door.upgrade import (
    MessageBytes,
    Taken,
    is_websocket,
    limits_of,
    to_spdy,
    to_websocket,
)
from twinfra.core.errors import TwinfraError
from twinfra.core.tasks import end
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)

PROTOCOL = "portforward.k8s.io"
TUNNEL = f"SPDY/3.1+{PROTOCOL}"
PIECE_BYTES = 32 * 1024
PORTS = 100
Dial = Callable[[int], Awaitable[aiohttp.ClientWebSocketResponse]]


async def serve(request: web.Request, dial: Dial, settings: DoorSettings) -> web.StreamResponse:
    """Serve one caller's connections.

    Args:
        request: to be upgraded: SPDY, SPDY in a WebSocket, or a WebSocket with channels.
        dial: opens a tunnel to a port.
        settings: of the door.

    Raises:
        Refused: before the upgrade.
    """
    if not is_websocket(request):
        if not request.headers.get("Upgrade"):
            raise Refused(400, "Upgrade request required")
        wire, _ = await to_spdy(request, (PROTOCOL,))
        await Forwarding(wire, dial, settings).run()
        return Taken()
    if TUNNEL in request.headers.get("Sec-WebSocket-Protocol", ""):
        socket = await to_websocket(request, (TUNNEL,), settings)
        await Forwarding(MessageBytes(socket), dial, settings).run()
        return socket
    return await _over_channels(request, dial, settings)


class Forwarding:
    """One SPDY connection: an error and a data stream for each connection into the pod.

    Args:
        wire: of the connection.
        dial: opens a tunnel to a port.
        settings: of the door.
    """

    def __init__(self, wire: Bytes, dial: Dial, settings: DoorSettings) -> None:
        self._connection = SpdyConnection(wire, limits_of(settings))
        self._dial, self._settings = dial, settings
        self._halves: dict[str, tuple[float, dict[str, SpdyStream]]] = {}
        self._pairs: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Serve until the caller is gone or nothing has moved for too long."""
        tasks = [
            asyncio.create_task(each)
            for each in (self._connection.run(), self._accept(), self._watch())
        ]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if (error := tasks[0].exception() if tasks[0].done() else None) is not None:
                log.info("forwarding_broken", why=str(error))
        finally:
            await end([*tasks, *self._pairs])
            await self._connection.close()

    async def _accept(self) -> None:
        while (stream := await self._connection.accepted()) is not None:
            with suppress(StreamResetError):
                await self._match(stream)

    async def _match(self, stream: SpdyStream) -> None:
        kind = stream.headers.get("streamtype", "")
        request_id = stream.headers.get("requestid", "")
        if not request_id:  # callers of long ago open the error stream first, then the data's
            request_id = str(stream.stream_id - (2 if kind == "data" else 0))
        port = stream.headers.get("port", "")
        _, half = self._halves.setdefault(request_id, (time.monotonic(), {}))
        good = port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 65535
        if kind not in {"data", "error"} or kind in half or not good:
            await stream.reset(Reset.PROTOCOL_ERROR)
            return
        await stream.accept()
        half[kind] = stream
        if len(half) == 2:
            del self._halves[request_id]
            self._keep(self._serve(int(port), half["data"], half["error"]))

    def _keep(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._pairs.add(task)
        task.add_done_callback(self._pairs.discard)

    async def _serve(self, port: int, data: SpdyStream, error: SpdyStream) -> None:
        """Carry one connection; whatever happens, both streams end."""
        with suppress(StreamResetError):
            try:
                tunnel = await self._dial(port)
            except TwinfraError as trouble:
                text = f"error forwarding port {port}: {trouble.detail}"
                await error.write(text.encode())
                await error.finish()
                await data.reset()
                return
            try:
                await _carry(data, tunnel)
            finally:
                await tunnel.close()
            await data.finish()
            await error.finish()

    async def _watch(self) -> None:
        """Send signs of life, drop halves that stay alone, and end what is idle."""
        seen, moved_at = -1, time.monotonic()
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            await self._connection.ping()
            now = time.monotonic()
            for request_id, (since, half) in list(self._halves.items()):
                if now - since > self._settings.streams_within_s:
                    del self._halves[request_id]
                    for stream in half.values():
                        await stream.reset()
            if self._connection.frames_seen != seen:
                seen, moved_at = self._connection.frames_seen, now
            elif now - moved_at > self._settings.idle_s:
                return


async def _carry(data: SpdyStream, tunnel: aiohttp.ClientWebSocketResponse) -> None:
    """Carry bytes both ways until both have ended or one side is gone."""
    pipe = ClientPipe(tunnel)

    async def inward() -> bool:
        while piece := await data.read():
            await pipe.send(piece)
        await pipe.send(b"")
        return True

    async def outward() -> bool:
        while (piece := await pipe.receive()) is not None:
            if not piece:
                await data.finish()
                return True
            await data.write(piece)
        return False

    await _until_over(inward(), outward())


async def _until_over(*ways: Coroutine[Any, Any, bool]) -> None:
    """Run both ways: the second ends when the first has ended badly."""
    tasks = {asyncio.create_task(way) for way in ways}
    try:
        while tasks:
            done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            good = all(task.exception() is None and task.result() for task in done)
            if not good:
                return
            tasks = waiting
    finally:
        await end(tasks)


async def _over_channels(
    request: web.Request, dial: Dial, settings: DoorSettings
) -> web.StreamResponse:
    ports = _ports_of(request)
    socket = await to_websocket(request, (V4, BASE64_V4), settings)
    forwarding = ChannelForwarding(WebSocketConsole(socket, 0), dial, settings)
    try:
        await forwarding.run(ports)
    except (OSError, TimeoutError, aiohttp.ClientError):
        log.debug("caller_gone", path=request.path)
    finally:
        await forwarding.close()
        await socket.close()
    return socket


def _ports_of(request: web.Request) -> list[int]:
    words = [word for entry in request.query.getall("port", []) for word in entry.split(",")]
    if not words:
        raise Refused(400, 'query parameter "port" is required')
    if len(words) > PORTS or any(not w.isascii() or not w.isdigit() or len(w) > 5 for w in words):
        raise Refused(400, "invalid port")
    ports = [int(word) for word in words]
    if any(not 0 < port <= 65535 for port in ports):
        raise Refused(400, "invalid port")
    return ports


class ChannelForwarding:
    """Two channels a port, for callers with a bare WebSocket: each connection there is once.

    Args:
        console: the caller.
        dial: opens a tunnel to a port.
        settings: of the door.

    Source: Kubernetes' ``v4.channel.k8s.io`` for port-forward: the first message of each channel
    is its port, two bytes, the low one first.
    """

    def __init__(self, console: WebSocketConsole, dial: Dial, settings: DoorSettings) -> None:
        self._console, self._dial, self._settings = console, dial, settings
        self._pipes: dict[int, ClientPipe] = {}
        self._opened: list[aiohttp.ClientWebSocketResponse] = []
        self._tasks: list[asyncio.Task[Any]] = []

    async def run(self, ports: Sequence[int]) -> None:
        """Carry bytes until the caller is gone or says nothing for too long."""
        for place, port in enumerate(ports):
            await self._open(2 * place, port)
        while heard := await self._hear():
            if (pipe := self._pipes.get(heard[0])) is not None:
                for at in range(0, len(heard[1]), PIECE_BYTES):
                    await pipe.send(heard[1][at : at + PIECE_BYTES])

    async def _hear(self) -> tuple[int, bytes] | None:
        async with asyncio.timeout(self._settings.idle_s):
            return await self._console.receive()

    async def close(self) -> None:
        """Close all tunnels."""
        await end(self._tasks)
        for tunnel in self._opened:
            await tunnel.close()

    async def _open(self, channel: int, port: int) -> None:
        mark = port.to_bytes(2, "little")
        await self._console.send(channel, mark)
        await self._console.send(channel + 1, mark)
        try:
            self._opened.append(await self._dial(port))
        except TwinfraError as trouble:
            text = f"error forwarding port {port}: {trouble.detail}"
            await self._console.send(channel + 1, text.encode())
            return
        self._pipes[channel] = pipe = ClientPipe(self._opened[-1])
        self._tasks.append(asyncio.create_task(self._outward(channel, pipe)))

    async def _outward(self, channel: int, pipe: ClientPipe) -> None:
        while (piece := await pipe.receive()) is not None:
            if piece:
                await self._console.send(channel, piece)
