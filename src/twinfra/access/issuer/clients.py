"""Which program asks: services prove themselves by their secret file, the command line by nothing.

A service is known when its secret lies in ``clients/`` of the home's secrets; nobody registers over
the network.
"""

import base64
import binascii
import hmac
import re
from pathlib import Path
from urllib.parse import unquote

from twinfra.access.issuer.errors import InvalidClient
from twinfra.access.issuer.model import PUBLIC_CLIENTS, Client

_NAME = re.compile(r"[a-z][a-z0-9-]{0,62}(@[a-z][a-z0-9-]{0,62})?")


class Clients:
    """The clients whose secrets lie in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def authenticate(
        self, authorization: str | None, client_id: str | None, secret: str | None
    ) -> Client:
        """Return the client that the request proves (RFC 6749 §2.3.1).

        Args:
            authorization: the header, if sent.
            client_id: of the form.
            secret: of the form, if sent.

        Raises:
            InvalidClient: unknown, wrong secret, or two ways of proof at once.
        """
        if authorization is not None:
            if secret is not None:
                raise InvalidClient("the client proves itself in two ways at once")
            name, secret = _basic(authorization)
            if client_id not in {None, name}:
                raise InvalidClient("the form names another client than the header")
            client_id = name
        if client_id in PUBLIC_CLIENTS and not secret:
            return Client(client_id, public=True)
        if not client_id or not secret or not self._is_right(client_id, secret):
            raise InvalidClient
        return Client(client_id, public=False)

    def _is_right(self, name: str, secret: str) -> bool:
        if not _NAME.fullmatch(name):
            return False
        try:
            expected = (self._folder / name).read_text().strip()
        except FileNotFoundError:
            return False
        return bool(expected) and hmac.compare_digest(expected.encode(), secret.encode())


def _basic(header: str) -> tuple[str, str]:
    scheme, _, value = header.strip().partition(" ")
    try:
        decoded = base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise InvalidClient("the Authorization header is not Basic") from error
    name, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise InvalidClient("the Authorization header is not Basic")
    return unquote(name), unquote(secret)
