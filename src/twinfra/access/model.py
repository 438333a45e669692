"""Who calls: the principal, the issuers that are trusted, and rights held over time.

Pure values; how a token becomes a principal is in ``verification`` and ``authenticator``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

SERVICE_PREFIX = "service:"
SERVICE_SCOPE = "twinfra.service"
ALGORITHMS = ("RS256", "ES256", "ES384", "PS256")
ANY_AUDIENCE = "https://wlcg.cern.ch/jwt/v1/any"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls, proved by a verified access token.

    Attributes:
        issuer: who vouches for `sub`: the token's issuer or, for an inner token made in exchange
            for an outside one, the outside issuer. A person is the pair, never `sub` alone.
        sub: the person or ``service:<name>``.
        client_id: the program that holds the token, where the issuer says.
        groups: without leading slash, such as ``climate`` or ``climate/ocean``.
        scopes: as granted, in the token's order.
        actor: the service that acts for the person (RFC 8693 §4.1), or none.
        token: the bearer token itself, for exchange; never logged.
        is_service: a service of this federation acting for itself.
        expires_at: when the token ends.
        primary_group: the first group that the issuer named, where order means something.
        token_issuer: who signed the token.
    """

    issuer: str
    sub: str
    client_id: str | None
    groups: frozenset[str]
    scopes: tuple[str, ...]
    actor: str | None
    token: str = field(repr=False)
    is_service: bool
    expires_at: datetime | None = None
    primary_group: str | None = None
    token_issuer: str = ""

    @property
    def service_name(self) -> str | None:
        """The calling service's name, such as ``transfers`` or ``edge@hpc-b``; none for people."""
        return self.sub.removeprefix(SERVICE_PREFIX) if self.is_service else None

    @property
    def person(self) -> dict[str, str]:
        """Return the identity as usage records and lineage carry it."""
        return {"iss": self.issuer, "sub": self.sub}


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer whose tokens are believed, and how far.

    Attributes:
        issuer: exactly as in ``iss``.
        audiences: accepted besides the service's own base URL.
        groups_claim: the one claim that groups are read from; none: every known one.
        groups_prefix: put before each group's name, to keep apart two issuers' equal names.
        algorithms: accepted signature algorithms; symmetric ones are refused wherever named.
        inner: the federation's own issuer: its tokens name services, actors and original issuers.
        accept_any_audience: accept the WLCG profile's audience for everyone.
    """

    issuer: str
    audiences: tuple[str, ...] = ()
    groups_claim: str | None = None
    groups_prefix: str = ""
    algorithms: tuple[str, ...] = ALGORITHMS
    inner: bool = False
    accept_any_audience: bool = False


@dataclass(frozen=True, slots=True)
class Delegation:
    """A person's lasting permission for one service to act for them; that service stores it.

    `sealed` is the refresh token, encrypted with a key only that service has; the rest is readable.
    """

    issuer: str
    sub: str
    groups: tuple[str, ...]
    client: str
    sealed: str = field(repr=False)
    expires_at: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON object that `from_dict` reads back."""
        return {
            "issuer": self.issuer,
            "sub": self.sub,
            "groups": list(self.groups),
            "client": self.client,
            "sealed": self.sealed,
            "expires_at": self.expires_at.isoformat() if self.expires_at else None,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Delegation":
        """Return the delegation that `to_dict` wrote."""
        ends = data.get("expires_at")
        return cls(
            issuer=data["issuer"],
            sub=data["sub"],
            groups=tuple(data["groups"]),
            client=data["client"],
            sealed=data["sealed"],
            expires_at=datetime.fromisoformat(ends) if ends else None,
        )

    @property
    def person(self) -> dict[str, str]:
        """Return the identity as usage records and lineage carry it."""
        return {"iss": self.issuer, "sub": self.sub}
