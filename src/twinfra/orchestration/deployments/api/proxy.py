"""The proxy to services of deployments: ``/services/<id>/...``.

Checks token and group, then streams request and answer both ways through the service's tunnel; the
service itself sees no token, only who calls. Where nothing serves at the moment the answer is 503
with ``Retry-After``.

Source: RFC 9110 §7.6.1 (hop-by-hop fields), RFC 7239 in its older spelling (``X-Forwarded-*``).
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send
from yarl import URL

from twinfra.access.audit import audit
from twinfra.access.authenticator import Authenticator
from twinfra.access.http import bearer_of
from twinfra.access.model import Principal
from twinfra.core.errors import (
    BY_STATUS,
    InsufficientScope,
    InvalidRequest,
    TwinfraError,
    Unavailable,
    UpstreamTimeout,
)
from twinfra.core.telemetry import get_logger, inject_trace
from twinfra.orchestration.deployments.api.errors import SERVICES, render
from twinfra.orchestration.deployments.traffic import AGAIN_S, Route, ServiceTraffic

log = get_logger(__name__)

HOP_BY_HOP = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "trailer",
        "transfer-encoding", "upgrade", "proxy-connection",
    }
)  # fmt: skip
OURS = frozenset({"authorization", "host", "content-length", "x-rucio-auth-token", "traceparent"})
FORWARDED = ("x-forwarded-", "x-twinfra-", "forwarded")
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


class ServiceProxy:
    """An ASGI application.

    Args:
        traffic: knows where services are, and the connections to them.
        authenticator: of this service's audience.
        timeout_s: of silence.
    """

    def __init__(
        self, traffic: ServiceTraffic, authenticator: Authenticator, *, timeout_s: float
    ) -> None:
        self._traffic, self._authenticator = traffic, authenticator
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=timeout_s)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; other connections than HTTP are refused."""
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008, "reason": "not offered here"})
            return
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._serve(scope, receive, noted)
        except (TwinfraError, HTTPException) as error:
            if begun:
                raise
            answer = render(Request(scope), _as_ours(error))
            await answer(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(k.decode("latin-1").lower(), v.decode("latin-1")) for k, v in scope["headers"]]
        principal = await self._authenticator.authenticate(bearer_of(headers))
        node_id, path = _split(scope)
        route = await self._traffic.route(node_id)
        _check(principal, route)
        body = _Body(receive, has_body=_has_body(headers))
        try:
            await self._forward(scope, headers, principal, route, path, body, send)
        except Unavailable:
            # what serves may have changed between the look-up and the connection: look once more
            if body.begun or scope["method"] not in SAFE:
                raise
            self._traffic.switch(node_id)
            route = await self._traffic.route(node_id)
            await self._forward(scope, headers, principal, route, path, body, send)

    async def _forward(
        self,
        scope: Scope,
        headers: Iterable[tuple[str, str]],
        principal: Principal,
        route: Route,
        path: URL,
        body: "_Body",
        send: Send,
    ) -> None:
        if route.attempt is None:
            raise Unavailable(route.reason, retry_after_s=AGAIN_S)
        prefix = SERVICES + route.node
        sent = [*_sent(headers), *_forwarded(scope, principal, prefix)]
        async with self._traffic.lane(route.attempt) as session:
            try:
                answer = await session.request(
                    scope["method"],
                    path,
                    headers=sent,
                    data=body.pieces() if body.has_body else None,
                    allow_redirects=False,
                    timeout=self._timeout,
                    skip_auto_headers=("User-Agent", "Content-Type", "Accept", "Accept-Encoding"),
                )
            except TimeoutError as error:
                raise UpstreamTimeout("the service did not answer in time") from error
            except (aiohttp.ClientError, OSError) as error:
                if body.trouble is not None:
                    raise body.trouble from error
                raise Unavailable("the service does not answer", retry_after_s=AGAIN_S) from error
            async with answer:
                await _relay(answer, prefix, body, send)


