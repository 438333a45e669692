"""How people prove who they are to the development issuer, and what they approve.

A person's proof is a secret in a file of mode 0600 (``people/<name>.code`` in the home's secrets):
who can read it is that person. It is typed into the page, posted by ``twinfra login``, or turned
into a one-time link. Use cases only: HTML and cookies are in ``pages``.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit

from twinfra.access.audit import audit
from twinfra.access.issuer.errors import OAuthError
from twinfra.access.issuer.grants import Kit, Wish, digest_of
from twinfra.access.issuer.model import (
    CODE_CLIENTS,
    PUBLIC_CLIENTS,
    Client,
    Code,
    CodeKind,
    CodeStatus,
    Subject,
    pick_user_code,
)
from twinfra.core.errors import NotFound

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
CHALLENGE_CHARS = 43


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizeRequest:
    """What a client asks of the person's browser (RFC 6749 §4.1.1, RFC 7636 §4.3)."""

    client: str
    redirect_uri: str
    scopes: tuple[str, ...]
    audiences: tuple[str, ...]
    state: str
    nonce: str
    challenge: str

    def back(self, **answer: str) -> str:
        """Return the address that takes `answer` back to the client."""
        if self.state:
            answer["state"] = self.state
        joint = "&" if urlsplit(self.redirect_uri).query else "?"
        return self.redirect_uri + joint + urlencode(answer)


