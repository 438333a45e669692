"""The listening socket: accepts connections, watches their clocks, stops without dropping work."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from twinfra.core.tasks import settled
from twinfra.core.telemetry import get_logger
from twinfra.data.edge.wire.connection import Connection
from twinfra.data.edge.wire.exchange import Exchange
from twinfra.data.edge.wire.limits import WireLimits

log = get_logger(__name__)

Handler = Callable[[Exchange], Awaitable[None]]
BACKLOG = 1024
CHECK_EVERY_S = 0.5
TLS_SHUTDOWN_TIMEOUT_S = 2.0
T = TypeVar("T")


class HttpDoor:
    """A server at one address.

    Args:
        limits: of each connection, and how many there may be.
    """

    def __init__(self, limits: WireLimits) -> None:
        self._handler: Handler | None = None
        self.limits = limits
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._stopping = False
        self._empty = asyncio.Event()
        self._working: set[asyncio.Task[Any]] = set()
        self._unbroken: set[asyncio.Task[Any]] = set()

    @property
    def stopping(self) -> bool:
        """Whether no further request is taken."""
        return self._stopping

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._connections)

    @property
    def port(self) -> int:
        """The port it listens at."""
        if self._server is None:
            raise RuntimeError("the door is not open")
        return int(self._server.sockets[0].getsockname()[1])

    async def open(
        self, handler: Handler, host: str, port: int, tls: ssl.SSLContext | None
    ) -> None:
        """Begin to accept connections.

        Args:
            handler: answers requests.
            host: address to listen at.
            port: to listen at; 0: a free one.
            tls: none for plain HTTP.

        Raises:
            OSError: the address cannot be had.
        """
        self._handler = handler
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self),
            host,
            port,
            ssl=tls,
            backlog=BACKLOG,
            ssl_handshake_timeout=self.limits.head_timeout_s if tls else None,
            ssl_shutdown_timeout=TLS_SHUTDOWN_TIMEOUT_S if tls else None,
        )

    async def watch(self) -> None:
        """Cut connections whose time is up; runs until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            now = loop.time()
            for connection in list(self._connections):
                connection.check(now)

    async def shut(self) -> None:
        """Take no more requests, let those in flight finish for a while, then cut them.

        Guarantees: work under `unbroken` has ended.
        """
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.shut()
        if self._connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.shutdown_grace_s):
                    await self._empty.wait()
        for connection in list(self._connections):
            connection.cut()
        while working := self._unbroken | self._working:
            await asyncio.wait(working)

    async def unbroken(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work` to its end; who is cancelled while waiting for it goes on waiting first."""
        task = asyncio.get_running_loop().create_task(work)
        self._unbroken.add(task)
        task.add_done_callback(self._unbroken.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await settled(task)
            _report(task)
            raise

    def opened(self, connection: Connection) -> bool:
        """Take note of a connection; false: there are too many."""
        if self._stopping or len(self._connections) >= self.limits.max_connections:
            log.warning("connection_refused", connections=len(self._connections))
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if self._stopping and not self._connections:
            self._empty.set()

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request."""
        task, handler = asyncio.current_task(), self._handler
        assert task is not None  # noqa: S101 - a connection calls from its own task
        assert handler is not None  # noqa: S101 - no connection comes before `open`
        self._working.add(task)
        try:
            await handler(exchange)
        finally:
            self._working.discard(task)


def _report(task: asyncio.Task[Any]) -> None:
    """Say in the log how work ended whose client has left."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("unattended_work_failed", exc_info=error)
