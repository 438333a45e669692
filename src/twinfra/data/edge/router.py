"""The edge of the edge: which handler, in which words errors are told, one canonical line each.

Nothing below lets an error out of here, but that the client has left.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, Counter, generate_latest

from twinfra.core.errors import TwinfraError
from twinfra.core.http.app import REQUESTS, SECONDS
from twinfra.core.telemetry import get_logger, span
from twinfra.data.edge.copying.handler import Copier
from twinfra.data.edge.dav import moving, propfind, reading, writing
from twinfra.data.edge.events.api import ROOT as EVENTS
from twinfra.data.edge.events.api import EventsApi
from twinfra.data.edge.paths import Resource, resource_of, split_target
from twinfra.data.edge.site import Site
from twinfra.data.edge.wire.errors import ClientGone, HttpRefusal
from twinfra.data.edge.wire.exchange import Exchange

log = get_logger(__name__)

BYTES = Counter("twinfra_edge_bytes", "Bytes of bodies", ["site", "direction"])
ALLOW = "OPTIONS, GET, HEAD, PUT, DELETE, MKCOL, COPY, MOVE, PROPFIND, PROPPATCH"
DAV_FIELDS = [("DAV", "1"), ("Allow", ALLOW), ("MS-Author-Via", "DAV")]
OWN = {"/healthz", "/readyz", "/metrics"}
Handler = Callable[[Site, Exchange, Resource], Awaitable[None]]


class Router:
    """Answers every request of the door.

    Args:
        site: this one.
        copier: answers COPY.
        events: answers the events API.
        ready: says whether the edge can do its work.
    """

    def __init__(
        self, site: Site, copier: Copier, events: EventsApi, ready: Callable[[], bool]
    ) -> None:
        self._site, self._events, self._ready = site, events, ready
        self._service = f"edge@{site.name}"
        self._handlers: Mapping[str, Handler] = {
            "GET": reading.get,
            "HEAD": reading.get,
            "PUT": writing.put,
            "DELETE": writing.delete,
            "MKCOL": writing.mkcol,
            "MOVE": moving.move,
            "COPY": copier.copy,
            "PROPFIND": propfind.propfind,
            "PROPPATCH": propfind.proppatch,
        }

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request.

        Raises:
            ClientGone: the client left before the answer was whole.
        """
        head = exchange.head
        started = time.perf_counter()
        with (
            structlog.contextvars.bound_contextvars(container=self._service, site=self._site.name),
            span(f"{self._service} {head.method}", head.headers),
        ):
            try:
                await self._answer(exchange)
            finally:
                self._note(exchange, time.perf_counter() - started)

    async def _answer(self, exchange: Exchange) -> None:
        events = False
        try:
            path, query = split_target(exchange.head.target)
            events = path.startswith(EVENTS.encode() + b"/") or path == EVENTS.encode()
            if events:
                text = path.decode("ascii", "replace")[len(EVENTS) :]
                await self._events.handle(exchange, text, query.decode("ascii", "replace"))
            else:
                await self._dispatch(exchange, path)
        except ClientGone:
            raise
        except HttpRefusal as refusal:
            await self._refuse(exchange, refusal, events=events)
        except TwinfraError as error:
            await self._refuse(exchange, _refusal(error), events=events)
        except ConnectionError as error:
            raise ClientGone(str(error)) from error
        except OSError as error:
            answer = writing.refusal_of(error)
            if answer.status >= 500:
                log.warning("file_system_failed", error=str(error))
            await self._refuse(exchange, answer, events=events)
        except Exception:
            # the last line: a bug must cost one request, not the edge
            log.exception("request_crashed")
            await self._refuse(exchange, HttpRefusal(500, "this is our fault"), events=events)

    async def _dispatch(self, exchange: Exchange, path: bytes) -> None:
        method = exchange.head.method
        if method == "OPTIONS":
            await exchange.answer(200, headers=DAV_FIELDS)
            return
        name = path.decode("ascii", "replace")
        if name in OWN and method in {"GET", "HEAD"}:
            await self._own(exchange, name)
            return
        resource = resource_of(path)
        if resource is None:
            raise HttpRefusal(404)
        handler = self._handlers.get(method)
        if handler is None:
            raise HttpRefusal(405, headers=[("Allow", ALLOW)])
        await handler(self._site, exchange, resource)

    async def _own(self, exchange: Exchange, name: str) -> None:
        if name == "/metrics":
            await self._site.identify(exchange)
            text = await self._site.io(generate_latest)
            await exchange.answer(200, text, content_type=CONTENT_TYPE_LATEST)
            return
        fine = name == "/healthz" or self._ready()
        body = {"status": "ok" if fine else "not ready", "service": self._service}
        await exchange.answer(
            200 if fine else 503, json.dumps(body), content_type="application/json"
        )

    async def _refuse(self, exchange: Exchange, refusal: HttpRefusal, *, events: bool) -> None:
        if exchange.begun:
            raise ClientGone("the answer had begun when it failed")
        if not events or refusal.status == 304:
            await exchange.refuse(refusal)
            return
        body = {"errors": [{"message": refusal.text, "status": str(refusal.status)}]}
        await exchange.answer(
            refusal.status, json.dumps(body), refusal.headers, content_type="application/json"
        )

    def _note(self, exchange: Exchange, seconds: float) -> None:
        method, status = exchange.head.method, exchange.status or 499
        REQUESTS.labels(self._service, method, str(status)).inc()
        SECONDS.labels(self._service, method).observe(seconds)
        BYTES.labels(self._site.name, "in").inc(exchange.body.received)
        BYTES.labels(self._site.name, "out").inc(exchange.sent_bytes)
        target = exchange.head.target.partition(b"?")[0].decode("latin-1")
        if target in OWN:
            return
        with suppress(ValueError):  # a closed log at the end of a process
            log.info(
                "request_answered",
                method=method,
                path=target,
                status=status,
                duration_s=round(seconds, 4),
                in_bytes=exchange.body.received,
                out_bytes=exchange.sent_bytes,
                client=exchange.client,
            )


def _refusal(error: TwinfraError) -> HttpRefusal:
    """Return how an error of the tree is answered on routes that have bodies of their own."""
    headers = dict(getattr(error, "headers", {}))
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(0, round(error.retry_after_s)))
    return HttpRefusal(error.status, error.detail, list(headers.items()))
