"""Checksums as FTS and the digest headers spell them, and when two are the same."""

import base64
import binascii
import re
from dataclasses import dataclass

ADLER32, MD5, SHA256 = "adler32", "md5", "sha-256"
_ALGORITHMS = {
    "adler32": ADLER32,
    "ad": ADLER32,
    "md5": MD5,
    "md": MD5,
    "sha256": SHA256,
    "sha-256": SHA256,
}
_HEX = re.compile(r"[0-9a-fA-F]+")


@dataclass(frozen=True)
class Checksum:
    """An algorithm and its value in hexadecimal; the value is empty where only one is asked for."""

    algorithm: str
    value: str = ""

    def __str__(self) -> str:
        name = self.algorithm.replace("-", "").upper()
        return f"{name}:{self.value}" if self.value else name


def parse_checksum(text: str | None) -> Checksum | None:
    """Read ``ADLER32:5ae07809`` or the bare ``ADLER32``; nothing gives nothing.

    Raises:
        ValueError: the algorithm is not known or the value is not hexadecimal.
    """
    if not text:
        return None
    name, _, value = text.partition(":")
    algorithm = _ALGORITHMS.get(name.strip().lower())
    if algorithm is None:
        raise ValueError(f"checksum algorithm {name!r} is none of adler32, md5, sha256")
    if value and not _HEX.fullmatch(value.strip()):
        raise ValueError(f"checksum value {value!r} is not hexadecimal")
    return Checksum(algorithm, value.strip().lower())


def same_digest(left: str, right: str) -> bool:
    """Compare two hexadecimal values as FTS does: case and leading zeros do not count."""
    return left.lower().lstrip("0") == right.lower().lstrip("0")


def parse_digest_header(text: str | None) -> dict[str, str]:
    """Return hexadecimal values by algorithm from a ``Digest`` header; what is odd is left out.

    Source: RFC 3230 §4.3.2: adler32 is hexadecimal there, md5 and sha-256 are base64.
    """
    found: dict[str, str] = {}
    for part in (text or "").split(","):
        name, separator, value = part.strip().partition("=")
        algorithm = _ALGORITHMS.get(name.strip().lower())
        if not separator or algorithm is None:
            continue
        hexadecimal = _hexadecimal(algorithm, value.strip())
        if hexadecimal:
            found[algorithm] = hexadecimal
    return found


def _hexadecimal(algorithm: str, value: str) -> str | None:
    if algorithm == ADLER32:
        return value.lower() if _HEX.fullmatch(value) else None
    lengths = {MD5: 32, SHA256: 64}
    if len(value) == lengths[algorithm] and _HEX.fullmatch(value):
        return value.lower()
    try:
        return base64.b64decode(value, validate=True).hex()
    except (binascii.Error, ValueError):
        return None
