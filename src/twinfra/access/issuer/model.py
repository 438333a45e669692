"""What the issuer knows: people as subjects, clients, grants, and the claims of a token. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from twinfra.access.groups import format_entitlement
from twinfra.access.model import SERVICE_PREFIX

PUBLIC_CLIENTS = frozenset({"twinfra-cli"})
CODE_CLIENTS = frozenset({"twinfra-cli", "dashboard"})
WLCG_VERSION = "1.0"

CodeKind = Literal["device", "authorization", "session", "ticket"]
CodeStatus = Literal["pending", "approved", "denied", "used"]


@dataclass(frozen=True, slots=True)
class Client:
    """A program that asks for tokens; a confidential one has proved itself by its secret."""

    name: str
    public: bool

    @property
    def sub(self) -> str:
        """The subject of the service itself."""
        return SERVICE_PREFIX + self.name


@dataclass(frozen=True, slots=True)
class Subject:
    """For whom a token speaks.

    Attributes:
        sub: as in the token.
        groups: primary first.
        orig_iss: the outside issuer that vouches for `sub`; none for our own people and services.
    """

    sub: str
    groups: tuple[str, ...] = ()
    orig_iss: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return {"sub": self.sub, "groups": list(self.groups), "orig_iss": self.orig_iss}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Subject":
        """Return the subject that `to_json` wrote."""
        return cls(data["sub"], tuple(data["groups"]), data["orig_iss"])


@dataclass(frozen=True, slots=True)
class Refresh:
    """A kept refresh token: which client may ask for what in whose name, until when.

    Attributes:
        digest: of the token; the token itself is nowhere.
        family: of the login; a rotated token shares it with its successor.
        client: the only client that may use it.
        subject: for whom.
        scopes: the most that may be asked for.
        act: the actors so far (RFC 8693 §4.1), none for a person's own login.
        expires_at: its end.
        used_at: when it was replaced by rotation; using it again ends the family.
    """

    digest: str
    family: str
    client: str
    subject: Subject
    scopes: tuple[str, ...]
    act: Mapping[str, Any] | None
    expires_at: datetime
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Code:
    """A short-lived secret: device code, authorization code, browser session, sign-in ticket."""

    digest: str
    kind: CodeKind
    status: CodeStatus
    client: str
    data: Mapping[str, Any]
    expires_at: datetime
    user_code: str | None = None
    polled_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """All that decides the claims of an access token."""

    issuer: str
    client: str
    subject: Subject
    audiences: tuple[str, ...]
    scopes: tuple[str, ...]
    act: Mapping[str, Any] | None
    now: datetime
    lifetime_s: int
    jti: str
    namespace: str


def access_claims(facts: TokenFacts) -> dict[str, Any]:
    """Return the claims of an access token.

    Source: RFC 9068 §2.2, WLCG Common JWT Profile 1.3, AARC-G069, RFC 8693 §4.1.
    """
    now = int(facts.now.timestamp())
    groups = facts.subject.groups
    authority = facts.issuer.split("://", 1)[-1]
    claims: dict[str, Any] = {
        "iss": facts.issuer,
        "sub": facts.subject.sub,
        "aud": facts.audiences[0] if len(facts.audiences) == 1 else list(facts.audiences),
        "exp": now + facts.lifetime_s,
        "iat": now,
        "nbf": now,
        "jti": facts.jti,
        "client_id": facts.client,
        "scope": " ".join(facts.scopes),
        "wlcg.ver": WLCG_VERSION,
    }
    if groups:
        claims["wlcg.groups"] = [f"/{group}" for group in groups]
        claims["entitlements"] = [
            format_entitlement(facts.namespace, group, authority=authority) for group in groups
        ]
    if facts.act is not None:
        claims["act"] = dict(facts.act)
    if facts.subject.orig_iss is not None:
        claims["orig_iss"] = facts.subject.orig_iss
    return claims


def id_claims(facts: TokenFacts, *, nonce: str | None, name: str) -> dict[str, Any]:
    """Return the claims of an ID token for `facts.client`.

    Source: OpenID Connect Core 1.0 §2.
    """
    now = int(facts.now.timestamp())
    claims: dict[str, Any] = {
        "iss": facts.issuer,
        "sub": facts.subject.sub,
        "aud": facts.client,
        "exp": now + facts.lifetime_s,
        "iat": now,
        "auth_time": now,
        "name": name,
        "preferred_username": facts.subject.sub,
        "groups": list(facts.subject.groups),
    }
    if nonce:
        claims["nonce"] = nonce
    return claims


def chain(actor: str, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the actor claim: `actor` acts now, after those of `before` (RFC 8693 §4.1)."""
    return {"sub": actor, "act": dict(before)} if before else {"sub": actor}


def pick_user_code(numbers: Sequence[int]) -> str:
    """Spell eight numbers as a code to type: no vowels, no look-alikes (RFC 8628 §6.1)."""
    alphabet = "BCDFGHJKLMNPQRSTVWXZ"
    letters = [alphabet[number % len(alphabet)] for number in numbers[:8]]
    return "".join(letters[:4]) + "-" + "".join(letters[4:])
