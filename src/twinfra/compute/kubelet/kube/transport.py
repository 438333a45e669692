"""HTTP to one API server: one request, its errors in our tree, answers read into structs."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import aiohttp
import msgspec
from msgspec import Raw

from twinfra.compute.kubelet.kube.config import Access
from twinfra.compute.kubelet.kube.errors import error_of, read_refusal
from twinfra.compute.kubelet.kube.model import Change, WatchEvent
from twinfra.core.errors import Unavailable, UpstreamFault, UpstreamTimeout, shorten

T = TypeVar("T")

AGENT = "twinfra-kubelet"
OPEN_CONNECTIONS = 64
READ_BYTES = 256 * 1024


class _Line(msgspec.Struct, gc=False):
    type: str
    object: Raw


class _Bookmark(msgspec.Struct, gc=False):
    metadata: Raw


_LINE = msgspec.json.Decoder(_Line)
_DECODERS: dict[Any, msgspec.json.Decoder[Any]] = {}


class Transport:
    """The connections to an API server.

    Args:
        access: the server and the credential.
        timeout_s: for a whole answer.
    """

    def __init__(self, access: Access, *, timeout_s: float) -> None:
        self.access, self._timeout_s = access, timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        fine: tuple[int, ...] = (),
    ) -> bytes:
        """Send a request and return the answer's body; arguments as for `open`."""
        timeout = aiohttp.ClientTimeout(total=self._timeout_s, sock_connect=10)
        async with self.open(
            method, path, params=params, body=body, headers=headers, fine=fine, timeout=timeout
        ) as answer:
            return await answer.read()

    @asynccontextmanager
    async def open(
        self,
        method: str,
        path: str,
        *,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own object, handed on
        params: Mapping[str, str] | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        fine: tuple[int, ...] = (),
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give the answer to be read as it comes.

        Args:
            method: of the request.
            path: below the server's address.
            timeout: of it.
            params: of the query; empty ones are left out.
            body: sent as JSON.
            headers: added to ours.
            fine: statuses that are no error besides 2xx.

        Raises:
            TwinfraError: the leaf that fits the refusal; `Unavailable`: the server is away.
        """
        sent = {"Accept": "application/json", "User-Agent": AGENT, **(headers or {})}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        if bearer := self.access.credential.bearer():
            sent["Authorization"] = f"Bearer {bearer}"
        try:
            async with self._opened().request(
                method,
                self.access.url + path,
                data=None if body is None else msgspec.json.encode(body),
                params={key: value for key, value in (params or {}).items() if value},
                headers=sent,
                timeout=timeout,
                ssl=self.access.tls or True,
                allow_redirects=False,
            ) as answer:
                if answer.status >= 300 and answer.status not in fine:
                    text = await answer.read()
                    raise error_of(answer.status, text, f"{method} {path}", answer.headers)
                yield answer
        except TimeoutError as error:
            raise UpstreamTimeout(f"{method} {path}: no answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{method} {path}: {shorten(str(error))}") from error

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=OPEN_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                read_bufsize=READ_BYTES,
            )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def decode(body: bytes, kind: type[T]) -> T:
    """Read an answer into `kind`.

    Raises:
        UpstreamFault: it is something else.
    """
    try:
        decoder = _DECODERS.get(kind)
        if decoder is None:
            decoder = _DECODERS[kind] = msgspec.json.Decoder(kind)
        found: T = decoder.decode(body)
    except msgspec.MsgspecError as error:
        raise UpstreamFault(f"the API server's answer is not readable: {error}") from error
    return found


async def lines(content: asyncio.StreamReader | aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield whole lines of any length; a last one without its end is dropped."""
    parts: list[bytes] = []
    while chunk := await content.read(READ_BYTES):
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            parts.append(line)
            yield b"".join(parts)
            parts = []
        if rest:
            parts.append(rest)


def event_of(line: bytes, kind: type[T]) -> WatchEvent[T]:
    """Read one line of a watch.

    Raises:
        Gone: the line says so; other refusals raise their own leaf.
        UpstreamFault: it is no event.
    """
    try:
        told = _LINE.decode(line)
    except msgspec.MsgspecError as error:
        raise UpstreamFault("a line of the watch is no event") from error
    if told.type == "ERROR":
        body = bytes(told.object)
        raise error_of(read_refusal(body).code or 500, body, "watch", {})
    try:
        change = Change(told.type)
    except ValueError as error:
        raise UpstreamFault(f"a watch told {told.type!r}") from error
    body = bytes(told.object)
    if change is Change.BOOKMARK:  # of a pod: its spec has null where every pod has containers
        body = b'{"metadata":' + bytes(decode(body, _Bookmark).metadata) + b"}"
    return WatchEvent(change, decode(body, kind))
