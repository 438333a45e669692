"""What every HTTP service of ours has: health, metrics, documentation, problem details, traces.

``create_app`` gives a FastAPI application with ``/healthz``, ``/readyz``, ``/metrics``, ``/docs``
and ``/openapi.json``; the last three want a token. Errors of the tree become RFC 9457 answers,
unless a compatible API hands in its own way to spell them. Knows nothing of who may do what: that
is ``access``.
"""

import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Histogram, generate_latest
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twinfra.core.errors import (
    BY_STATUS,
    InternalError,
    InvalidRequest,
    TwinfraError,
    problem,
    shorten,
)
from twinfra.core.telemetry import current_trace_id, get_logger, span

log = get_logger(__name__)

Authenticate = Callable[[Request], Awaitable[Any]]
Render = Callable[[Request, TwinfraError], Response]

BODY_LIMIT_BYTES = 16 * 1024 * 1024
NOT_ANSWERED = 499
OPERATION = frozenset({"/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"})

REQUESTS = Counter("twinfra_http_requests", "Requests answered", ["service", "method", "status"])
SECONDS = Histogram("twinfra_http_request_seconds", "Time to answer", ["service", "method"])


def create_app(
    name: str,
    *,
    title: str,
    authenticate: Authenticate | None = None,
    ready: Callable[[], bool] = lambda: True,
    render: Render | None = None,
    body_limit_bytes: int = BODY_LIMIT_BYTES,
) -> FastAPI:
    """Return an application with what every service has.

    Args:
        name: the service, as in logs and metrics.
        title: its name for people.
        authenticate: called before ``/metrics``, ``/docs`` and ``/openapi.json``; a dependency.
        ready: says whether ``/readyz`` answers 200 or 503.
        render: how errors look; default: problem details. Compatible APIs pass their own, which
            holds for all routes but those named above.
        body_limit_bytes: a larger request body is refused with 413.
    """
    app = FastAPI(title=title, docs_url=None, redoc_url=None, openapi_url=None)
    spell = _by_route(render) if render else render_problem
    _add_error_handlers(app, spell)
    _add_own_routes(app, name, title, authenticate, ready)
    app.add_middleware(RequestEdge, service=name, limit_bytes=body_limit_bytes, spell=spell)
    return app


def render_problem(request: Request, error: TwinfraError) -> Response:
    """Answer `error` as problem details (RFC 9457)."""
    headers = error_headers(error)
    body = problem(error, instance=request.url.path, trace_id=current_trace_id())
    return JSONResponse(body, error.status, headers, media_type="application/problem+json")


def _by_route(render: Render) -> Render:
    """Let `render` spell errors of all routes but those that every service has."""

    def spell(request: Request, error: TwinfraError) -> Response:
        return (render_problem if request.url.path in OPERATION else render)(request, error)

    return spell


