"""How programs sign people in: the device flow, and a browser's code flow with PKCE.

Where the home of a development federation can be read, the person's own secret there approves the
login at once. What comes of a login is kept by ``person_tokens``. Never prints a token.

Source: RFC 8628 (device), RFC 7636 (PKCE), RFC 8707 (resource).
"""

import base64
import hashlib
import secrets
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from twinfra.access.errors import TokenRefused
from twinfra.core.errors import TwinfraError, UpstreamFault, UpstreamTimeout
from twinfra.core.home import Home
from twinfra.core.http.client import HttpClient, Reply
from twinfra.core.service import Context
from twinfra.core.time import SYSTEM_CLOCK, Clock

CLI = "twinfra-cli"
LOGIN_SCOPE = "openid profile offline_access"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
SLOW_DOWN_S = 5


def person_code(home: Home, person: str) -> str:
    """Return the secret of `person` at the development issuer of `home`."""
    return home.secret(f"people/{person}.code")


@dataclass(frozen=True, slots=True)
class DevicePrompt:
    """What a person is shown: open the address, compare the code."""

    verification_uri: str
    verification_uri_complete: str
    user_code: str


class IssuerClient:
    """Speaks to an issuer as a public or confidential client that signs people in.

    Args:
        issuer: its base URL.
        client: our name there.
        secret: of a confidential client.
        tls: trusts the issuer's certificate.
        clock: paces the device flow.
    """

    def __init__(
        self,
        issuer: str,
        client: str = CLI,
        *,
        secret: str | None = None,
        tls: ssl.SSLContext | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.issuer, self._client, self._secret, self._clock = issuer, client, secret, clock
        self._http = HttpClient(issuer, tls=tls)

    @classmethod
    def from_context(cls, ctx: Context, client: str = CLI) -> Self:
        """Return the client; one that is a service of ours proves itself by its secret file."""
        secret = None if client == CLI else ctx.home.secret(f"clients/{client}")
        return cls(ctx.url("issuer"), client, secret=secret, tls=ctx.tls_client(), clock=ctx.clock)

    async def device(
        self,
        show: Callable[[DevicePrompt], None],
        *,
        scope: str = LOGIN_SCOPE,
        approve: tuple[str, str] | None = None,
    ) -> dict[str, Any]:
        """Sign a person in by the device flow; returns the token answer.

        Args:
            show: tells the person where to go.
            scope: asked for; capability scopes left out: all that the person may have.
            approve: person and secret, to approve at once at a development issuer.

        Raises:
            TokenRefused: the person refused.
            UpstreamTimeout: nobody approved in time.
        """
        started = (await self._post("/device_authorization", {"scope": scope})).json()
        show(
            DevicePrompt(
                started["verification_uri"],
                started.get("verification_uri_complete", started["verification_uri"]),
                started["user_code"],
            )
        )
        if approve is not None:
            person, code = approve
            form = {"user_code": started["user_code"], "person": person, "code": code}
            await self._post("/device/approve", form)
        return await self._poll(started, at_once=approve is not None)

    def authorize_url(
        self, redirect_uri: str, *, state: str, verifier: str, scope: str = LOGIN_SCOPE
    ) -> str:
        """Return where to send a browser for the code flow; `verifier` stays with the caller."""
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._client,
            "redirect_uri": redirect_uri,
            "scope": scope,
            "state": state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{self.issuer}/authorize?{urlencode(query)}"

    async def redeem(self, code: str, redirect_uri: str, verifier: str) -> dict[str, Any]:
        """Return the token answer for the code that the browser brought back.

        Raises:
            TokenRefused: the code, the address or the verifier is not right.
        """
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": redirect_uri,
            "code_verifier": verifier,
        }
        return dict((await self._post("/token", form)).json())

    async def refresh(
        self, refresh_token: str, audience: str = "", scope: str = ""
    ) -> dict[str, Any]:
        """Return the token answer for `audience`; a new refresh token in it replaces the old one.

        Raises:
            TokenRefused: the login has ended.
        """
        form = {
            "grant_type": "refresh_token",
            "refresh_token": refresh_token,
            "resource": audience,
            "scope": scope,
        }
        return dict((await self._post("/token", form)).json())

    async def one_time_link(self, person: str, code: str, onward: str) -> str:
        """Return a link that signs a browser in as `person`, once, and leads `onward`."""
        answer = (await self._post("/tickets", {"person": person, "code": code})).json()
        query = urlencode({"ticket": answer["ticket"], "next": onward})
        return f"{self.issuer}/enter?{query}"

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _poll(self, started: Mapping[str, Any], *, at_once: bool) -> dict[str, Any]:
        interval_s = float(started.get("interval", SLOW_DOWN_S))
        ends = self._clock.monotonic() + float(started["expires_in"])
        form = {"grant_type": DEVICE, "device_code": started["device_code"]}
        while self._clock.monotonic() < ends:
            if not at_once:
                await self._clock.sleep(interval_s)
            at_once = False
            reply = await self._post("/token", form, expect=(200, 400))
            answer = reply.json()
            if reply.status == 200:
                return dict(answer)
            if answer.get("error") == "expired_token":
                break
            if answer.get("error") == "slow_down":
                interval_s += SLOW_DOWN_S
            elif answer.get("error") != "authorization_pending":
                raise _refusal(answer)
        raise UpstreamTimeout("nobody approved the login in time")

    async def _post(
        self, path: str, form: Mapping[str, str], expect: tuple[int, ...] = (200,)
    ) -> Reply:
        sent = {name: value for name, value in form.items() if value}
        headers = {}
        if self._secret is None:
            sent["client_id"] = self._client
        else:
            pair = base64.b64encode(f"{self._client}:{self._secret}".encode()).decode()
            headers["Authorization"] = f"Basic {pair}"
        reply = await self._http.request(
            "POST", path, data=sent, headers=headers, expect=(200, 400, 401)
        )
        if reply.status not in expect:
            raise _refusal(reply.json())
        return reply


def new_verifier() -> str:
    """Return a PKCE code verifier (RFC 7636 §4.1)."""
    return secrets.token_urlsafe(48)


def _refusal(answer: Any) -> TwinfraError:
    if not isinstance(answer, dict) or "error" not in answer:
        return UpstreamFault("the issuer's answer is not understood")
    text = str(answer.get("error_description") or answer["error"])
    if answer["error"] in {"invalid_grant", "access_denied", "expired_token"}:
        return TokenRefused("revoked", text)
    return UpstreamFault(f"the issuer refused: {text}", context={"oauth_error": answer["error"]})