class _Body:
    """The request's body as it comes, and the moment when the caller goes."""

    def __init__(self, receive: Receive, *, has_body: bool) -> None:
        self._receive = receive
        self.has_body, self.begun = has_body, False
        self.trouble: HTTPException | None = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the body; a caller that goes in the middle ends the request upstream too."""
        self.begun = True
        while True:
            try:
                message = await self._receive()
            except HTTPException as error:
                self.trouble = error
                raise
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the caller has gone")
            if piece := message.get("body", b""):
                yield piece
            if not message.get("more_body", False):
                return

    async def gone(self) -> None:
        """Return when the caller has gone."""
        while True:
            if (await self._receive())["type"] == "http.disconnect":
                return


async def _relay(answer: aiohttp.ClientResponse, prefix: str, body: _Body, send: Send) -> None:
    """Pass the answer on as it comes; stop when the caller goes."""
    headers = [
        (name.lower().encode("latin-1"), _located(name, value, prefix).encode("latin-1"))
        for name, value in answer.headers.items()
        if name.lower() not in HOP_BY_HOP
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def pieces() -> None:
        async for piece in answer.content.iter_any():
            await send({"type": "http.response.body", "body": piece, "more_body": True})

    passing, going = asyncio.create_task(pieces()), asyncio.create_task(body.gone())
    try:
        await asyncio.wait({passing, going}, return_when=asyncio.FIRST_COMPLETED)
        if not passing.done():
            answer.close()
            return
        await _finish(passing, send)
    finally:
        for task in (passing, going):
            task.cancel()
        await asyncio.gather(passing, going, return_exceptions=True)


async def _finish(passing: "asyncio.Task[None]", send: Send) -> None:
    try:
        passing.result()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        # the status is out: only a broken connection can still say that this is not the whole
        raise Unavailable("the service broke off its answer") from error
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _split(scope: Scope) -> tuple[str, URL]:
    """Return the service's id and the URL for it, its path and query exactly as they were sent."""
    raw = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1").partition("?")[0]
    node_id, _, rest = raw.removeprefix(SERVICES).partition("/")
    query = scope.get("query_string", b"").decode("latin-1")
    url = f"http://localhost/{rest}" + (f"?{query}" if query else "")
    try:
        return node_id, URL(url, encoded=True)
    except ValueError as error:
        raise InvalidRequest("the path is malformed") from error


def _check(principal: Principal, route: Route) -> None:
    owner = (principal.issuer, principal.sub) == (route.issuer, route.owner)
    if owner or principal.is_service or route.group in principal.groups:
        return
    audit("service.call", principal, "denied", route.node, group=route.group)
    raise InsufficientScope(f"only members of {route.group} may call this service")


def _has_body(headers: Iterable[tuple[str, str]]) -> bool:
    found = dict(headers)
    return "transfer-encoding" in found or found.get("content-length", "0") != "0"


def _sent(headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the caller's headers without ours, the connection's, and forged forwarding ones."""
    kept = list(headers)
    named = {word.strip().lower() for k, v in kept if k == "connection" for word in v.split(",")}
    sent = [
        (name, value)
        for name, value in kept
        if name not in HOP_BY_HOP | OURS | named and not name.startswith(FORWARDED)
    ]
    length = dict(kept).get("content-length")
    chunked = "transfer-encoding" in dict(kept)
    return [*sent, ("content-length", length)] if length and not chunked else sent


def _forwarded(scope: Scope, principal: Principal, prefix: str) -> list[tuple[str, str]]:
    found = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
    trace: dict[str, str] = {}
    inject_trace(trace)
    return [
        ("X-Forwarded-Host", found.get("host", "")),
        ("X-Forwarded-Proto", scope.get("scheme", "https")),
        ("X-Forwarded-Prefix", prefix),
        ("X-Forwarded-User", principal.sub),
        ("X-Forwarded-Groups", ",".join(sorted(principal.groups))),
        *trace.items(),
    ]


def _located(name: str, value: str, prefix: str) -> str:
    """Keep redirects of the service below its own address."""
    if name.lower() == "location" and value.startswith("/") and not value.startswith("//"):
        return prefix + value
    return value


def _as_ours(error: Any) -> TwinfraError:
    if isinstance(error, TwinfraError):
        return error
    leaf = BY_STATUS.get(error.status_code)
    if leaf is not None:
        return leaf(str(error.detail))
    other = type("HttpError", (InvalidRequest,), {"status": error.status_code})
    found: TwinfraError = other(str(error.detail))
    return found
