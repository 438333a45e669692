"""Streams of events end when their door is shut: they would go on for ever, and hold it open."""

import asyncio
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

EVENT_STREAM = b"text/event-stream"


class EndingStreams:
    """An application whose streams of server-sent events can be ended.

    Their readers see the end of the answer, as the protocol has it, and ask again elsewhere.

    Source: WHATWG HTML, server-sent events; ASGI 3.0.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._streaming: set[asyncio.Task[object]] = set()
        self._ending = False

    def end(self) -> None:
        """End all streams, and those that begin from now on."""
        if self._ending:
            return  # who ends just now is not interrupted again
        self._ending = True
        for task in self._streaming:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        task = asyncio.current_task()
        if scope["type"] != "http" or task is None:
            await self._app(scope, receive, send)
            return

        async def watched(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start" and _is_stream(message["headers"]):
                self._streaming.add(task)
                if self._ending:
                    task.cancel()

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            if not self._ending or task not in self._streaming:
                raise
            task.uncancel()
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._streaming.discard(task)


def _is_stream(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    return any(
        name.lower() == b"content-type" and value.startswith(EVENT_STREAM)
        for name, value in headers
    )
