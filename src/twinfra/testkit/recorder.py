"""Notes each request that reaches an application of ours, and passes it on."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twinfra.compute.interlink.model.ping import EXTENSIONS_HEADER

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADER = EXTENSIONS_HEADER.lower().encode()


@dataclass(frozen=True)
class Call:
    """One request; ``body`` is its JSON, None where it has none or was refused unread."""

    method: str
    path: str
    body: Any


class Recorder:
    """Stands before applications and remembers what they are asked.

    Args:
        without: extensions of interLink that are left out of what the applications say they have.
    """

    def __init__(self, *, without: Iterable[str] = ()) -> None:
        self.calls: list[Call] = []
        self._without = frozenset(without)

    def of(self, path: str) -> list[Call]:
        """Return the calls of one path, in order."""
        return [call for call in self.calls if call.path == path]

    def before(self, app: "ASGIApp") -> "ASGIApp":
        """Return `app` with this recorder before it."""

        async def recorded(scope: "Scope", receive: "Receive", send: "Send") -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            pieces: list[bytes] = []
            seen = asyncio.Event()

            async def receiving() -> "Message":
                message = await receive()
                pieces.append(message.get("body", b""))
                if not message.get("more_body") and not seen.is_set():
                    self._note(scope, b"".join(pieces))
                    seen.set()
                return message

            async def sending(message: "Message") -> None:
                await send(self._less(message))

            await app(scope, receiving, sending)
            if not seen.is_set():  # refused before its body was read
                self._note(scope, b"".join(pieces))

        return recorded

    def _note(self, scope: "Scope", body: bytes) -> None:
        read = None
        with suppress(ValueError):
            read = json.loads(body)
        self.calls.append(Call(scope["method"], scope["path"], read))

    def _less(self, message: "Message") -> "Message":
        """Leave the unwanted extensions out of an answer's header."""
        if message["type"] != "http.response.start" or not self._without:
            return message
        headers = [
            (name, self._named(value) if name.lower() == HEADER else value)
            for name, value in message.get("headers", [])
        ]
        return {**message, "headers": headers}

    def _named(self, value: bytes) -> bytes:
        words = [word.strip() for word in value.decode().split(",")]
        return ", ".join(word for word in words if word not in self._without).encode()