def error_headers(error: TwinfraError) -> dict[str, str]:
    """Return the headers that belong to `error`: when to try again, how to authenticate."""
    headers = dict(getattr(error, "headers", {}))
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(0, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers.setdefault("WWW-Authenticate", "Bearer")
    return headers


def _add_error_handlers(app: FastAPI, spell: Render) -> None:
    async def ours(request: Request, error: Exception) -> Response:
        assert isinstance(error, TwinfraError)  # noqa: S101 - narrows the type that we registered
        if error.context:
            log.info("request_refused", code=error.code, **error.context)
        return spell(request, error)

    async def validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - as above
        fields = [
            {"field": ".".join(map(str, entry["loc"])), "detail": entry["msg"]}
            for entry in error.errors()
        ]
        named = "; ".join(f"{entry['field']}: {entry['detail']}" for entry in fields)
        return spell(request, InvalidRequest(shorten(named), errors=fields))

    async def framework(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - as above
        answer = spell(request, _error_of(request.scope, error))
        answer.headers.update(error.headers or {})
        return answer

    app.add_exception_handler(TwinfraError, ours)
    app.add_exception_handler(RequestValidationError, validation)
    app.add_exception_handler(HTTPException, framework)


def _error_of(scope: Scope, error: HTTPException) -> TwinfraError:
    """Return the framework's own error (no such route, wrong method, too much) as one of ours."""
    facts = {
        "code": f"http-{error.status_code}",
        "title": HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
    }
    leaf: type[TwinfraError] = BY_STATUS.get(error.status_code) or type(
        "HttpError", (TwinfraError,), facts
    )
    return leaf(f"{scope['method']} {scope['path']}: {error.detail}")


def _add_own_routes(
    app: FastAPI,
    name: str,
    title: str,
    authenticate: Authenticate | None,
    ready: Callable[[], bool],
) -> None:
    guarded = [Depends(authenticate)] if authenticate else []

    @app.get("/healthz", tags=["operation"], summary="The process is alive")
    async def healthz() -> dict[str, str]:
        return {"status": "ok", "service": name}

    @app.get("/readyz", tags=["operation"], summary="The service can do its work")
    async def readyz() -> Response:
        fine = ready()
        body = {"status": "ok" if fine else "not ready", "service": name}
        return JSONResponse(body, 200 if fine else 503)

    @app.get("/metrics", tags=["operation"], dependencies=guarded, summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/openapi.json", dependencies=guarded, include_in_schema=False)
    async def openapi() -> Response:
        return JSONResponse(app.openapi())

    @app.get("/docs", dependencies=guarded, include_in_schema=False)
    async def docs() -> Response:
        return get_swagger_ui_html(openapi_url="openapi.json", title=title)


class RequestEdge:
    """The edge of every request: trace, context for the log, limit, one canonical line.

    A crash of the application ends here: it is logged, and answered by `spell` where nothing was
    sent yet; a half-sent answer is cut off, so that nobody takes it for a whole one.
    """

    def __init__(
        self, app: ASGIApp, *, service: str, limit_bytes: int, spell: Render = render_problem
    ) -> None:
        self._app, self._service, self._limit_bytes = app, service, limit_bytes
        self._spell = spell

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        exchange = _Exchange(self._limit_bytes, receive, send)
        started = time.perf_counter()
        with (
            structlog.contextvars.bound_contextvars(container=self._service),
            span(f"{self._service} {scope['method']}", headers),
        ):
            try:
                await self._app(scope, exchange.receive, exchange.send)
            except HTTPException as error:
                await self._answer(scope, exchange, _error_of(scope, error))
            except Exception:  # the edge of a request: it is logged and answered
                log.exception("request_crashed", path=scope["path"])
                if exchange.status != NOT_ANSWERED:
                    raise
                trouble = InternalError("this is our fault; the log has the cause")
                await self._answer(scope, exchange, trouble)
            finally:
                self._note(scope, exchange.status, time.perf_counter() - started)

    async def _answer(self, scope: Scope, exchange: "_Exchange", error: TwinfraError) -> None:
        await self._spell(Request(scope), error)(scope, exchange.receive, exchange.send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        method, path = scope["method"], scope["path"]
        REQUESTS.labels(self._service, method, str(status)).inc()
        SECONDS.labels(self._service, method).observe(seconds)
        if path not in {"/healthz", "/readyz", "/metrics"}:
            with suppress(ValueError):  # a closed log at the end of a process
                log.info(
                    "request_answered",
                    method=method,
                    path=path,
                    status=status,
                    duration_s=round(seconds, 4),
                )


class _Exchange:
    """One request and its answer: the body counted, the status noted."""

    def __init__(self, limit_bytes: int, receive: Receive, send: Send) -> None:
        self._limit_bytes, self._receive, self._send = limit_bytes, receive, send
        self._seen_bytes = 0
        self.status = NOT_ANSWERED

    async def receive(self) -> Message:
        """Receive a part of the request.

        Raises:
            HTTPException: 413, the body is larger than allowed.
        """
        message = await self._receive()
        self._seen_bytes += len(message.get("body", b""))
        if self._seen_bytes > self._limit_bytes:
            raise HTTPException(413, f"the body is over {self._limit_bytes} bytes")
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
