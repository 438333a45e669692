"""From verified claims to a principal: the checks that need no key and no network.

Pure: the moment and the accepted audiences arrive as arguments. ``jose`` checks form and signature,
``authenticator`` brings both together.

Source: RFC 9068 §4, RFC 8725 §3, WLCG Common JWT Profile 1.3.
"""

import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from twinfra.access.errors import TokenRefused
from twinfra.access.groups import read_groups
from twinfra.access.jose import UnverifiedToken
from twinfra.access.model import (
    ANY_AUDIENCE,
    SERVICE_PREFIX,
    SERVICE_SCOPE,
    Principal,
    TrustedIssuer,
)
from twinfra.access.scopes import split_scope
from twinfra.access.storage_scopes import storage_scopes

_ACCESS_TYPES = frozenset({"at+jwt", "application/at+jwt"})
_PLAIN_TYPES = frozenset({"jwt", "application/jwt", ""})
_ID_TOKEN_CLAIMS = ("nonce", "at_hash", "c_hash")
_SUBJECT = re.compile(r"[\x21-\x7e]{1,255}")
_WLCG_VERSION = re.compile(r"(\d+)\.\d+")
_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def check_type(token: UnverifiedToken, trust: TrustedIssuer) -> None:
    """Return if the token is an access token: ``at+jwt``, which an outside issuer may leave out.

    Raises:
        TokenRefused: an ID token or another kind; reason ``type``.
    """
    kind = token.header.get("typ", "")
    kind = kind.lower() if isinstance(kind, str) else "?"
    if kind in _ACCESS_TYPES:
        return
    looks_like_id_token = any(claim in token.claims for claim in _ID_TOKEN_CLAIMS)
    if trust.inner or kind not in _PLAIN_TYPES or looks_like_id_token:
        raise TokenRefused("type")


def check_times(claims: Mapping[str, Any], now: datetime, leeway_s: float) -> datetime:
    """Return when the token ends, if it is valid at `now`.

    The leeway [s] is for clocks that run behind the issuer's; past ``exp`` there is no grace.

    Raises:
        TokenRefused: reason ``expired``, ``not-yet-valid`` or ``claims``.
    """
    moment = now.timestamp()
    ends = _numeric_date(claims, "exp", required=True)
    if ends <= moment:
        raise TokenRefused("expired")
    for name in ("nbf", "iat"):
        if _numeric_date(claims, name, required=name == "iat") > moment + leeway_s:
            raise TokenRefused("not-yet-valid")
    return datetime.fromtimestamp(ends, UTC)


def check_audience(
    claims: Mapping[str, Any], audiences: Collection[str], trust: TrustedIssuer
) -> None:
    """Return if the token is for one of `audiences`, letter by letter.

    Raises:
        TokenRefused: reason ``audience``, or ``claims`` if it names none.
    """
    value = claims.get("aud")
    named = [value] if isinstance(value, str) else value
    if not isinstance(named, list) or not named or not all(isinstance(n, str) for n in named):
        raise TokenRefused("claims", "aud")
    accepted = {*audiences, *trust.audiences}
    if trust.accept_any_audience:
        accepted.add(ANY_AUDIENCE)
    if accepted.isdisjoint(named):
        raise TokenRefused("audience")


def principal_of(token: UnverifiedToken, trust: TrustedIssuer, ends: datetime) -> Principal:
    """Return the principal that verified claims state.

    Raises:
        TokenRefused: a claim is missing or of the wrong form; reason ``claims``, ``version`` or
            ``scope``.
    """
    claims = token.claims
    sub = _text(claims, "sub", required=True)
    if not _SUBJECT.fullmatch(sub):
        raise TokenRefused("claims", "sub")
    _check_profile(claims, trust)
    scopes = split_scope(_text(claims, "scope"))
    storage_scopes(scopes)
    groups = tuple(trust.groups_prefix + name for name in read_groups(claims, trust.groups_claim))
    actor = _actor(claims) if trust.inner else None
    origin = _text(claims, "orig_iss") if trust.inner else ""
    service = trust.inner and sub.startswith(SERVICE_PREFIX) and SERVICE_SCOPE in scopes
    return Principal(
        issuer=origin or trust.issuer,
        sub=sub,
        client_id=_text(claims, "client_id") or _text(claims, "azp") or None,
        groups=frozenset(groups),
        scopes=scopes,
        actor=actor,
        token=token.text,
        is_service=service and actor is None,
        expires_at=ends,
        primary_group=groups[0] if groups else None,
        token_issuer=trust.issuer,
    )


def _check_profile(claims: Mapping[str, Any], trust: TrustedIssuer) -> None:
    version = claims.get("wlcg.ver")
    if version is None and not trust.inner:
        return
    found = _WLCG_VERSION.fullmatch(version) if isinstance(version, str) else None
    if found is None or found[1] != "1":
        raise TokenRefused("version")
    _text(claims, "jti", required=True)
    groups = claims.get("wlcg.groups", [])
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise TokenRefused("claims", "wlcg.groups")


def _actor(claims: Mapping[str, Any]) -> str | None:
    act = claims.get("act")
    if act is None:
        return None
    if not isinstance(act, dict) or not isinstance(act.get("sub"), str):
        raise TokenRefused("claims", "act")
    return str(act["sub"])


def _text(claims: Mapping[str, Any], name: str, *, required: bool = False) -> str:
    value = claims.get(name, None if required else "")
    if not isinstance(value, str) or (required and not value):
        raise TokenRefused("claims", name)
    return value


def _numeric_date(claims: Mapping[str, Any], name: str, *, required: bool) -> float:
    value = claims.get(name)
    if value is None and not required:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRefused("claims", name)
    if not math.isfinite(value) or not 0 <= value < _LATEST:
        raise TokenRefused("claims", name)
    return float(value)
