"""Requests to other storages: to registered ones only, at every step of every redirection.

What the orderer gave for the peer goes to that peer alone: a redirection to another host or port
gets none of it.
"""

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin

import aiohttp
from yarl import URL

from twinfra.core.errors import Unavailable, shorten
from twinfra.core.telemetry import inject_trace
from twinfra.data.edge.copying.progress import CopyFailed
from twinfra.data.edge.dav.destination import RemoteUrl, parse_url
from twinfra.data.edge.ports import Peer, Peers
from twinfra.data.edge.settings import EdgeSettings
from twinfra.data.edge.wire.errors import HttpRefusal

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 5
READ_BYTES = 512 * 1024
NARROW_BYTES = 128 * 1024
Sender = Callable[[], AsyncIterator[bytes]]


class Outbound:
    """Speaks to peers.

    Args:
        peers: who may be spoken to.
        settings: time-outs, and whether plain HTTP is allowed.
        tls: trusts the peers' certificates.
    """

    def __init__(self, peers: Peers, settings: EdgeSettings, tls: ssl.SSLContext | None) -> None:
        self._peers, self._settings, self._tls = peers, settings, tls
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def peer(self, url: RemoteUrl) -> Peer:
        """Return the peer that `url` names.

        Raises:
            HttpRefusal: 403, it is not one, or 503, that cannot be known now; nothing was
                connected to.
        """
        if url.scheme != "https" and not self._settings.plain_http_peers:
            raise HttpRefusal(403, "storages are spoken to over https only")
        try:
            peer = await self._peers.find(url.host, url.port)
        except Unavailable as error:
            raise HttpRefusal(503, error.detail) from error
        if peer is None:
            raise HttpRefusal(403, f"{url.host}:{url.port} is not a registered storage")
        return peer

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: RemoteUrl,
        headers: Mapping[str, str],
        *,
        own: Mapping[str, str] | None = None,
        body: Sender | None = None,
        narrow: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give the answer after redirections, to be read as it comes.

        Args:
            method: of the request.
            url: of the file.
            headers: meant for that host alone.
            own: ours, sent everywhere.
            body: makes the body, anew for each step.
            narrow: the link is slow: keep little in the kernel's buffers.

        Raises:
            CopyFailed: nobody answered, in time, with a certificate that we trust, or too many
                redirections, or one to who is not registered.
        """
        sent = {"Accept-Encoding": "identity", **(own or {})}
        inject_trace(sent)
        for_host = dict(headers)
        for _ in range(MAX_REDIRECTS):
            async with self._one(method, url, {**sent, **for_host}, body, narrow) as answer:
                if answer.status not in REDIRECTS or "Location" not in answer.headers:
                    yield answer
                    return
                url, same_host = await self._redirected(url, answer.headers["Location"])
                if not same_host:
                    for_host = {}
        raise CopyFailed(f"the other storage redirected over {MAX_REDIRECTS} times")

    async def close(self) -> None:
        """Close all connections."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def _redirected(self, url: RemoteUrl, location: str) -> tuple[RemoteUrl, bool]:
        try:
            there = parse_url(urljoin(str(url), location))
            await self.peer(there)
        except HttpRefusal as refusal:
            raise CopyFailed(f"redirected to where it must not go: {refusal.text}") from refusal
        same = (there.scheme, there.host, there.port) == (url.scheme, url.host, url.port)
        return there, same

    @asynccontextmanager
    async def _one(
        self,
        method: str,
        url: RemoteUrl,
        headers: Mapping[str, str],
        body: Sender | None,
        narrow: bool,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        settings = self._settings
        timeout = aiohttp.ClientTimeout(
            total=None,
            sock_connect=settings.peer_connect_timeout_s,
            sock_read=settings.peer_idle_timeout_s if body else settings.peer_first_byte_timeout_s,
        )
        try:
            async with self._session(narrow).request(
                method,
                URL(str(url), encoded=True),
                headers=headers,
                data=body() if body else None,
                expect100=body is not None,
                timeout=timeout,
                allow_redirects=False,
                ssl=self._tls or True,
            ) as answer:
                yield answer
        except TimeoutError as error:
            raise CopyFailed("the other storage was silent for too long") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise CopyFailed("the other storage's certificate is not trusted") from error
        except aiohttp.ClientPayloadError as error:
            raise CopyFailed("the other storage closed the connection too early") from error
        except aiohttp.ClientError as error:
            raise CopyFailed(f"the connection to the other storage failed: {_plain(error)}") from (
                error
            )

    def _session(self, narrow: bool) -> aiohttp.ClientSession:
        session = self._sessions.get(narrow)
        if session is None:
            connector = aiohttp.TCPConnector(
                limit=0, socket_factory=_narrow_socket if narrow else None
            )
            session = self._sessions[narrow] = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=NARROW_BYTES if narrow else READ_BYTES,
                headers={"User-Agent": "twinfra-edge"},
            )
        return session


def _narrow_socket(address: Any) -> socket.socket:
    """Return a socket with small buffers: what they hold of a slow copy is nowhere yet."""
    family, kind, protocol, _, _ = address
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW_BYTES)
    made.setblocking(False)
    return made


def _plain(error: aiohttp.ClientError) -> str:
    cause = error.__cause__ or error
    text = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return shorten(text or type(error).__name__, 120)


def remote_connection(answer: aiohttp.ClientResponse) -> str | None:
    """Return the peer's end of the connection as markers spell it."""
    transport = answer.connection.transport if answer.connection else None
    found = transport.get_extra_info("peername") if transport else None
    if not isinstance(found, tuple):
        return None
    host = f"[{found[0]}]" if ":" in found[0] else found[0]
    return f"tcp:{host}:{found[1]}"
