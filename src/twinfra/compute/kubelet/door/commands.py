"""``/exec`` and ``/attach``: joins a caller to a command at the site, message by message."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from multidict import MultiMapping

from twinfra.compute.interlink.tunnel import ClientPipe
from twinfra.compute.kubelet.door.channels import (
    CLOSE,
    ERROR,
    RESIZE,
    SPDY_PROTOCOLS,
    STDERR,
    STDIN,
    STDOUT,
    WEBSOCKET_PROTOCOLS,
    Console,
    SpdyConsole,
    WebSocketConsole,
)
from twinfra.compute.kubelet.door.errors import Refused
from twinfra.compute.kubelet.door.settings import DoorSettings
from twinfra.compute.kubelet.door.spdy.connection import SpdyConnection
from twinfra.compute.kubelet.door.upgrade import (
    Taken,
    is_websocket,
    limits_of,
    to_spdy,
    to_websocket,
)
from twinfra.core.tasks import end
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)

PIECE_BYTES = 32 * 1024
YES = frozenset({"1", "true"})
Dial = Callable[[], Awaitable[aiohttp.ClientWebSocketResponse]]


@dataclass(frozen=True)
class Wanted:
    """The streams that a caller wants."""

    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool

    @classmethod
    def of(cls, query: MultiMapping[str]) -> "Wanted":
        """Read a query, in the spelling of the API or of older kubelets.

        Raises:
            Refused: 400 no stream at all.
        """

        def asked(*names: str) -> bool:
            return any(query.get(name, "").lower() in YES for name in names)

        tty = asked("tty")
        made = cls(
            stdin=asked("stdin", "input"),
            stdout=asked("stdout", "output"),
            stderr=asked("stderr", "error") and not tty,  # a terminal has one way out
            tty=tty,
        )
        if not (made.stdin or made.stdout or made.stderr):
            raise Refused(400, "you must specify at least 1 of stdin, stdout, stderr")
        return made

    def channels(self) -> set[int]:
        """Return the channels, the end among them."""
        pairs = (
            (self.stdin, STDIN),
            (self.stdout, STDOUT),
            (self.stderr, STDERR),
            (self.tty, RESIZE),
        )
        return {ERROR, *(channel for asked, channel in pairs if asked)}


async def serve(
    request: web.Request, wanted: Wanted, dial: Dial, settings: DoorSettings
) -> web.StreamResponse:
    """Serve one command.

    Guarantees: the site's side is closed, and the command with it, when the caller is gone, when
    nothing has moved for ``idle_s``, and at the end.

    Args:
        request: to be upgraded.
        wanted: streams.
        dial: opens the site's side; asked before the upgrade, so that a refusal is an answer.
        settings: of the door.

    Raises:
        Refused: before the upgrade.
        TwinfraError: the site refuses; before the upgrade.
    """
    if not is_websocket(request) and not request.headers.get("Upgrade"):
        raise Refused(400, "Upgrade request required")
    site = await dial()
    try:
        if is_websocket(request):
            return await _over_websocket(request, wanted, site, settings)
        return await _over_spdy(request, wanted, site, settings)
    finally:
        await site.close()


async def _over_websocket(
    request: web.Request,
    wanted: Wanted,
    site: aiohttp.ClientWebSocketResponse,
    settings: DoorSettings,
) -> web.StreamResponse:
    socket = await to_websocket(request, WEBSOCKET_PROTOCOLS, settings)
    first = STDOUT if wanted.stdout else STDERR if wanted.stderr else ERROR
    console = WebSocketConsole(socket, first)
    try:
        await console.open()
        await Joining(console, site, settings).run()
    except ConnectionResetError:
        log.debug("caller_gone", path=request.path)
    finally:
        await socket.close()
    return socket


async def _over_spdy(
    request: web.Request,
    wanted: Wanted,
    site: aiohttp.ClientWebSocketResponse,
    settings: DoorSettings,
) -> web.StreamResponse:
    wire, protocol = await to_spdy(request, SPDY_PROTOCOLS)
    connection = SpdyConnection(wire, limits_of(settings))
    running = asyncio.create_task(connection.run())
    console = SpdyConsole(connection, running, protocol, settings.linger_s)
    try:
        await console.open(wanted.channels(), settings.streams_within_s)
        await Joining(console, site, settings).run()
    except (ConnectionResetError, Refused) as error:
        log.debug("caller_gone", path=request.path, why=str(error))
    finally:
        await connection.close()
        await end([running])
        await console.close()
    return Taken()


class Joining:
    """A caller and a command, message by message.

    Args:
        console: the caller.
        site: the command.
        settings: of the door.
    """

    def __init__(
        self, console: Console, site: aiohttp.ClientWebSocketResponse, settings: DoorSettings
    ) -> None:
        self._console, self._pipe, self._settings = console, ClientPipe(site), settings
        self._status: bytes | None = None
        self._idle: asyncio.Timeout | None = None

    async def run(self) -> None:
        """Carry messages both ways until the command or the caller is gone.

        Raises:
            ConnectionResetError: the caller is gone.
        """
        ways = [
            asyncio.create_task(way()) for way in (self._outward, self._inward, self._heartbeat)
        ]
        try:
            async with asyncio.timeout(self._settings.idle_s) as self._idle:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            self._status = failure("nothing moved for too long")
        finally:
            await end(ways)
        if self._status is None:
            raise ConnectionResetError("the caller is gone")
        with suppress(ConnectionResetError):
            await self._console.finish(self._status)

    async def _inward(self) -> None:
        while (heard := await self._console.receive()) is not None:
            channel, data = heard
            self._moved()
            if channel not in {STDIN, RESIZE, CLOSE}:
                continue
            try:
                for at in range(0, max(len(data), 1), PIECE_BYTES):
                    await self._pipe.send(bytes([channel]) + data[at : at + PIECE_BYTES])
            except (aiohttp.ClientError, OSError):
                await asyncio.Event().wait()  # the command is over: the other way hears its end

    async def _outward(self) -> None:
        while (piece := await self._pipe.receive()) is not None:
            self._moved()
            if piece[:1] == bytes([ERROR]):
                self._status = piece[1:]
                return
            if piece:
                await self._console.send(piece[0], piece[1:])
        self._status = failure("the connection to the command was lost")

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(self._settings.heartbeat_s)
            await self._console.ping()

    def _moved(self) -> None:
        if self._idle is not None and not self._idle.expired():
            self._idle.reschedule(asyncio.get_running_loop().time() + self._settings.idle_s)


def failure(message: str) -> bytes:
    """Return the ``metav1.Status`` of an end that is the door's or the site's fault."""
    body = {
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": "InternalError",
        "code": 500,
    }
    return json.dumps(body).encode()
