"""A service as a value, the context it is built from, and the runner that serves many in one loop.

``wiring.build(context)`` of each room returns a `Service`; ``run_services`` starts them, serves
their listeners by uvicorn inside this event loop, runs their background work and stops it all
gracefully: doors first (requests in flight are finished), then background work, then connections.
"""

import asyncio
import signal
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from twinfra.core.home import HOSTNAME, Home
from twinfra.core.settings import SettingsGroup, UrlSettings
from twinfra.core.tasks import end
from twinfra.core.telemetry import get_logger
from twinfra.core.time import SYSTEM_CLOCK, Clock
from twinfra.core.tls import ServerTls, client_context, server_tls

if TYPE_CHECKING:  # commands build a context too, and need no database, broker or server
    from starlette.types import ASGIApp

    from twinfra.core.bus import Bus
    from twinfra.core.database import Database
    from twinfra.core.doors import Doors

log = get_logger(__name__)

LOOPS_GO_ON_S = 1.0
S = TypeVar("S", bound=SettingsGroup)
Callback = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Context:
    """What a ``wiring.py`` is given: the home, the clock, and what follows from them."""

    home: Home
    clock: Clock = SYSTEM_CLOCK

    def settings(self, group: type[S], name: str = "") -> S:
        """Read the settings of a room; `name` is the site's where each site has its own."""
        return group.load(self.home, name)

    @cached_property
    def _elsewhere(self) -> UrlSettings:
        return UrlSettings.load(self.home)

    def url(self, service: str) -> str:
        """Return the base URL of `service`: as set under ``[federation.urls]``, else our own."""
        if url := self._elsewhere.urls.get(service):
            return url.rstrip("/")
        scheme = "nats" if service == "nats" else "https"
        return f"{scheme}://{HOSTNAME}:{self.home.port(service)}"

    @property
    def bus_url(self) -> str:
        """The URL of the NATS server."""
        return self.url("nats")

    def bus(self, service: str) -> "Bus":
        """Return a bus for `service`, not yet connected."""
        from twinfra.core.bus import Bus  # noqa: PLC0415 - kept off the path of commands

        seed = self.home.secrets / "nkeys" / service
        return Bus(self.bus_url, nkey_file=str(seed) if seed.exists() else None, name=service)

    def database(self, service: str, folder: Path | None = None) -> "Database":
        """Return the database of `service`; with `folder`, a SQLite file in it."""
        from twinfra.core.database import open_database  # noqa: PLC0415 - as above

        return open_database(self.home, service, folder)

    def tls_server(self) -> ServerTls:
        """Return the files of a server here."""
        return server_tls(self.home.tls)

    @cached_property
    def _client_context(self) -> ssl.SSLContext:
        return client_context(*self._trusted())

    def _trusted(self) -> list[Path]:
        further = [self._elsewhere.ca_file] if self._elsewhere.ca_file else []
        return [self.tls_server().cafile, *further]

    def tls_client(
        self,
        *,
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
    ) -> ssl.SSLContext:
        """Return the context that trusts our services and the machine's authorities.

        Args:
            ca_file: a further authority.
            certificate_file: shown to the server that it is made for, and to no other.
            key_file: of that certificate; None: it is in the same file.
        """
        if ca_file is None and certificate_file is None:
            return self._client_context
        own = client_context(*self._trusted(), *([ca_file] if ca_file else []))
        if certificate_file is not None:
            own.load_cert_chain(certificate_file, key_file)
        return own


@dataclass(frozen=True)
class Listener:
    """A door: an application on a loopback port, or on a Unix socket of this user alone."""

    app: "ASGIApp"
    port: int = 0
    tls: bool = True
    uds: Path | None = None
    client_ca: Path | None = None
    """Authority of the certificates that clients show."""
    client_required: bool = True
    """Whether a client without one is turned away."""


@dataclass
class Service:
    """A service, built and not yet running.

    Attributes:
        name: as in logs and ``ports.json``.
        listeners: its doors.
        background: loops that run until they are cancelled; one that ends or raises by itself stops
            the process, whose supervisor starts it again.
        start: awaited in order before the doors open: migrations, connections.
        drain: awaited first when the process is asked to end its work as well as itself: cancel
            jobs.
        stop: awaited in order after doors are shut and loops are cancelled.
    """

    name: str
    listeners: Sequence[Listener] = ()
    background: list[Callback] = field(default_factory=list)
    start: list[Callback] = field(default_factory=list)
    drain: list[Callback] = field(default_factory=list)
    stop: list[Callback] = field(default_factory=list)


@dataclass(frozen=True)
class Stop:
    """How a process is told to end: ``now`` ends it, ``drain`` set before ends its work first."""

    now: asyncio.Event = field(default_factory=asyncio.Event)
    drain: asyncio.Event = field(default_factory=asyncio.Event)

    def on_signals(self) -> None:
        """Listen: SIGTERM and SIGINT end the process, SIGUSR1 ends its work, then the process."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.now.set)
        loop.add_signal_handler(signal.SIGUSR1, self._end_work)

    def _end_work(self) -> None:
        self.drain.set()
        self.now.set()


async def run_services(context: Context, services: Sequence[Service], *, stop: Stop) -> None:
    """Run `services` until `stop` is set; returns when all is shut.

    Guarantees: every `Service.stop` callback is called, also when starting failed half-way or
    another of them raised.

    Raises:
        BaseExceptionGroup: a background loop failed; what could be shut is shut.
    """
    async with AsyncExitStack() as closing:
        for service in services:
            for callback in reversed(service.stop):
                closing.push_async_callback(callback)
        for service in services:
            for callback in service.start:
                await callback()
        files = context.tls_server()
        from twinfra.core.doors import Doors  # noqa: PLC0415 - kept off the path of commands

        doors = Doors([door for service in services for door in service.listeners], files)
        async with asyncio.TaskGroup() as group:
            doors.open(group)
            try:
                await _run_background(services, stop, doors)
            finally:
                await doors.shut()
    log.info("services_stopped", services=[service.name for service in services])


async def _run_background(services: Sequence[Service], stop: Stop, doors: "Doors") -> None:
    """Run all loops until `stop`; then drain, shut the doors, and cancel the loops, in this order.

    A request in flight may need a loop to be answered, so the loops go last; a loop may hold a
    stream of a door of ours, so it does not go later than `LOOPS_GO_ON_S`.
    """
    async with asyncio.TaskGroup() as group:
        loops = [
            group.create_task(_forever(service.name, loop))
            for service in services
            for loop in service.background
        ]
        log.info("services_started", services=[service.name for service in services])
        await stop.now.wait()
        if stop.drain.is_set():
            for callback in (callback for service in services for callback in service.drain):
                await callback()
        await doors.shut(LOOPS_GO_ON_S)
        await end(loops)


async def _forever(name: str, loop: Callback) -> None:
    await loop()
    raise RuntimeError(f"a background loop of {name} ended by itself")
