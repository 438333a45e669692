"""Refusals of the issuer, as OAuth spells them.

Source: RFC 6749 §5.2, RFC 8628 §3.5 (device flow), RFC 8693 §2.2.2 (exchange).
"""

from typing import ClassVar

from twinfra.core.errors import InvalidRequest, Unauthenticated


class OAuthError(InvalidRequest):
    """The request is refused; `error` is the code that OAuth clients read."""

    title: ClassVar[str] = "The issuer refused"

    def __init__(self, error: str, detail: str) -> None:
        super().__init__(detail, context={"oauth_error": error})
        self.error = error


class InvalidClient(Unauthenticated):
    """The client did not prove itself."""

    def __init__(self, detail: str = "the client is unknown or its secret is wrong") -> None:
        super().__init__(detail, context={"oauth_error": "invalid_client"})
        self.error = "invalid_client"

    @property
    def headers(self) -> dict[str, str]:
        """The challenge of the answer (RFC 6749 §5.2)."""
        return {"WWW-Authenticate": 'Basic realm="twinfra issuer"'}
