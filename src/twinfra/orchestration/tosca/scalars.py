"""TOSCA's primitive types: each reads a scalar of the document into a typed Python value.

Raises ``ValueError`` with a message for the template's author; knows no properties or types beyond
the primitives. Its neighbour ``values`` applies these to whole properties.

Source: TOSCA Simple Profile 1.3 §3.3 (and YAML 1.1 booleans, which authors of 1.0 templates use).
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from typing import Any

from twinfra.core.errors import shorten
from twinfra.orchestration.tosca.document import Tree

_SIZE = {
    "B": 1,
    **{f"{p}B": 10 ** (3 * n) for n, p in enumerate(("k", "M", "G", "T"), 1)},
    **{f"{p}iB": 2 ** (10 * n) for n, p in enumerate(("K", "M", "G", "T"), 1)},
}
_TIME = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_FREQUENCY = {"Hz": 1.0, "kHz": 1e3, "MHz": 1e6, "GHz": 1e9}
_BITRATE = {
    **{f"{p}bps": 10 ** (3 * n) for n, p in enumerate(("", "K", "M", "G", "T"))},
    **{f"{p}ibps": 2 ** (10 * n) for n, p in enumerate(("K", "M", "G", "T"), 1)},
    **{f"{p}Bps": 8 * 10 ** (3 * n) for n, p in enumerate(("", "K", "M", "G", "T"))},
    **{f"{p}iBps": 8 * 2 ** (10 * n) for n, p in enumerate(("K", "M", "G", "T"), 1)},
}
_QUANTITY = re.compile(r"([0-9]{1,18}(?:\.[0-9]{0,9})?)\s*([A-Za-z]{1,5})")
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9}){0,3}(?:\.[A-Za-z0-9]{1,60}(?:-[0-9]{1,9})?)?")
_OLD_BOOLS = {"yes": True, "on": True, "no": False, "off": False}


def named(value: Any) -> str:
    """Return `value` for a message: short, quoted if it is text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return shorten(repr(value), 60) if isinstance(value, str) else shorten(str(value), 60)


def _string(tree: Tree) -> str:
    if isinstance(tree.value, str):
        return tree.value
    raise ValueError(f"{named(tree.value)} is not text; quote it if it should be")


def _integer(tree: Tree) -> int:
    if isinstance(tree.value, int) and not isinstance(tree.value, bool):
        return tree.value
    raise ValueError(f"{named(tree.value)} is not a whole number")


def _float(tree: Tree) -> float:
    value = tree.value
    if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{named(value)} is not a number")


def _boolean(tree: Tree) -> bool:
    if isinstance(tree.value, bool):
        return tree.value
    if tree.text is not None and tree.text.lower() in _OLD_BOOLS:
        return _OLD_BOOLS[tree.text.lower()]
    raise ValueError(f"{named(tree.value)} is neither true nor false")


def _timestamp(tree: Tree) -> datetime:
    try:
        if isinstance(tree.value, str):
            moment = datetime.fromisoformat(tree.value)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        if isinstance(tree.value, datetime):
            return tree.value
        if isinstance(tree.value, date):
            return datetime(tree.value.year, tree.value.month, tree.value.day, tzinfo=UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{named(tree.value)} is not a time such as 2026-01-31T12:00:00Z")


def _version(tree: Tree) -> str:
    text = tree.text or (tree.value if isinstance(tree.value, str) else "")
    if isinstance(tree.value, int | float) and not isinstance(tree.value, bool) and not text:
        text = str(tree.value)
    if _VERSION.fullmatch(text):
        return text
    raise ValueError(f"{named(tree.value)} is not a version such as 1.2 or 2.0.1.beta-3")


def _range(tree: Tree) -> list[float | None]:
    members = tree.value if isinstance(tree.value, list) else []
    if len(members) != 2:
        raise ValueError("a range is a list of two: the lowest and the highest")
    low, high = (_bound(member) for member in members)
    if low is None or (high is not None and high < low):
        raise ValueError("a range goes from a number to one that is not lower, or to UNBOUNDED")
    return [low, high]


def _bound(tree: Tree) -> float | None:
    if tree.value == "UNBOUNDED":
        return None
    return tree.value if isinstance(tree.value, int) else _float(tree)


def _scaled(tree: Tree, units: Mapping[str, float], example: str) -> tuple[str, float]:
    text = tree.value.strip() if isinstance(tree.value, str) else ""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{named(tree.value)} is not a quantity with its unit, such as {example}")
    number, unit = match.groups()
    factor = units.get(unit)
    if factor is None:
        alike = [f for name, f in units.items() if name.lower() == unit.lower()]
        if len(alike) != 1:
            raise ValueError(f"{unit!r} is not one of the units {', '.join(units)}")
        factor = alike[0]
    return number, factor


def _size(tree: Tree) -> int:
    number, factor = _scaled(tree, _SIZE, "512 MiB")
    return int(number) * int(factor) if number.isdigit() else round(float(number) * factor)


def _quantity(units: Mapping[str, float], example: str) -> Callable[[Tree], float]:
    def read_quantity(tree: Tree) -> float:
        number, factor = _scaled(tree, units, example)
        return float(number) * factor

    return read_quantity


def _null(tree: Tree) -> None:
    if tree.value is not None:
        raise ValueError(f"{named(tree.value)} is not null")


PRIMITIVES: Mapping[str, Callable[[Tree], Any]] = {
    "string": _string,
    "integer": _integer,
    "float": _float,
    "boolean": _boolean,
    "timestamp": _timestamp,
    "version": _version,
    "range": _range,
    "null": _null,
    "scalar-unit.size": _size,
    "scalar-unit.time": _quantity(_TIME, "30 s"),
    "scalar-unit.frequency": _quantity(_FREQUENCY, "2.4 GHz"),
    "scalar-unit.bitrate": _quantity(_BITRATE, "10 Mbps"),
}
"""How each primitive type is read; ``list`` and ``map`` are read by ``values``."""
