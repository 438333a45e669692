"""The grants of the token endpoint: what is asked, what is given.

Use cases only: the clock, secrets and ids arrive as arguments; HTTP is in ``api``, SQL in
``store``, what may be given in ``policy``.

Source: RFC 6749, RFC 7636 (PKCE), RFC 8628 (device), RFC 8693 (exchange), RFC 8707 (resource).
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from twinfra.access.audit import audit
from twinfra.access.errors import TokenRefused
from twinfra.access.issuer.errors import OAuthError
from twinfra.access.issuer.model import (
    Client,
    Code,
    Refresh,
    Subject,
    TokenFacts,
    access_claims,
    chain,
    id_claims,
)
from twinfra.access.issuer.policy import Policy
from twinfra.access.issuer.settings import IssuerServiceSettings
from twinfra.access.issuer.store import IssuerStore
from twinfra.access.jose import parse_jwt
from twinfra.access.model import SERVICE_PREFIX, Principal
from twinfra.access.scopes import OFFLINE_ACCESS
from twinfra.core.time import Clock

SLOW_DOWN_S = 5


class Signer(Protocol):
    """What signs tokens."""

    def sign(self, claims: dict[str, Any], *, typ: str) -> str:
        """Return `claims` as a JWT."""
        ...


class SubjectTokens(Protocol):
    """What checks the subject tokens of an exchange."""

    async def authenticate(self, bearer: str, audiences: set[str] | None = None) -> Principal:
        """Return whom `bearer` proves, if it is for one of `audiences`."""
        ...


@dataclass(frozen=True)
class Kit:
    """What the use cases are given.

    Attributes:
        url: of the issuer.
        settings: of the issuer.
        policy: the rules, with the federation's present services.
        store: the tables.
        signer: signs tokens.
        subject_tokens: checks subject tokens of ourselves and of trusted outside issuers.
        clock: tells the moment.
        new_secret: draws a secret of at least 256 bits.
        new_id: draws an identifier.
    """

    url: str
    settings: IssuerServiceSettings
    policy: Callable[[], Policy]
    store: IssuerStore
    signer: Signer
    subject_tokens: SubjectTokens
    clock: Clock
    new_secret: Callable[[], str]
    new_id: Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the caller of the token endpoint would like: audiences (base URLs) and scopes."""

    audiences: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gift:
    subject: Subject
    scopes: tuple[str, ...]
    act: Mapping[str, Any] | None = None
    until: datetime | None = None
    refresh: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


