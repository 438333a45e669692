"""Bearer tokens at the door of a FastAPI application.

`authenticated` is a dependency that gives the principal; what it refuses is answered with the
``WWW-Authenticate`` header of RFC 6750 §3 (the error carries it). A token is only taken from one
header, never from the query string or a body.
"""

from collections.abc import Awaitable, Callable, Sequence

from starlette.requests import HTTPConnection

from twinfra.access.audit import audit
from twinfra.access.authenticator import Authenticator
from twinfra.access.errors import TokenRefused
from twinfra.access.model import Principal

AUTHORIZATION = "authorization"
_SCHEME = "bearer"


def bearer_of(headers: Sequence[tuple[str, str]], *, also: str | None = None) -> str:
    """Return the one bearer token among `headers` (lower-case names).

    Args:
        headers: all of the request, repeated ones too.
        also: another header that may carry the bare token or ``Bearer <token>``, such as
            ``x-rucio-auth-token``.

    Raises:
        TokenRefused: there is none (reason ``missing``) or more than one (reason ``malformed``).
    """
    found = [value for name, value in headers if name == AUTHORIZATION]
    other = [value for name, value in headers if also is not None and name == also]
    if not found and not other:
        raise TokenRefused("missing")
    if len(found) + len(other) > 1:
        raise TokenRefused("malformed", "more than one was sent")
    scheme, _, token = (found or other)[0].strip().partition(" ")
    if other and not token:
        return scheme
    if scheme.lower() != _SCHEME or not token.strip():
        raise TokenRefused("missing")
    return token.strip()


def authenticated(
    authenticator: Authenticator, *, also: str | None = None
) -> Callable[[HTTPConnection], Awaitable[Principal]]:
    """Return the dependency that gives a route, or a WebSocket, its principal.

    Args:
        authenticator: of the service.
        also: another header that may carry the token (see `bearer_of`).
    """

    async def principal(request: HTTPConnection) -> Principal:
        known = getattr(request.state, "principal", None)
        if isinstance(known, Principal):
            return known
        headers = [
            (name.decode("latin-1").lower(), value.decode("latin-1"))
            for name, value in request.scope["headers"]
        ]
        try:
            found = await authenticator.authenticate(bearer_of(headers, also=also))
        except TokenRefused as refusal:
            if refusal.reason != "missing":
                audit("authenticate", None, "denied", request.url.path, reason=refusal.reason)
            raise
        request.state.principal = found
        return found

    return principal
