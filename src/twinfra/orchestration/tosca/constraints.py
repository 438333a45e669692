"""TOSCA's constraints: what a value must keep beyond its type.

Pure checks of typed values; a pattern is matched in linear time, whatever the author wrote. Its
neighbour ``values`` reads operands by the type that is constrained.

Source: TOSCA Simple Profile 1.3 §3.6.3.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import re2

from twinfra.orchestration.tosca.expressions import as_text
from twinfra.orchestration.tosca.scalars import named

PATTERN_CHARS = 1000
"""Longest regular expression that is compiled."""

LENGTHS = {"length", "min_length", "max_length"}
"""Constraints whose operand is a number of characters or members, whatever the type."""

NAMES = {
    "equal",
    "greater_than",
    "greater_or_equal",
    "less_than",
    "less_or_equal",
    "in_range",
    "valid_values",
    "pattern",
    *LENGTHS,
}


def _ordered(word: str, test: Callable[[Any, Any], bool]) -> Callable[[Any, Any, str], str | None]:
    def check(value: Any, operand: Any, spelt: str) -> str | None:
        try:
            kept = test(value, operand)
        except TypeError:
            return "cannot be compared"
        return None if kept else f"must be {word} {spelt}"

    return check


def _equal(value: Any, operand: Any, spelt: str) -> str | None:
    return None if value == operand else f"must be {spelt}"


def _in_range(value: Any, operand: Sequence[Any], spelt: str) -> str | None:
    low, high = operand
    try:
        kept = (low is None or value >= low) and (high is None or value <= high)
    except TypeError:
        return "cannot be compared"
    return None if kept else f"must be in the range {spelt}"


def _valid_values(value: Any, operand: Sequence[Any], spelt: str) -> str | None:
    return None if value in operand else f"must be one of {spelt}"


def _pattern(value: Any, operand: str, spelt: str) -> str | None:
    return None if compiled(operand).fullmatch(as_text(value)) else f"must match {spelt}"


def _size(value: Any) -> int | None:
    return len(value) if isinstance(value, str | list | dict) else None


def _length(value: Any, operand: int, _spelt: str) -> str | None:
    return None if _size(value) == operand else f"must have the length {operand}"


def _min_length(value: Any, operand: int, _spelt: str) -> str | None:
    size = _size(value)
    return None if size is not None and size >= operand else f"must have at least {operand} in it"


def _max_length(value: Any, operand: int, _spelt: str) -> str | None:
    size = _size(value)
    return None if size is not None and size <= operand else f"must have at most {operand} in it"


_CHECKS: Mapping[str, Callable[[Any, Any, str], str | None]] = {
    "equal": _equal,
    "greater_than": _ordered("greater than", lambda value, operand: value > operand),
    "greater_or_equal": _ordered("at least", lambda value, operand: value >= operand),
    "less_than": _ordered("less than", lambda value, operand: value < operand),
    "less_or_equal": _ordered("at most", lambda value, operand: value <= operand),
    "in_range": _in_range,
    "valid_values": _valid_values,
    "pattern": _pattern,
    "length": _length,
    "min_length": _min_length,
    "max_length": _max_length,
}


def compiled(pattern: str) -> Any:
    """Return the compiled regular expression.

    Raises:
        ValueError: it is too long or not one that can be matched in linear time.
    """
    if len(pattern) > PATTERN_CHARS:
        raise ValueError(f"the pattern is longer than {PATTERN_CHARS} characters")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 1 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error as exc:
        raise ValueError(
            f"the pattern {named(pattern)} is wrong, too large, or needs look-around"
        ) from exc


def violation(name: str, operand: Any, value: Any, spelt: str) -> str | None:
    """Return why `value` breaks the constraint, or ``None`` if it keeps it.

    Args:
        name: one of ``NAMES``.
        operand: the constraint's operand, typed like the value.
        value: the typed value.
        spelt: the operand as the author wrote it.
    """
    return _CHECKS[name](value, operand, spelt)
