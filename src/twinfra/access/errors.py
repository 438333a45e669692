"""Why a token is refused; leaves of the one error tree of ``core.errors``.

The reason is a constant for programs and logs; the detail is the sentence for people. Neither
holds any part of the token. Both errors carry the ``WWW-Authenticate`` header of RFC 6750 §3.
"""

from typing import ClassVar, Literal, get_args

from twinfra.core.errors import InsufficientScope, Unauthenticated

Reason = Literal[
    "missing",
    "malformed",
    "algorithm",
    "type",
    "issuer-unknown",
    "key-unknown",
    "signature",
    "expired",
    "not-yet-valid",
    "audience",
    "claims",
    "version",
    "scope",
    "revoked",
]
REASONS: tuple[Reason, ...] = get_args(Reason)

_DETAILS: dict[Reason, str] = {
    "missing": "a bearer token is needed",
    "malformed": "the token is not a well-formed JWT",
    "algorithm": "the token is signed with an algorithm that is not allowed",
    "type": "the token is not an access token",
    "issuer-unknown": "the token is from an issuer that is not trusted here",
    "key-unknown": "the token is signed with a key that its issuer does not publish",
    "signature": "the token's signature is wrong",
    "expired": "the token has expired",
    "not-yet-valid": "the token is not valid yet",
    "audience": "the token is for another audience",
    "claims": "the token lacks a claim, or has one of the wrong form",
    "version": "the token follows a version of the WLCG profile that is not known here",
    "scope": "the token holds a scope of the wrong form",
    "revoked": "the token has been revoked",
}


class TokenRefused(Unauthenticated):
    """The token does not prove who calls; `reason` says why. Trying it again is of no use."""

    code: ClassVar[str] = "unauthenticated"

    def __init__(self, reason: Reason, more: str = "") -> None:
        text = _DETAILS[reason]
        super().__init__(f"{text}: {more}" if more else text, context={"reason": reason})
        self.reason: Reason = reason

    @property
    def headers(self) -> dict[str, str]:
        """The challenge of the answer; without an error code where no token was sent."""
        if self.reason == "missing":
            return {"WWW-Authenticate": 'Bearer realm="twinfra"'}
        return {"WWW-Authenticate": _challenge("invalid_token", self.detail)}


class ScopeMissing(InsufficientScope):
    """The token is good and lacks the scope that this needs (RFC 6750 §3.1)."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"the token lacks a scope that allows {scope}", context={"scope": scope})
        self.scope = scope

    @property
    def headers(self) -> dict[str, str]:
        """The challenge of the answer."""
        return {"WWW-Authenticate": _challenge("insufficient_scope", self.detail)}


def _challenge(code: str, description: str) -> str:
    """Spell a challenge; a quoted string holds neither quotes nor anything but ASCII."""
    text = description.replace("\\", "").replace('"', "'").encode("ascii", "replace").decode()
    return f'Bearer realm="twinfra", error="{code}", error_description="{text}"'
