"""Values that wait for attributes: what is left of a TOSCA function after planning.

Inputs and properties are known when a template is planned, attributes only once something runs;
``get_attribute`` and whatever is built on it therefore stays an expression, resolved here. Does no
I/O. Its neighbour ``evaluate`` makes these from the template's functions.

Source: TOSCA Simple Profile 1.3 §4.3-§4.5.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final


class Unresolved(Enum):
    """The answer for a value whose attributes have not arrived."""

    PENDING = "pending"


PENDING: Final = Unresolved.PENDING

Attributes = Mapping[str, Mapping[str, Any]]
"""Attribute values by node name, then attribute name."""


@dataclass(frozen=True, slots=True)
class GetAttribute:
    """An attribute of a node, and the way into it by key or index."""

    node: str
    path: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Concat:
    """Its parts as text, one after another."""

    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Join:
    """Its parts as text, `delimiter` between them; a part that is a list gives all its members."""

    parts: Any
    delimiter: str


@dataclass(frozen=True, slots=True)
class Token:
    """Part number `index` (from 0) of a text cut at `separators`."""

    text: Any
    separators: str
    index: int


@dataclass(frozen=True, slots=True)
class Pick:
    """The way by key or index into a value that is itself an expression."""

    value: Any
    path: tuple[str | int, ...]


Expression = GetAttribute | Concat | Join | Token | Pick


def as_text(value: Any) -> str:
    """Spell a plain value as text: booleans as TOSCA does, whole floats bare, the rest as JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, Mapping | list | tuple):
        return json.dumps(value, default=str)
    return str(value)


def is_lazy(value: Any) -> bool:
    """Say whether `value` holds an expression anywhere."""
    if isinstance(value, Expression):
        return True
    if isinstance(value, Mapping):
        return any(is_lazy(member) for member in value.values())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return any(is_lazy(member) for member in value)
    return False


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, Mapping):
        return step in value
    is_index = isinstance(value, list | tuple) and isinstance(step, int)
    return is_index and 0 <= int(step) < len(value)


def dig(value: Any, path: Sequence[str | int]) -> Any:
    """Follow keys and indexes into lists and mappings; ``PENDING`` where the way ends early."""
    for step in path:
        if not _has(value, step):
            return PENDING
        value = value[step]
    return value


def resolve(value: Any, attributes: Attributes) -> Any:
    """Return `value` with every expression replaced; ``PENDING`` if one attribute is missing.

    Guarantees: a plain value comes back equal; the answer holds no expression; the same arguments
    give the same answer.
    """
    if isinstance(value, Expression):
        return _expression(value, attributes)
    if isinstance(value, Mapping):
        members = {key: resolve(member, attributes) for key, member in value.items()}
        return PENDING if PENDING in members.values() else members
    if isinstance(value, list | tuple):
        items = [resolve(member, attributes) for member in value]
        return PENDING if any(item is PENDING for item in items) else items
    return value


def _expression(value: Expression, attributes: Attributes) -> Any:
    if isinstance(value, GetAttribute):
        return resolve(dig(attributes.get(value.node, {}), value.path), attributes)
    if isinstance(value, Pick):
        return dig(resolve(value.value, attributes), value.path)
    if isinstance(value, Concat):
        parts = resolve(value.parts, attributes)
        return PENDING if parts is PENDING else "".join(as_text(part) for part in parts)
    if isinstance(value, Join):
        return _join(value, attributes)
    text = resolve(value.text, attributes)
    return PENDING if text is PENDING else cut(as_text(text), value.separators, value.index)


def _join(value: Join, attributes: Attributes) -> Any:
    parts = resolve(value.parts, attributes)
    if parts is PENDING:
        return PENDING
    flat: list[Any] = []
    for part in parts if isinstance(parts, list) else [parts]:
        flat.extend(part if isinstance(part, list) else [part])
    return value.delimiter.join(as_text(part) for part in flat)


def cut(text: str, separators: str, index: int) -> Any:
    """Return part `index` of `text` cut at any of `separators`; ``PENDING`` where there is none."""
    parts = [""]
    for character in text:
        if character in separators:
            parts.append("")
        else:
            parts[-1] += character
    return parts[index] if 0 <= index < len(parts) else PENDING
