"""POSTs to callback URLs: signed, to addresses that may be called, never followed elsewhere.

The signature is a detached JWS over the exact body in the header ``Twinfra-Signature``; whoever
receives it checks it with the key at ``/.well-known/jwks.json``. Names are resolved here once, and
the connection goes to the very address that was judged.

Source: RFC 7515 appendix F (detached content); RFC 6890 (special-purpose addresses).
"""

import ipaddress
import json
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from joserfc import jws
from joserfc.jwk import ECKey

from twinfra.core.errors import InvalidRequest, Unavailable, shorten

ALGORITHM = "ES256"
SIGNATURE = "Twinfra-Signature"
ANSWER_BYTES = 1024


def make_key() -> str:
    """Return a new key that signs callbacks, as PEM."""
    return ECKey.generate_key("P-256").as_pem(private=True).decode()


class SignedCallbacks:
    """Tells callback URLs; a `Callbacks`.

    Args:
        key_pem: signs the bodies.
        private_addresses: whether loopback, private and link-local addresses may be called.
        timeout_s: for the whole answer.
        tls: trusts the receivers; none: the machine's authorities.
    """

    def __init__(
        self,
        key_pem: str,
        *,
        private_addresses: bool,
        timeout_s: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._key = ECKey.import_key(key_pem)
        self._key.ensure_kid()
        self._private, self._timeout_s, self._tls = private_addresses, timeout_s, tls
        self._session: aiohttp.ClientSession | None = None

    def jwks(self) -> dict[str, Any]:
        """Return the key set that receivers check signatures with."""
        public = self._key.as_dict(private=False)
        return {"keys": [{**public, "use": "sig", "alg": ALGORITHM}]}

    async def send(self, url: str, body: Mapping[str, Any], *, number: str) -> None:
        """POST `body`, signed; a 2xx answer is success."""
        check_url(url)
        if not self._private and (literal := _literal(url)) and not literal.is_global:
            raise InvalidRequest(f"{literal} is not a public address")
        payload = json.dumps(body, separators=(",", ":")).encode()
        headers = {
            "Content-Type": "application/json",
            "Twinfra-Delivery": number,
            SIGNATURE: self._sign(payload),
        }
        try:
            async with self._opened().post(
                url, data=payload, headers=headers, allow_redirects=False, ssl=self._tls or True
            ) as answer:
                text = (await answer.content.read(ANSWER_BYTES)).decode("utf-8", "replace")
        except _RefusedAddressError as error:
            raise InvalidRequest(f"{urlsplit(url).hostname}: {error}") from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error.__cause__, _RefusedAddressError):
                raise InvalidRequest(str(error.__cause__)) from error
            raise Unavailable(f"callback: {shorten(str(error) or type(error).__name__)}") from error
        if 400 <= answer.status < 500 and answer.status not in {408, 425, 429}:
            raise InvalidRequest(f"callback answered {answer.status} {shorten(text)}")
        if not 200 <= answer.status < 300:
            raise Unavailable(f"callback answered {answer.status} {shorten(text)}")

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _sign(self, payload: bytes) -> str:
        header = {"alg": ALGORITHM, "kid": self._key.kid}
        whole = jws.serialize_compact(header, payload, self._key, algorithms=[ALGORITHM])
        head, _, signature = whole.split(".")
        return f"{head}..{signature}"

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=JudgingResolver(private_addresses=self._private), use_dns_cache=False
            )
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=self._timeout_s)
            )
        return self._session


class _RefusedAddressError(OSError):
    """A name leads to an address that may not be called."""


class JudgingResolver(AbstractResolver):
    """Resolves names, and refuses those that lead to addresses that may not be called."""

    def __init__(self, *, private_addresses: bool) -> None:
        self._private = private_addresses
        self._inner = aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of `host`, all of which may be called."""
        found = await self._inner.resolve(host, port, family)
        for each in found:
            if not self._private and not ipaddress.ip_address(each["host"]).is_global:
                raise _RefusedAddressError(f"{host} leads to {each['host']}, which is not public")
        return found

    async def close(self) -> None:
        """Close the resolver."""
        await self._inner.close()


def check_url(url: str) -> str:
    """Return `url` if it can be a callback at all.

    Raises:
        InvalidRequest: it is no http or https URL, or it carries a user.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"callback {shorten(url)!r} is not a URL") from error
    plain = parts.scheme in {"http", "https"} and parts.hostname and parts.username is None
    if not plain or port == 0 or any(ord(c) <= 32 for c in url):
        raise InvalidRequest(f"callback {shorten(url)!r} is not an http or https URL")
    return url


def _literal(url: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address((urlsplit(url).hostname or "").strip("[]"))
    except ValueError:
        return None
