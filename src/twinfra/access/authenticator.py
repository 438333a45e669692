"""Who calls: one bearer token in, one principal out; the first thing every API does.

Looks only at the token and at its issuer's keys; what the principal may do is decided elsewhere
(``authorization``, ``storage_scopes``, the service's own rules). ``http`` puts it before routes.
"""

import ssl
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol, Self

from joserfc.jwk import Key

from twinfra.access.errors import TokenRefused
from twinfra.access.issuer_keys import IssuerKeys, KeyLife
from twinfra.access.jose import check_algorithm, check_signature, parse_jwt
from twinfra.access.keys_file import KeysFile
from twinfra.access.model import Principal, TrustedIssuer
from twinfra.access.settings import AccessSettings
from twinfra.access.verification import (
    check_audience,
    check_times,
    check_type,
    principal_of,
)
from twinfra.core.service import Context
from twinfra.core.time import SYSTEM_CLOCK, Clock

OWN_ISSUER = "issuer"
MAX_KID_CHARS = 255


class KeySource(Protocol):
    """Where the keys of one issuer come from."""

    async def find(self, kid: str) -> Key:
        """Return the key `kid`.

        Raises:
            TokenRefused: the issuer has no such key; reason ``key-unknown``.
            Unavailable: the issuer's keys cannot be had now; try again.
        """
        ...


class Authenticator:
    """Turns bearer tokens into principals for one service.

    Args:
        issuers: whose tokens are believed; no other issuer is ever asked anything.
        audience: the service's own names, compared letter by letter; usually its base URL.
        tls: for fetching keys; none: the machine's authorities.
        clock: tells the moment.
        settings: leeway, key life and memory.
        keys: where an issuer's keys come from, if not from its published ones.
    """

    def __init__(
        self,
        issuers: Iterable[TrustedIssuer],
        audience: str | Collection[str],
        *,
        tls: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM_CLOCK,
        settings: AccessSettings | None = None,
        keys: Mapping[str, KeySource] | None = None,
    ) -> None:
        self._settings = settings or AccessSettings()
        self._audiences = frozenset([audience] if isinstance(audience, str) else audience)
        self._clock = clock
        life = KeyLife(
            refresh_s=self._settings.keys_refresh_s,
            expiry_s=self._settings.keys_expiry_s,
            min_interval_s=self._settings.keys_min_interval_s,
        )
        self._trusted = {trust.issuer: trust for trust in issuers}
        self._keys: dict[str, KeySource] = {
            name: IssuerKeys(name, tls=tls, clock=clock, life=life) for name in self._trusted
        }
        self._keys.update(keys or {})
        self._remembered: OrderedDict[str, tuple[float, Principal]] = OrderedDict()

    @classmethod
    def from_context(cls, ctx: Context, service: str, *, also: Collection[str] = ()) -> Self:
        """Return the authenticator of `service`, whose audience is its base URL.

        Args:
            ctx: of the process.
            service: its name, such as ``datasets`` or ``edge@hpc-b``.
            also: further audiences it answers to.
        """
        settings = ctx.settings(AccessSettings)
        return cls(
            trusted_issuers(ctx, settings),
            {ctx.url(service), *also},
            tls=ctx.tls_client(),
            clock=ctx.clock,
            settings=settings,
            keys={
                entry.issuer: KeysFile(entry.keys_file)
                for entry in settings.issuers
                if entry.keys_file is not None
            },
        )

    async def authenticate(
        self, bearer: str, audiences: Collection[str] | None = None
    ) -> Principal:
        """Return who `bearer` proves to call.

        Args:
            bearer: the token.
            audiences: what it must be for, instead of the service's own names.

        Raises:
            TokenRefused: the token proves nobody; its `reason` and detail say why.
            Unavailable: the issuer's keys cannot be had now; try again.
        """
        now = self._clock.now()
        known = self._recall(bearer) if audiences is None else None
        if known is not None:
            if known.expires_at is not None and known.expires_at <= now:
                raise TokenRefused("expired")
            return known
        token = parse_jwt(bearer)
        trust = self._trusted.get(_text(token.claims.get("iss")))
        if trust is None:
            raise TokenRefused("issuer-unknown")
        algorithm = check_algorithm(token, trust.algorithms)
        kid = _text(token.header.get("kid"))
        if not kid or len(kid) > MAX_KID_CHARS:
            raise TokenRefused("malformed", "it names no key (kid)")
        check_signature(token, await self._keys[trust.issuer].find(kid), algorithm)
        check_type(token, trust)
        ends = check_times(token.claims, now, self._settings.leeway_s)
        check_audience(token.claims, self._audiences if audiences is None else audiences, trust)
        principal = principal_of(token, trust, ends)
        if audiences is None:
            self._remember(bearer, principal)
        return principal

    def _recall(self, bearer: str) -> Principal | None:
        until, principal = self._remembered.get(bearer, (0.0, None))
        return principal if self._clock.monotonic() < until else None

    def _remember(self, bearer: str, principal: Principal) -> None:
        until = self._clock.monotonic() + self._settings.remembered_s
        self._remembered[bearer] = (until, principal)
        self._remembered.move_to_end(bearer)
        while len(self._remembered) > self._settings.remembered_tokens:
            self._remembered.popitem(last=False)


def trusted_issuers(ctx: Context, settings: AccessSettings) -> list[TrustedIssuer]:
    """Return the issuers that a federation trusts: its own and those of the settings."""
    outside = [
        TrustedIssuer(
            issuer=entry.issuer,
            audiences=entry.audience,
            groups_claim=entry.groups_claim or None,
            groups_prefix=entry.groups_prefix,
            algorithms=entry.algorithms,
            accept_any_audience=entry.accept_any_audience,
        )
        for entry in settings.issuers
    ]
    own = [TrustedIssuer(issuer=ctx.url(OWN_ISSUER), inner=True)] if settings.own_issuer else []
    return [*outside, *own]


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
