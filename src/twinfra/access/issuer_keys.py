"""The published keys of one issuer: discovered, fetched, kept, renewed.

A key that appears is accepted at once, within a bound on how often the issuer is asked; a key that
is withdrawn is refused when the kept set grows old; while the issuer is away, known keys work.
Never follows a redirect and never reads more than a bounded body.

Source: OpenID Connect Discovery 1.0 §4, RFC 8414 §3, WLCG Common JWT Profile 1.3 (key life).
"""

import asyncio
import json
import ssl
from collections import deque
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from joserfc.jwk import Key

from twinfra.access.errors import TokenRefused
from twinfra.access.jose import usable_keys
from twinfra.core.errors import Unavailable
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

MAX_DOCUMENT_BYTES = 256 * 1024
TIMEOUT_S = 5.0
FIRST_RETRY_S = 0.2
BURST = 3
HTTP_OK = 200


@dataclass(frozen=True, slots=True)
class KeyLife:
    """How long kept keys are good for.

    Attributes:
        refresh_s: asked for again when older than this.
        expiry_s: no longer used when older than this, even if the issuer is away.
        min_interval_s: at least so long between two questions to one issuer, in the long run.
    """

    refresh_s: float = 6 * 3600.0
    expiry_s: float = 2 * 86400.0
    min_interval_s: float = 10.0


class IssuerKeys:
    """The keys of one issuer."""

    def __init__(
        self, issuer: str, *, tls: ssl.SSLContext | None, clock: Clock, life: KeyLife
    ) -> None:
        self._issuer = issuer
        self._tls = tls
        self._clock = clock
        self._life = life
        self._keys: dict[str, Key] = {}
        self._fetched_at: float | None = None
        self._asked_at: deque[float] = deque(maxlen=BURST)
        self._asking = asyncio.Lock()

    async def find(self, kid: str) -> Key:
        """Return the issuer's key `kid`.

        Raises:
            TokenRefused: the issuer publishes no such key; reason ``key-unknown``.
            Unavailable: the issuer is away and no keys of it are kept; try again.
        """
        if kid not in self._keys or self._older_than(self._life.refresh_s):
            await self._refresh(kid)
        if self._older_than(self._life.expiry_s):
            raise Unavailable(f"the keys of issuer {self._issuer} cannot be had now")
        key = self._keys.get(kid)
        if key is None:
            raise TokenRefused("key-unknown")
        return key

    def _older_than(self, age_s: float) -> bool:
        return self._fetched_at is None or self._clock.monotonic() - self._fetched_at > age_s

    async def _refresh(self, kid: str) -> None:
        """Ask the issuer again, one question at a time, and not too often."""
        async with self._asking:
            if kid in self._keys and not self._older_than(self._life.refresh_s):
                return
            now = self._clock.monotonic()
            if not self._may_ask(now):
                return
            self._asked_at.append(now)
            try:
                self._keys = await self._fetch()
                self._fetched_at = self._clock.monotonic()
            except (aiohttp.ClientError, OSError, ValueError, RecursionError) as error:
                log.warning("issuer_keys_not_fetched", issuer=self._issuer, error=repr(error))

    def _may_ask(self, now: float) -> bool:
        """Allow `BURST` questions at once and one per interval in the long run."""
        if self._fetched_at is None:  # a service that starts before its issuer asks on, quickly
            return not self._asked_at or now - self._asked_at[-1] >= FIRST_RETRY_S
        recent = len(self._asked_at) == BURST
        return not recent or now - self._asked_at[0] >= BURST * self._life.min_interval_s

    async def _fetch(self) -> dict[str, Key]:
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            document = await self._discover(session)
            if document.get("issuer") != self._issuer:
                raise ValueError("the discovery document names another issuer")
            location = document.get("jwks_uri")
            if not isinstance(location, str) or not self._may_fetch(location):
                raise ValueError("the discovery document names no usable jwks_uri")
            keys = usable_keys(await _get_json(session, location))
        if not keys:
            raise ValueError("the issuer publishes no usable key")
        return keys

    async def _discover(self, session: aiohttp.ClientSession) -> dict[str, Any]:
        base = self._issuer.rstrip("/")
        parts = urlsplit(base)
        inserted = f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server"
        places = (f"{base}/.well-known/openid-configuration", inserted + parts.path)
        for place in places[:-1]:
            try:
                return await _get_json(session, place)
            except aiohttp.ClientResponseError as error:
                log.debug("discovery_not_found", url=place, status=error.status)
        return await _get_json(session, places[-1])

    def _may_fetch(self, location: str) -> bool:
        """Keys come over HTTPS only, except from an issuer that itself is plain (tests)."""
        return location.startswith("https://") or self._issuer.startswith("http://")


async def _get_json(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url, allow_redirects=False) as response:
        if response.status != HTTP_OK:
            raise aiohttp.ClientResponseError(
                response.request_info, response.history, status=response.status
            )
        body = await response.content.read(MAX_DOCUMENT_BYTES + 1)
        while len(body) <= MAX_DOCUMENT_BYTES and not response.content.at_eof():
            body += await response.content.read(MAX_DOCUMENT_BYTES + 1 - len(body))
    if len(body) > MAX_DOCUMENT_BYTES:
        raise ValueError("the document is too long")
    document = json.loads(body)
    if not isinstance(document, dict):
        raise ValueError("the document is not a JSON object")  # noqa: TRY004 - bad data, not a bug
    return document
