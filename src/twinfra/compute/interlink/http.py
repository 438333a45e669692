"""What both hops' HTTP doors share: plain errors, WebSockets and streamed answers."""

import html
from collections.abc import AsyncIterator, Awaitable, Callable

from fastapi import APIRouter, Request, Response, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.websockets import WebSocketDisconnect

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import bearer_of
from twinfra.access.model import Principal
from twinfra.core.errors import InvalidRequest, TwinfraError
from twinfra.core.http.app import error_headers, render_problem
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)

PLAIN_PATHS = frozenset({"/create", "/delete", "/status", "/getLogs", "/pinglink", "/updateCache"})
NO_CACHE = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


class ServerPipe:
    """A `Pipe` over an accepted WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def send(self, piece: bytes) -> None:
        """Send one message."""
        await self._socket.send_bytes(piece)

    async def receive(self) -> bytes | None:
        """Return the next message; None once the other side has closed."""
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                return None
            if message.get("bytes") is not None:
                return bytes(message["bytes"])


Handler = Callable[..., Awaitable[Response]]


def lenient(
    router: APIRouter, path: str, published: str, *others: str, summary: str
) -> Callable[[Handler], Handler]:
    """Return a decorator that serves a path by its published method, and off the record by others.

    Upstream's server takes any method; its description, and ours, name one.
    """

    def register(handler: Handler) -> Handler:
        router.add_api_route(path, handler, methods=[published], summary=summary)
        rest = [method for method in others if method != published]
        router.add_api_route(path, handler, methods=rest, include_in_schema=False)
        return handler

    return register


async def caller_of(socket: WebSocket, authenticator: Authenticator) -> Principal:
    """Return who opens a WebSocket.

    Raises:
        TokenRefused: the request proves nobody.
    """
    headers = [
        (name.decode("latin-1").lower(), value.decode("latin-1"))
        for name, value in socket.scope["headers"]
    ]
    return await authenticator.authenticate(bearer_of(headers))


def port_of(socket: WebSocket) -> int:
    """Return the port that the query of a WebSocket names.

    Raises:
        InvalidRequest: it names none.
    """
    spelled = socket.query_params.get("port", "")
    if not spelled.isdigit() or len(spelled) > 5:
        raise InvalidRequest("port must be from 1 to 65535")
    return int(spelled)


async def deny(socket: WebSocket, error: TwinfraError) -> None:
    """Refuse a WebSocket with the answer that an HTTP request would get."""
    log.info("tunnel_refused", path=socket.url.path, status=error.status, detail=error.detail)
    answer = PlainTextResponse(error.detail, error.status, error_headers(error))
    await socket.send_denial_response(answer)


async def shut(socket: WebSocket) -> None:
    """Close a WebSocket whose other side may be gone already."""
    try:
        await socket.close()
    except (RuntimeError, WebSocketDisconnect):
        return


async def stream_of(lines: AsyncIterator[bytes], media_type: str) -> Response:
    """Return a streamed answer; an error before the first piece is still an error's answer."""
    try:
        first = await anext(lines)
    except StopAsyncIteration:
        return Response(b"", media_type=media_type)

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in lines:
            yield piece

    return StreamingResponse(pieces(), media_type=media_type, headers=NO_CACHE)


def render_plain(request: Request, error: TwinfraError) -> Response:
    """Answer errors of interLink's paths as plain text, all others as problem details."""
    if request.url.path not in PLAIN_PATHS:
        return render_problem(request, error)
    return PlainTextResponse(
        html.escape(error.detail, quote=False), error.status, error_headers(error)
    )
