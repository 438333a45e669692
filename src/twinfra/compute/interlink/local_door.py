"""A door of the plug-in for an API server on the same machine that knows no tokens.

Whoever reaches the Unix socket is the site's own user (`core/unix.py` sees to that), and stands for
all of its pods. Off unless the settings name a path.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from twinfra.access.model import Principal

Scope = MutableMapping[str, Any]
Channel = Callable[..., Awaitable[Any]]
App = Callable[[Scope, Channel, Channel], Awaitable[None]]


def local_server() -> Principal:
    """Return who calls through the socket: a service of this machine."""
    return Principal(
        issuer="unix",
        sub="service:interlink-socket",
        client_id=None,
        groups=frozenset(),
        scopes=(),
        actor=None,
        token="",
        is_service=True,
    )


def trusting(app: App) -> App:
    """Return the application, every request of which is the local API server's."""

    async def answer(scope: Scope, receive: Channel, send: Channel) -> None:
        if scope["type"] == "http":
            scope = {**scope, "state": {**scope.get("state", {}), "principal": local_server()}}
        await app(scope, receive, send)

    return answer