class SignIn:
    """People, their sessions, and their approvals.

    Args:
        kit: as for the grants.
        person_code: gives a person's secret.
        draw: gives numbers for user codes.
    """

    def __init__(
        self,
        kit: Kit,
        *,
        person_code: Callable[[str], str],
        draw: Callable[[], list[int]],
    ) -> None:
        self._kit, self._person_code, self._draw = kit, person_code, draw

    def check_person(self, sub: str, code: str) -> Subject:
        """Return the person `sub` if `code` is their secret.

        Raises:
            OAuthError: ``access_denied``.
        """
        person = self._kit.settings.people.get(sub)
        expected = self._person_code(sub) if person is not None else self._kit.new_secret()
        right = hmac.compare_digest(expected.encode(), code.strip().encode())
        if person is None or not right:
            audit("sign_in", None, "denied", sub if person else "unknown person")
            raise OAuthError("access_denied", "there is no such person, or the code is wrong")
        audit("sign_in", None, "allowed", sub)
        return Subject(sub, person.groups)

    async def start_device(self, client: Client, wish: Wish) -> dict[str, Any]:
        """Return a new device code (RFC 8628 §3.2)."""
        secret, user_code = self._kit.new_secret(), pick_user_code(self._draw())
        await self._add(
            "device",
            secret,
            client.name,
            {"scopes": wish.scopes, "audiences": wish.audiences},
            self._kit.settings.device_code_s,
            user_code=user_code,
        )
        page = f"{self._kit.url}/device"
        return {
            "device_code": secret,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={user_code}",
            "expires_in": self._kit.settings.device_code_s,
            "interval": self._kit.settings.device_interval_s,
        }

    async def device(self, user_code: str) -> Code:
        """Return the device that waits under `user_code`.

        Raises:
            NotFound: none waits, or it has waited too long.
        """
        spelled = user_code.strip().upper()
        code = await self._kit.store.find_user_code(spelled, self._kit.clock.now())
        if code is None or code.status != "pending":
            raise NotFound("no device waits under that code")
        return code

    async def decide_device(self, user_code: str, subject: Subject, *, allow: bool) -> None:
        """Let a waiting device have the tokens of `subject`, or refuse it; once.

        Raises:
            NotFound: none waits under that code.
        """
        code = await self.device(user_code)
        data = {**code.data, "subject": subject.to_json()}
        to: CodeStatus = "approved" if allow else "denied"
        if not await self._kit.store.move_code(code.digest, "pending", to, data):
            raise NotFound("no device waits under that code")
        audit("device", None, "allowed" if allow else "denied", subject.sub, client=code.client)

    async def open_session(self, subject: Subject) -> str:
        """Return the secret of a new browser session of `subject`."""
        secret = self._kit.new_secret()
        await self._add(
            "session", secret, "", {"subject": subject.to_json()}, self._kit.settings.session_s
        )
        return secret

    async def session(self, secret: str) -> Subject | None:
        """Return the person of a browser session, if it has not ended and they are still known."""
        now = self._kit.clock.now()
        code = await self._kit.store.find_code(digest_of(secret), "session", now)
        subject = Subject.from_json(code.data["subject"]) if code is not None else None
        return subject if subject and subject.sub in self._kit.settings.people else None

    async def ticket(self, subject: Subject) -> str:
        """Return the secret of a new one-time sign-in link of `subject`."""
        secret = self._kit.new_secret()
        await self._add(
            "ticket", secret, "", {"subject": subject.to_json()}, self._kit.settings.ticket_s
        )
        return secret

    async def enter(self, ticket: str) -> str:
        """Return a browser session for a one-time link; it works once.

        Raises:
            OAuthError: ``access_denied``.
        """
        digest, now = digest_of(ticket), self._kit.clock.now()
        code = await self._kit.store.find_code(digest, "ticket", now)
        if code is None or not await self._kit.store.move_code(digest, "approved", "used"):
            raise OAuthError("access_denied", "the link was used before or has ended")
        return await self.open_session(Subject.from_json(code.data["subject"]))

    async def authorize(self, request: AuthorizeRequest, subject: Subject) -> str:
        """Return the address that takes the browser back to the client with its code.

        Raises:
            OAuthError: ``invalid_scope``.
        """
        self._kit.policy().login_scopes(request.scopes, subject.groups)
        secret = self._kit.new_secret()
        data = {
            "subject": subject.to_json(),
            "scopes": request.scopes,
            "audiences": request.audiences,
            "redirect_uri": request.redirect_uri,
            "challenge": request.challenge,
            "nonce": request.nonce,
        }
        life_s = self._kit.settings.authorization_code_s
        await self._add("authorization", secret, request.client, data, life_s)
        return request.back(code=secret, iss=self._kit.url)

    async def _add(
        self,
        kind: CodeKind,
        secret: str,
        client: str,
        data: Mapping[str, Any],
        life_s: int,
        *,
        user_code: str | None = None,
    ) -> None:
        await self._kit.store.add_code(
            Code(
                digest=digest_of(secret),
                kind=kind,
                status="pending" if kind == "device" else "approved",
                client=client,
                data=data,
                expires_at=self._kit.clock.now() + timedelta(seconds=life_s),
                user_code=user_code,
            )
        )


def check_redirect(client: str, redirect_uri: str, dashboard: str | None) -> None:
    """Return if the browser may be sent to `redirect_uri` on behalf of `client`.

    A native client may be sent to any loopback port (RFC 8252 §7.3), the dashboard to its pages.

    Raises:
        OAuthError: ``invalid_request``; nothing may be sent there, not even an error.
    """
    parts = urlsplit(redirect_uri)
    if client in CODE_CLIENTS and not parts.fragment and "\\" not in redirect_uri:
        native = (
            parts.scheme == "http" and parts.hostname in LOOPBACK_HOSTS and "@" not in redirect_uri
        )
        if client in PUBLIC_CLIENTS and native:
            return
        if client == "dashboard" and dashboard and redirect_uri.startswith(f"{dashboard}/"):
            return
    raise OAuthError("invalid_request", "the client or its redirect URI is not known")


def check_challenge(params: Mapping[str, str]) -> str:
    """Return the PKCE challenge, which every client must send, by S256 (RFC 7636 §4.3).

    Raises:
        OAuthError: ``invalid_request``.
    """
    challenge = params.get("code_challenge", "")
    if params.get("code_challenge_method") != "S256" or len(challenge) != CHALLENGE_CHARS:
        raise OAuthError("invalid_request", "a code_challenge of method S256 is needed")
    return challenge