class Grants:
    """The grants, one method each; all return the answer's JSON object."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def client_credentials(self, client: Client, wish: Wish) -> dict[str, Any]:
        """Give a service a token for itself (RFC 6749 §4.4)."""
        if client.public:
            raise OAuthError("unauthorized_client", "a public client has no token of its own")
        scopes = self._kit.policy().service_scopes(client.name, wish.scopes)
        return self._answer(client, wish, _Gift(subject=Subject(client.sub), scopes=scopes))

    async def device_code(self, client: Client, wish: Wish, secret: str) -> dict[str, Any]:
        """Give a device the token of the person who approved it (RFC 8628 §3.4)."""
        now = self._kit.clock.now()
        code = await self._kit.store.find_code(digest_of(secret), "device", now)
        if code is None or code.client != client.name:
            raise OAuthError("expired_token", "the device code is unknown or has ended")
        await self._pace(code, now)
        if code.status == "pending":
            raise OAuthError("authorization_pending", "nobody has approved the device yet")
        if code.status == "denied":
            raise OAuthError("access_denied", "the device was refused")
        if not await self._kit.store.move_code(code.digest, "approved", "used"):
            raise OAuthError("invalid_grant", "the device code was used before")
        return await self._login(client, wish, code)

    async def authorization_code(
        self, client: Client, wish: Wish, secret: str, *, redirect_uri: str, verifier: str
    ) -> dict[str, Any]:
        """Give the token of the person who signed in (RFC 6749 §4.1.3, RFC 7636 §4.6)."""
        now = self._kit.clock.now()
        code = await self._kit.store.find_code(digest_of(secret), "authorization", now)
        if code is None or code.client != client.name:
            raise OAuthError("invalid_grant", "the code is unknown or has ended")
        if not await self._kit.store.move_code(code.digest, "approved", "used"):
            await self._kit.store.end_family(code.digest)
            raise OAuthError("invalid_grant", "the code was used before; its tokens are ended")
        proof = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
        if not hmac.compare_digest(proof.decode(), code.data["challenge"]):
            raise OAuthError("invalid_grant", "the code verifier does not fit the challenge")
        if redirect_uri != code.data["redirect_uri"]:
            raise OAuthError("invalid_grant", "the redirect URI is another one")
        return await self._login(client, wish, code)

    async def refresh(self, client: Client, wish: Wish, secret: str) -> dict[str, Any]:
        """Give a token again, at most as wide as the first (RFC 6749 §6).

        A public client's refresh token is replaced at each use; one that is used twice was stolen,
        and ends the login (RFC 9700 §4.14.2). A service's is bound to its secret and stays.
        """
        now = self._kit.clock.now()
        kept = await self._kit.store.find_refresh(digest_of(secret))
        if kept is None or kept.client != client.name or kept.expires_at <= now:
            raise OAuthError("invalid_grant", "the refresh token is unknown or has ended")
        if kept.used_at is not None:
            await self._kit.store.end_family(kept.family)
            raise OAuthError("invalid_grant", "the refresh token was used before; the login ended")
        subject = self._present(kept.subject)
        if kept.act is None:
            scopes = self._again(kept, wish, subject)
        else:
            policy = self._kit.policy()
            bound = policy.still_allowed(kept.scopes, policy.person_scopes(subject.groups))
            scopes = policy.check_exchange(
                client.name, audiences=wish.audiences, wanted=wish.scopes, bound=bound
            )
        follower = await self._rotate(kept, now) if client.public else None
        gift = _Gift(subject=subject, scopes=scopes, act=kept.act, refresh=follower)
        return self._answer(client, wish, gift)

    async def exchange(self, client: Client, wish: Wish, subject_token: str) -> dict[str, Any]:
        """Give a service a token that acts for the person of `subject_token` (RFC 8693).

        The subject token must be meant for that service (or for the issuer). What is given is never
        wider than the subject token, and ends no later; an outside issuer's token, which names no
        scopes of ours, is as wide as the person's groups allow.
        """
        if client.public:
            raise OAuthError("unauthorized_client", "a public client cannot act for others")
        principal = await self._subject(client, subject_token)
        claims = parse_jwt(subject_token).claims
        inner = principal.token_issuer == self._kit.url
        if inner and await self._kit.store.is_revoked(str(claims["jti"])):
            raise OAuthError("invalid_grant", "the subject token is revoked")
        outside = principal.issuer if principal.issuer != self._kit.url else None
        groups = tuple(sorted(principal.groups, key=lambda g: (g != principal.primary_group, g)))
        subject = self._present(Subject(principal.sub, groups, outside))
        policy = self._kit.policy()
        bound = principal.scopes if inner else policy.person_scopes(subject.groups)
        scopes = policy.check_exchange(
            client.name, audiences=wish.audiences, wanted=wish.scopes, bound=bound
        )
        act = chain(client.sub, claims.get("act") if inner else None)
        refresh = None
        if OFFLINE_ACCESS in wish.scopes:
            kept = policy.delegable(client.name, bound)
            refresh = await self._keep(client, subject, kept, act)
        audit("exchange", principal, "allowed", " ".join(wish.audiences), client=client.name)
        gift = _Gift(
            subject=subject,
            scopes=scopes,
            act=act,
            until=principal.expires_at,
            refresh=refresh,
            extra={"issued_token_type": "urn:ietf:params:oauth:token-type:access_token"},
        )
        return self._answer(client, wish, gift)

    async def _subject(self, client: Client, token: str) -> Principal:
        urls = {self._kit.url, *self._kit.policy().urls_of(client.name)}
        try:
            principal = await self._kit.subject_tokens.authenticate(token, urls)
        except TokenRefused as refusal:
            raise OAuthError("invalid_grant", refusal.detail) from refusal
        if principal.sub.startswith(SERVICE_PREFIX):
            raise OAuthError("invalid_grant", "a service's own token cannot be exchanged")
        return principal

    async def _login(self, client: Client, wish: Wish, code: Code) -> dict[str, Any]:
        """Give the tokens of a login that is approved; `code` ends with it."""
        subject = self._present(Subject.from_json(code.data["subject"]))
        wanted = tuple(code.data["scopes"])
        scopes = self._kit.policy().login_scopes(wanted, subject.groups)
        refresh = None
        if OFFLINE_ACCESS in scopes:
            refresh = await self._keep(client, subject, scopes, None, family=code.digest)
        wish = Wish(audiences=wish.audiences or tuple(code.data["audiences"]))
        answer = self._answer(client, wish, _Gift(subject=subject, scopes=scopes, refresh=refresh))
        if "openid" in scopes:
            facts = self._facts(client, wish, _Gift(subject=subject, scopes=scopes))
            person = self._kit.settings.people.get(subject.sub)
            name = (person.name if person else "") or subject.sub
            claims = id_claims(facts, nonce=code.data.get("nonce"), name=name)
            answer["id_token"] = self._kit.signer.sign(claims, typ="JWT")
        return answer

    def _present(self, subject: Subject) -> Subject:
        """Return `subject` with the groups of today; outside people keep those they came with."""
        if subject.orig_iss is not None:
            return subject
        person = self._kit.settings.people.get(subject.sub)
        if person is None:
            raise OAuthError("invalid_grant", "the person is not known (any more)")
        return Subject(subject.sub, person.groups)

    def _again(self, kept: Refresh, wish: Wish, subject: Subject) -> tuple[str, ...]:
        """Return the scopes of a person's own refresh: as asked, within the login's."""
        policy = self._kit.policy()
        wanted = tuple(scope for scope in wish.scopes if scope != OFFLINE_ACCESS)
        policy.require_included(kept.scopes, wanted)
        scopes = wanted or tuple(scope for scope in kept.scopes if scope != OFFLINE_ACCESS)
        present = policy.person_scopes(subject.groups)
        return policy.still_allowed(scopes, present)

    async def _pace(self, code: Code, now: datetime) -> None:
        """Refuse a device that asks too often (RFC 8628 §3.5)."""
        interval = timedelta(seconds=self._kit.settings.device_interval_s * 0.9)
        await self._kit.store.note_poll(code.digest, now)
        if code.polled_at is not None and now - code.polled_at < interval:
            raise OAuthError("slow_down", f"ask {SLOW_DOWN_S} seconds less often")

    async def _keep(
        self,
        client: Client,
        subject: Subject,
        scopes: tuple[str, ...],
        act: Mapping[str, Any] | None,
        *,
        family: str | None = None,
    ) -> str:
        secret, now = self._kit.new_secret(), self._kit.clock.now()
        digest = digest_of(secret)
        ends = now + timedelta(seconds=self._kit.settings.refresh_token_s)
        await self._kit.store.add_refresh(
            Refresh(digest, family or digest, client.name, subject, scopes, act, ends)
        )
        return secret

    async def _rotate(self, kept: Refresh, now: datetime) -> str:
        secret = self._kit.new_secret()
        ends = now + timedelta(seconds=self._kit.settings.refresh_token_s)
        new = Refresh(
            digest_of(secret), kept.family, kept.client, kept.subject, kept.scopes, kept.act, ends
        )
        if not await self._kit.store.rotate_refresh(kept.digest, new, now):
            raise OAuthError("invalid_grant", "the refresh token was used at the same time")
        return secret

    def _facts(self, client: Client, wish: Wish, gift: _Gift) -> TokenFacts:
        now = self._kit.clock.now()
        lifetime_s = self._kit.settings.access_token_s
        if gift.until is not None:
            lifetime_s = min(lifetime_s, int((gift.until - now).total_seconds()))
        if lifetime_s < 1:
            raise OAuthError("invalid_grant", "the subject token has expired")
        return TokenFacts(
            issuer=self._kit.url,
            client=client.name,
            subject=gift.subject,
            audiences=wish.audiences or (self._kit.url,),
            scopes=gift.scopes,
            act=gift.act,
            now=now,
            lifetime_s=lifetime_s,
            jti=self._kit.new_id(),
            namespace=self._kit.settings.entitlement_namespace,
        )

    def _answer(self, client: Client, wish: Wish, gift: _Gift) -> dict[str, Any]:
        facts = self._facts(client, wish, gift)
        answer: dict[str, Any] = {
            "access_token": self._kit.signer.sign(access_claims(facts), typ="at+jwt"),
            "token_type": "Bearer",
            "expires_in": facts.lifetime_s,
            "scope": " ".join(facts.scopes),
            **gift.extra,
        }
        if gift.refresh is not None:
            answer["refresh_token"] = gift.refresh
            answer["refresh_expires_in"] = self._kit.settings.refresh_token_s
        return answer


def digest_of(secret: str) -> str:
    """Return the digest that a drawn secret is kept by: it has 256 bits, so a hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()
