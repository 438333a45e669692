"""The doors of a process: uvicorn servers inside our own event loop, opened and shut together.

Signals are ``core.service``'s; so is the order in which doors, loops and connections end.
"""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from twinfra.core.home import LOOPBACK
from twinfra.core.http.streams import EndingStreams
from twinfra.core.tls import ServerTls
from twinfra.core.unix import listen_privately

if TYPE_CHECKING:
    from twinfra.core.service import Listener

GRACE_S = 5
KEEP_ALIVE_S = 75
"""Longer than our clients keep an idle connection (15 s): they let go first, so that no request is
sent on a connection that is being shut at the other end."""


class _Server(uvicorn.Server):
    """A uvicorn server that leaves signals to us; `path` is its Unix socket's, if it has one."""

    path: Path | None = None
    streams: EndingStreams

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class Doors:
    """The servers of a process.

    Args:
        listeners: what to serve, and where.
        files: the certificate of those that speak TLS.
    """

    def __init__(self, listeners: "Sequence[Listener]", files: ServerTls) -> None:
        self._servers = [_server(door, files) for door in listeners]
        self._serving: list[asyncio.Task[None]] = []

    def open(self, group: asyncio.TaskGroup) -> None:
        """Serve from now on; a door that shuts by itself fails the group."""
        self._serving = [group.create_task(_serve(server)) for server in self._servers]

    async def shut(self, within_s: float = GRACE_S * 2) -> None:
        """Accept nothing more; returns when requests in flight are finished, or after `within_s`.

        They have `GRACE_S` in all, whatever is waited here; streams of events end at once.
        """
        for server in self._servers:
            server.should_exit = True
            server.streams.end()
        if self._serving:
            await asyncio.wait(self._serving, timeout=within_s)


async def _serve(server: _Server) -> None:
    path = server.path
    try:
        await server.serve([listen_privately(path)] if path else None)
    finally:
        if path:
            path.unlink(missing_ok=True)
    if not server.should_exit:
        raise RuntimeError(f"the door at {path or f'port {server.config.port}'} shut by itself")


def _wanted(door: "Listener") -> ssl.VerifyMode:
    """Return what is asked of clients; a certificate that is shown is checked in any case."""
    if door.client_ca is None:
        return ssl.CERT_NONE
    return ssl.CERT_REQUIRED if door.client_required else ssl.CERT_OPTIONAL


def _server(door: "Listener", files: ServerTls) -> _Server:
    tls = door.tls and not door.uds
    streams = EndingStreams(door.app)
    config = uvicorn.Config(
        streams,
        host=LOOPBACK,
        port=door.port,
        ssl_certfile=str(files.certfile) if tls else None,
        ssl_keyfile=str(files.keyfile) if tls else None,
        ssl_ca_certs=str(door.client_ca) if tls and door.client_ca else None,
        ssl_cert_reqs=_wanted(door) if tls else ssl.CERT_NONE,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        lifespan="off",
        ws="websockets-sansio",
        ws_max_size=16 * 1024 * 1024,
    )
    server = _Server(config)
    server.path, server.streams = door.uds, streams
    return server
