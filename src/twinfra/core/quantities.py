"""Quantities as Kubernetes and TOSCA spell them, read into plain numbers with a unit."""

import re
from collections.abc import Mapping
from decimal import Decimal

_POWERS = tuple(enumerate(("K", "M", "G", "T", "P", "E"), 1))
_SUFFIXES: Mapping[str, Decimal] = {
    "": Decimal(1),
    "k": Decimal(10**3),
    "m": Decimal("0.001"),
    **{unit: Decimal(10 ** (3 * power)) for power, unit in _POWERS},
    **{f"{unit}i": Decimal(2 ** (10 * power)) for power, unit in _POWERS},
}
_NUMBER = re.compile(
    r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,3}))?\s*([A-Za-z]*)\s*", re.ASCII
)
_MOST = 2**63 - 1


def _parse(text: str | float) -> tuple[Decimal, str]:
    match = _NUMBER.fullmatch(str(text))
    if match is None:  # True and False are no numbers either, by how they are written
        raise ValueError(f"{str(text)[:64]!r} is not a quantity such as 500m, 2 or 1.5Gi")
    mantissa, exponent, suffix = match.groups()
    return Decimal(f"{mantissa}e{exponent or 0}"), str(suffix)


def _scaled(number: Decimal, suffix: str, text: str | float) -> Decimal:
    value = number * _SUFFIXES[suffix]
    if value > _MOST:
        raise ValueError(f"{str(text)[:64]!r} is more than any machine has")
    return value


def parse_cpu(text: str | float) -> float:
    """Return cores from ``2``, ``"500m"`` or ``"1.5"``.

    Raises:
        ValueError: it is no such quantity.
    """
    number, suffix = _parse(text)
    if suffix not in {"", "m", "k"}:
        raise ValueError(f"{text!r} is not a number of cores such as 500m or 2")
    return float(_scaled(number, suffix, text))


def parse_bytes(text: str | float) -> int:
    """Return bytes from ``"512Mi"`` (Kubernetes) or ``"512 MiB"``, ``"2 GB"`` (TOSCA).

    A unit that ends in ``B`` is read in any case of letters, as TOSCA asks; without it, ``m`` is a
    thousandth and ``M`` a million, as Kubernetes asks. What is less than a byte is dropped.

    Raises:
        ValueError: it is no such quantity.

    Source: Kubernetes resource.Quantity; TOSCA Simple Profile 1.3 §3.3.6.4 (scalar-unit.size).
    """
    number, suffix = _parse(text)
    if suffix.endswith(("B", "b")):
        unit = suffix[:-1].capitalize()
    else:
        unit = suffix if suffix in _SUFFIXES else suffix.capitalize()
    if unit not in _SUFFIXES:
        raise ValueError(f"{text!r} is not a size such as 512Mi or 2 GB")
    return int(_scaled(number, unit, text))


def format_bytes(size_bytes: float) -> str:
    """Return a size for people: ``11.9 MiB``."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024 or unit == "TiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")
