"""The tokens that a service sends: its own, and those on behalf of a person.

One `TokenClient` a service. It speaks to the federation's issuer (client credentials, token
exchange, refresh), keeps what it got until it is near its end, and never asks twice at once for the
same. A `Delegation` is what a service stores to act for a person later; no other can use it.

Source: RFC 6749 §4.4 and §6, RFC 8693 (exchange), RFC 8707 (resource).
"""

import asyncio
import base64
import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from twinfra.access.errors import TokenRefused
from twinfra.access.groups import read_groups
from twinfra.access.jose import parse_jwt
from twinfra.access.model import SERVICE_SCOPE, Delegation
from twinfra.access.scopes import OFFLINE_ACCESS
from twinfra.access.settings import AccessSettings
from twinfra.core.errors import InsufficientScope, UpstreamFault
from twinfra.core.http.client import HttpClient, Reply, TokenSource, error_of
from twinfra.core.service import Context
from twinfra.core.time import SYSTEM_CLOCK, Clock

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type's name
USABLE_SHARE = 2 / 3
REMEMBERED = 4096


def client_secret_name(client: str) -> str:
    """Return the name in the home's ``secrets`` of the secret of service `client`."""
    return f"clients/{client}"


@dataclass(frozen=True, slots=True)
class _Kept:
    token: str
    renew_at: float


