"""The strict reading of a signed compact JWT: bytes in, header and claims out, nothing believed.

Stricter than the libraries: canonical base64url, no repeated JSON member, bounded size. Signatures
are checked by ``joserfc`` with a key that we chose; keys inside a token are never looked at.

Source: RFC 7515, RFC 7519, RFC 8725 (best current practice).
"""

import base64
import binascii
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, KeyParameters, RSAKey

from twinfra.access.errors import TokenRefused

MAX_TOKEN_BYTES = 16 * 1024
MIN_RSA_BITS = 2048
_ASYMMETRIC = ("RS", "PS", "ES")


@dataclass(frozen=True, slots=True)
class UnverifiedToken:
    """What a token says of itself; only good for choosing the key to check it with."""

    text: str
    header: dict[str, Any]
    claims: dict[str, Any]


def parse_jwt(token: str) -> UnverifiedToken:
    """Take a compact JWS apart without believing it.

    Raises:
        TokenRefused: it is too long, has not three canonical parts of JSON objects, or demands the
            understanding of an extension (``crit``); reason ``malformed``.
    """
    if len(token) > MAX_TOKEN_BYTES:
        raise TokenRefused("malformed", "it is too long")
    parts = token.split(".")
    if len(parts) != 3:
        raise TokenRefused("malformed", "it has not three parts")
    header, claims = _json_object(parts[0]), _json_object(parts[1])
    _decode(parts[2])
    if "crit" in header or "b64" in header:
        raise TokenRefused("malformed", "it demands an extension that is not known here")
    return UnverifiedToken(token, header, claims)


def check_algorithm(token: UnverifiedToken, allowed: Iterable[str]) -> str:
    """Return the token's algorithm if it is allowed and asymmetric.

    Raises:
        TokenRefused: reason ``algorithm``.
    """
    algorithm = token.header.get("alg")
    usable = {name for name in allowed if name.startswith(_ASYMMETRIC)}
    if not isinstance(algorithm, str) or algorithm not in usable:
        raise TokenRefused("algorithm")
    return algorithm


def check_signature(token: UnverifiedToken, key: Key, algorithm: str) -> None:
    """Return if `key` made the token's signature by `algorithm`.

    Raises:
        TokenRefused: it did not, or cannot have; reason ``signature``.
    """
    if key.alg is not None and key.alg != algorithm:
        raise TokenRefused("signature")
    registry = jws.JWSRegistry(algorithms=[algorithm], strict_check_header=False)
    registry.max_header_length = registry.max_payload_length = MAX_TOKEN_BYTES
    try:
        jws.deserialize_compact(token.text, key, registry=registry)
    except (JoseError, ValueError) as error:
        raise TokenRefused("signature") from error


def usable_keys(document: Any) -> dict[str, Key]:
    """Return the signature keys of a JWKS document by their ``kid``.

    Left out: what has no ``kid``, shares it, is symmetric, for encryption, or too weak.
    """
    entries = document.get("keys") if isinstance(document, dict) else None
    found: dict[str, Key] = {}
    doubled: set[str] = set()
    for entry in entries if isinstance(entries, list) else []:
        key = _usable_key(entry)
        if key is None:
            continue
        kid = entry["kid"]
        if kid in found:
            doubled.add(kid)
        found[kid] = key
    return {kid: key for kid, key in found.items() if kid not in doubled}


def _usable_key(entry: Any) -> Key | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str):
        return None
    if entry.get("use", "sig") != "sig" or "verify" not in entry.get("key_ops", ["verify"]):
        return None
    # only public members are taken over, whatever else an issuer publishes by mistake
    public = {name: entry[name] for name in ("kty", "n", "e", "crv", "x", "y") if name in entry}
    about: KeyParameters = {"kid": entry["kid"]}
    if isinstance(entry.get("alg"), str):
        about["alg"] = entry["alg"]
    try:
        return _import(public, about)
    except (JoseError, TokenRefused, ValueError, TypeError, KeyError):
        return None


def _import(public: dict[str, Any], about: KeyParameters) -> RSAKey | ECKey | None:
    if public["kty"] == "EC":
        return ECKey.import_key(public, about)
    modulus = int.from_bytes(_decode(public["n"]), "big") if public["kty"] == "RSA" else 0
    if modulus.bit_length() < MIN_RSA_BITS:
        return None
    return RSAKey.import_key(public, about)


def _decode(segment: str) -> bytes:
    """Decode base64url without padding, refusing any spelling but the canonical one."""
    try:
        data = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise TokenRefused("malformed", "a part is not base64url") from error
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != segment:
        raise TokenRefused("malformed", "a part is not canonical base64url")
    return data


def _json_object(segment: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(segment), object_pairs_hook=_no_repeats)
    except (ValueError, RecursionError) as error:
        raise TokenRefused("malformed", "a part is not plain JSON") from error
    if not isinstance(value, dict):
        raise TokenRefused("malformed", "a part is not a JSON object")
    return value


def _no_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a member is repeated")
    return table
