"""The one HTTP client of all services: tokens, traces, time-outs and foreign errors in our tree.

A typed ``client.py`` of a service is a thin layer on ``HttpClient``. Retrying is off unless the
caller says that the request may be repeated; then ``core.retry`` bounds it.
"""

import json as jsonlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import stamina

from twinfra.core.errors import (
    BY_STATUS,
    NotFound,
    TwinfraError,
    Unavailable,
    UpstreamFault,
    UpstreamTimeout,
    shorten,
)
from twinfra.core.telemetry import inject_trace

TokenSource = Callable[[], Awaitable[str]]
OK = (200, 201, 202, 204)
ATTEMPTS = 4
RETRY_WITHIN_S = 10.0
RETRY_AFTER_MOST_S = 3600.0
FIELD_ERRORS_MOST = 100


@dataclass(frozen=True)
class Reply:
    """An answer read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the body as JSON.

        Raises:
            UpstreamFault: it is not JSON.
        """
        try:
            return jsonlib.loads(self.body) if self.body else None
        except ValueError as error:
            raise UpstreamFault(f"not JSON: {shorten(self.text())}") from error

    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode("utf-8", "replace")


class HttpClient:
    """Speaks to one service.

    Args:
        base_url: of the service, without a slash at its end.
        tls: the context that trusts its certificate; none for plain HTTP.
        token: gives the bearer token of each request; none sends no token.
        timeout_s: for a whole answer; a stream has it between two reads.
        uds: path of a Unix socket to speak over instead of TCP.
    """

    def __init__(
        self,
        base_url: str,
        *,
        tls: ssl.SSLContext | None = None,
        token: TokenSource | None = None,
        timeout_s: float = 30.0,
        uds: str | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._tls, self._token, self._timeout_s, self._uds = tls, token, timeout_s, uds
        self._session: aiohttp.ClientSession | None = None

    async def request(  # noqa: PLR0913 - the whole of an HTTP request, by keyword
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        expect: tuple[int, ...] = OK,
        token: str | None = None,
        retry: bool = False,
        timeout_s: float | None = None,
    ) -> Reply:
        """Send a request and read the answer whole.

        Args:
            method: of the request.
            path: below the base URL, or a whole URL.
            json: sent as the JSON body.
            data: sent as it is.
            params: of the query.
            headers: added to ours.
            expect: statuses that are fine; all others raise.
            token: instead of the client's own.
            retry: the request may be repeated: tried up to four times within ten seconds.
            timeout_s: instead of the client's own.

        Raises:
            TwinfraError: the leaf that fits the foreign status; `Unavailable` when nobody listens,
                `UpstreamTimeout` when nothing came in time.
        """
        attempts = stamina.retry_context(
            on=Unavailable,
            attempts=ATTEMPTS if retry else 1,
            timeout=RETRY_WITHIN_S,
            wait_initial=0.05,
            wait_max=2.0,
        )
        async for attempt in attempts:
            with attempt:
                async with self.stream(
                    method,
                    path,
                    json=json,
                    data=data,
                    params=params,
                    headers=headers,
                    token=token,
                    timeout_s=timeout_s or self._timeout_s,
                ) as answer:
                    reply = Reply(answer.status, answer.headers, await answer.read())
                if reply.status not in expect:
                    raise error_of(reply, f"{method} {answer.url.path}")
                return reply
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def stream(  # noqa: PLR0913 - as request
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: Any = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        token: str | None = None,
        timeout_s: float | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request and give the answer to be read as it comes; statuses are not judged.

        Args:
            method: of the request.
            path: below the base URL, or a whole URL.
            json: sent as the JSON body.
            data: sent as it is.
            params: of the query.
            headers: added to ours.
            token: instead of the client's own.
            timeout_s: for the whole answer; without it, between two reads.
        """
        sent = dict(headers or {})
        inject_trace(sent)
        bearer = token or (await self._token() if self._token else None)
        if bearer and "Authorization" not in sent:
            sent["Authorization"] = f"Bearer {bearer}"
        timeout = aiohttp.ClientTimeout(
            total=timeout_s, sock_connect=10, sock_read=None if timeout_s else self._timeout_s
        )
        url = path if "://" in path else self.base_url + path
        try:
            async with self._opened().request(
                method,
                url,
                json=json,
                data=data,
                headers=sent,
                timeout=timeout,
                params={k: v for k, v in (params or {}).items() if v is not None},
                ssl=self._tls or True,
                allow_redirects=False,
            ) as answer:
                yield answer
        except TimeoutError as error:
            raise UpstreamTimeout(f"{method} {url} did not answer in time") from error
        except aiohttp.ClientError as error:
            raise Unavailable(f"{method} {url}: {shorten(str(error))}") from error

    async def websocket(
        self,
        path: str,
        *,
        token: str | None = None,
        query: Sequence[tuple[str, str]] = (),
        protocols: Sequence[str] = (),
        **params: str,
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket; the caller closes it.

        Args:
            path: below the base URL.
            token: instead of the client's own.
            query: of the query, where a name may come several times.
            protocols: of which the server is to choose one; it must where there are any.
            params: of the query.

        Raises:
            TwinfraError: as for `request`; UpstreamFault: the server speaks none of the protocols.
        """
        sent: dict[str, str] = {}
        inject_trace(sent)
        bearer = token or (await self._token() if self._token else None)
        if bearer:
            sent["Authorization"] = f"Bearer {bearer}"
        try:
            opened = await self._opened().ws_connect(
                self.base_url + path,
                headers=sent,
                params=[*query, *params.items()],
                protocols=protocols,
                ssl=self._tls or True,
                max_msg_size=0,
            )
        except aiohttp.WSServerHandshakeError as error:
            raise error_of(Reply(error.status, {}, b""), f"GET {path}") from error
        except aiohttp.ClientError as error:
            raise Unavailable(f"GET {path}: {shorten(str(error))}") from error
        if protocols and opened.protocol is None:
            await opened.close()
            raise UpstreamFault(f"GET {path}: the server speaks none of {', '.join(protocols)}")
        return opened

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(self._uds) if self._uds else aiohttp.TCPConnector()
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=True,
                cookie_jar=aiohttp.DummyCookieJar(),  # many callers share it: none has a session
            )
        return self._session


def error_of(reply: Reply, what: str) -> TwinfraError:
    """Return the error of our tree that fits a foreign answer, its text cut short."""
    leaf = BY_STATUS.get(reply.status)
    if leaf is None:
        leaf = UpstreamFault if reply.status >= 500 or reply.status < 400 else BY_STATUS[400]
    if reply.status == 500:
        leaf = UpstreamFault
    if reply.status in {405, 410}:
        leaf = NotFound
    after = reply.headers.get("Retry-After", "")
    return leaf(
        f"{what}: {reply.status} {_text_of(reply)}".strip(),
        retry_after_s=min(float(after), RETRY_AFTER_MOST_S) if after.isdecimal() else None,
        errors=_entries_of(reply),
    )


def _entries_of(reply: Reply) -> list[dict[str, Any]]:
    """Return what a foreign error says of single fields, each text cut short."""
    try:
        found = jsonlib.loads(reply.body)["errors"]
    except (ValueError, KeyError, TypeError):
        return []
    entries = [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
    return [
        {
            str(name): shorten(value) if isinstance(value, str) else value
            for name, value in each.items()
            if isinstance(value, str | int | float)
        }
        for each in entries[:FIELD_ERRORS_MOST]
    ]


def _text_of(reply: Reply) -> str:
    """Return what a foreign error says: the detail of a problem, else the body."""
    try:
        body = jsonlib.loads(reply.body)
    except ValueError:
        return shorten(reply.text())
    if isinstance(body, dict):
        for key in ("detail", "ExceptionMessage", "message", "error_description"):
            if isinstance(body.get(key), str):
                return shorten(body[key])
    return shorten(reply.text())