class TokenClient:
    """Gets tokens for one service.

    Args:
        issuer: base URL of the federation's issuer.
        client: the service, such as ``transfers`` or ``edge@hpc-b``.
        secret: its secret there.
        sealing_key: 32 bytes; encrypts delegations at rest.
        tls: trusts the issuer's certificate.
        clock: tells when a kept token is near its end.
    """

    def __init__(
        self,
        issuer: str,
        client: str,
        *,
        secret: str,
        sealing_key: bytes,
        tls: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._client = client
        self._secret = secret
        self._key = OctKey.import_key(sealing_key)
        self._clock = clock
        self._http = HttpClient(issuer, tls=tls)
        self._kept: dict[tuple[str, ...], _Kept] = {}
        self._asking: dict[tuple[str, ...], asyncio.Task[str]] = {}

    @classmethod
    def from_context(cls, ctx: Context, client: str) -> Self:
        """Return the token client of service `client`, with its secrets from the home."""
        named: Path | None = ctx.settings(AccessSettings).client_secret_file
        secret = named.read_text().strip() if named else ctx.home.secret(client_secret_name(client))
        sealing = ctx.home.secret(f"delegations/{client}")
        return cls(
            ctx.url("issuer"),
            client,
            secret=secret,
            sealing_key=hashlib.sha256(sealing.encode()).digest(),
            tls=ctx.tls_client(),
            clock=ctx.clock,
        )

    async def service(self, audience: str, scope: str = SERVICE_SCOPE) -> str:
        """Return a token with which the service calls `audience` (a base URL) for itself.

        Args:
            audience: base URL of the neighbour.
            scope: what it shall allow, within the issuer's policy for this service.
        """
        form = {"grant_type": "client_credentials", "resource": audience, "scope": scope}
        return await self._single(("service", audience, scope), form)

    def for_service(self, audience: str, scope: str = SERVICE_SCOPE) -> TokenSource:
        """Return the token source that an `HttpClient` of `audience` takes."""

        async def source() -> str:
            return await self.service(audience, scope)

        return source

    async def exchange(self, subject_token: str, audience: str, scope: str = "") -> str:
        """Return a token for `audience` that acts for the person of `subject_token`.

        Args:
            subject_token: the token that the person (or a service for them) sent us.
            audience: base URL of the neighbour.
            scope: what it shall allow, at most what the person's token allows; empty: none.

        Raises:
            InsufficientScope: the issuer's policy or the person's token do not allow this.
            Unauthenticated: the subject token is not good (any more).
        """
        form = _exchange(subject_token, resource=audience, scope=scope)
        return await self._single(("exchange", subject_token, audience, scope), form)

    async def delegate(self, subject_token: str) -> Delegation:
        """Return a lasting permission to act for the person of `subject_token`.

        Raises:
            InsufficientScope: the issuer's policy does not let this service hold one.
            Unauthenticated: the subject token is not good (any more).
        """
        form = _exchange(subject_token, scope=OFFLINE_ACCESS)
        answer = await self._ask(form)
        claims = _readable(answer["access_token"])
        ends_in_s = answer.get("refresh_expires_in")
        return Delegation(
            issuer=claims.get("orig_iss") or claims["iss"],
            sub=claims["sub"],
            groups=read_groups(claims),
            client=self._client,
            sealed=self._seal(answer["refresh_token"]),
            expires_at=self._ends_at(ends_in_s),
        )

    async def on_behalf(self, delegation: Delegation, audience: str, scope: str = "") -> str:
        """Return a token for `audience` that acts for the person of `delegation`.

        Raises:
            InsufficientScope: more is asked for than the delegation or the policy allow.
            Unauthenticated: the delegation ended or was revoked.
        """
        form = {
            "grant_type": "refresh_token",
            "refresh_token": self._unseal(delegation),
            "resource": audience,
            "scope": scope,
        }
        return await self._single(("on_behalf", delegation.sealed, audience, scope), form)

    async def revoke(self, delegation: Delegation) -> None:
        """End `delegation`; ending it twice does nothing."""
        await self._post("/revoke", {"token": self._unseal(delegation)})
        for key in [key for key in self._kept if delegation.sealed in key]:
            del self._kept[key]

    async def close(self) -> None:
        """Close the connections to the issuer."""
        for task in list(self._asking.values()):
            task.cancel()
        await self._http.close()

    async def _single(self, key: tuple[str, ...], form: Mapping[str, str]) -> str:
        """Return the kept token of `key`, or ask once, whoever else waits for the same."""
        kept = self._kept.get(key)
        if kept is not None and self._clock.monotonic() < kept.renew_at:
            return kept.token
        task = self._asking.get(key)
        if task is None:
            task = asyncio.create_task(self._fetch(key, form))
            self._asking[key] = task
            task.add_done_callback(lambda done: self._asked(key, done))
        return await asyncio.shield(task)

    def _asked(self, key: tuple[str, ...], done: asyncio.Task[str]) -> None:
        """Forget the question; its error is known even where all who asked have gone."""
        self._asking.pop(key, None)
        if not done.cancelled():
            done.exception()

    async def _fetch(self, key: tuple[str, ...], form: Mapping[str, str]) -> str:
        answer = await self._ask(form)
        token = str(answer["access_token"])
        good_for_s = float(answer.get("expires_in", 0)) * USABLE_SHARE
        while len(self._kept) >= REMEMBERED:
            del self._kept[next(iter(self._kept))]
        self._kept[key] = _Kept(token, self._clock.monotonic() + good_for_s)
        return token

    async def _ask(self, form: Mapping[str, str]) -> dict[str, Any]:
        answer = (await self._post("/token", form)).json()
        if not isinstance(answer, dict) or "access_token" not in answer:
            raise UpstreamFault("the issuer answered without a token")
        return answer

    async def _post(self, path: str, form: Mapping[str, str]) -> Reply:
        pair = f"{self._client}:{self._secret}".encode()
        reply = await self._http.request(
            "POST",
            path,
            data={name: value for name, value in form.items() if value},
            headers={"Authorization": f"Basic {base64.b64encode(pair).decode()}"},
            expect=(200, 400, 401, 403),
            retry=True,
        )
        if reply.status != 200:
            raise _refusal(reply, path)
        return reply

    def _ends_at(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else self._clock.now() + timedelta(seconds=seconds)

    def _seal(self, refresh_token: str) -> str:
        header = {"alg": "dir", "enc": "A256GCM"}
        return jwe.encrypt_compact(header, refresh_token.encode(), self._key)

    def _unseal(self, delegation: Delegation) -> str:
        try:
            plain = jwe.decrypt_compact(
                delegation.sealed, self._key, algorithms=["dir", "A256GCM"]
            ).plaintext
        except (JoseError, ValueError) as error:
            raise TokenRefused("malformed", "the delegation is not of this service") from error
        return (plain or b"").decode()


def _exchange(subject_token: str, **more: str) -> dict[str, str]:
    return {
        "grant_type": EXCHANGE,
        "subject_token": subject_token,
        "subject_token_type": ACCESS_TOKEN,
        **more,
    }


def _readable(token: str) -> dict[str, Any]:
    """Read the claims of a token that its issuer just handed to us over TLS."""
    return parse_jwt(token).claims


def _refusal(reply: Reply, path: str) -> Exception:
    """Return what an OAuth error means to a service that calls on (RFC 6749 §5.2)."""
    try:
        body = reply.json()
    except UpstreamFault:
        return error_of(reply, f"POST {path}")
    code = body.get("error") if isinstance(body, dict) else None
    text = body.get("error_description") or code if isinstance(body, dict) else ""
    if code == "invalid_grant":
        return TokenRefused("revoked", str(text))
    if code in {"invalid_scope", "invalid_target", "unauthorized_client", "access_denied"}:
        return InsufficientScope(str(text), context={"oauth_error": code})
    return UpstreamFault(f"the issuer refused this service: {text}", context={"oauth_error": code})
