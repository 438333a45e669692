"""Checksums in HTTP fields, both ways: RFC 3230 ``Digest`` and RFC 9530 ``Repr-Digest``.

Algorithms are named as in `ALGORITHMS` of the model; values are lower-case hexadecimal. On the wire
adler32 is hexadecimal in ``Digest`` and base64 in ``Repr-Digest``; the others are base64 in both.
"""

import base64
import binascii
import re
from collections.abc import Iterable, Mapping

DIGEST_NAMES = {"adler32": "adler32", "md5": "md5", "sha256": "sha-256"}
REPR_NAMES = {"adler32": "adler", "md5": "md5", "sha256": "sha-256"}
_ALIASES = {
    "adler32": "adler32",
    "adler": "adler32",
    "md5": "md5",
    "sha-256": "sha256",
    "sha256": "sha256",
}
_BYTES = {"adler32": 4, "md5": 16, "sha256": 32}
_HEX = re.compile(r"[0-9a-fA-F]+")


def write_digest(checksums: Mapping[str, str]) -> str:
    """Return the value of a ``Digest`` field (RFC 3230 §4.3.2)."""
    return ",".join(
        f"{DIGEST_NAMES[name]}={value if name == 'adler32' else _to_base64(value)}"
        for name, value in checksums.items()
        if name in DIGEST_NAMES
    )


def read_digest(field: str) -> dict[str, str]:
    """Return the checksums of a ``Digest`` field; algorithms that we do not know are left out.

    Raises:
        ValueError: a value of a known algorithm is of the wrong form.
    """
    found = {}
    for item in field.split(","):
        name, _, value = item.strip().partition("=")
        algorithm = _ALIASES.get(name.strip().lower())
        if algorithm is not None:
            found[algorithm] = _read_value(algorithm, value.strip())
    return found


def write_repr_digest(checksums: Mapping[str, str]) -> str:
    """Return the value of a ``Repr-Digest`` field (RFC 9530 §3)."""
    return ", ".join(
        f"{REPR_NAMES[name]}=:{_to_base64(value)}:"
        for name, value in checksums.items()
        if name in REPR_NAMES
    )


def read_repr_digest(field: str) -> dict[str, str]:
    """Return the checksums of a ``Repr-Digest`` field; unknown algorithms are left out.

    Raises:
        ValueError: a value of a known algorithm is of the wrong form.
    """
    found = {}
    for item in field.split(","):
        name, _, value = item.strip().partition("=")
        algorithm = _ALIASES.get(name.strip().lower())
        if algorithm is None:
            continue
        value = value.strip()
        if len(value) < 2 or value[0] != ":" or value[-1] != ":":
            raise ValueError(f"{name} of Repr-Digest is not a byte sequence")
        found[algorithm] = _from_base64(algorithm, value[1:-1])
    return found


def wanted(field: str) -> list[str]:
    """Return the algorithms that a ``Want-Digest`` or ``Want-Repr-Digest`` asks for, best first.

    A preference of 0 means never; what we do not know is left out.
    """
    weighted: list[tuple[float, str]] = []
    for item in field.split(","):
        name, _, weight = item.strip().partition("=" if ";" not in item else ";")
        algorithm = _ALIASES.get(name.strip().lower())
        if algorithm is None or algorithm in {known for _, known in weighted}:
            continue
        number = weight.strip().removeprefix("q=").strip()
        try:
            preference = float(number) if number else 1.0
        except ValueError:
            preference = 1.0
        if preference > 0:
            weighted.append((preference, algorithm))
    return [algorithm for _, algorithm in sorted(weighted, key=lambda pair: -pair[0])]


def write_wanted(algorithms: Iterable[str]) -> str:
    """Return the value of a ``Want-Digest`` field."""
    return ",".join(DIGEST_NAMES[name] for name in algorithms)


def read_content_md5(field: str) -> str:
    """Return the MD5 of a ``Content-MD5`` field (RFC 1864).

    Raises:
        ValueError: it is of the wrong form.
    """
    return _from_base64("md5", field.strip())


def _read_value(algorithm: str, value: str) -> str:
    """Read a value of ``Digest``: servers write hexadecimal where base64 is meant, and back."""
    width = _BYTES[algorithm]
    if algorithm == "adler32" and _HEX.fullmatch(value) and len(value) <= width * 2:
        return value.lower().rjust(width * 2, "0")
    if len(value) == width * 2 and _HEX.fullmatch(value):
        return value.lower()
    return _from_base64(algorithm, value)


def _to_base64(value: str) -> str:
    return base64.b64encode(bytes.fromhex(value)).decode()


def _from_base64(algorithm: str, value: str) -> str:
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"the {algorithm} is not base64") from error
    if len(raw) != _BYTES[algorithm]:
        raise ValueError(f"the {algorithm} has {len(raw)} bytes instead of {_BYTES[algorithm]}")
    return raw.hex()
