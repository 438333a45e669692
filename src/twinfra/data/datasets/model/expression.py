r"""The language that names sets of storages: ``region=eu&type=DISK\STAGING``.

Pure: text becomes a tree, the tree is asked with the storages and their attributes. Three operators
of one rank bind from left to right: ``|`` union, ``&`` intersection, ``\`` complement; parentheses
group. A term is ``*``, a name (an RSE's own, or an attribute that is true), ``key=value``,
``key<number`` or ``key>number``. There is no blank, no negation and no other comparison.

Source: Rucio's RSE expression grammar (41.5, ``rse_expression_parser``).
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from twinfra.data.datasets.errors import InvalidRseExpression

MAX_CHARS = 3000
MAX_DEPTH = 50
_TERM = re.compile(
    r"(?P<all>\*)"
    r"|(?P<key>[A-Za-z0-9._-]+)(?P<relation>[=<>])(?P<value>[A-Za-z0-9_-]+)"
    r"|(?P<name>[A-Za-z0-9]+(?:[_-][A-Za-z0-9]+)*)"
)
Attributes = Mapping[str, Any]
Storages = Mapping[str, Attributes]
Node = Callable[[Storages], frozenset[str]]


@dataclass(frozen=True, slots=True)
class Expression:
    """An expression that was understood; `text` is what was read."""

    text: str
    _node: Node

    def select(self, storages: Storages) -> frozenset[str]:
        """Return the names of the `storages` that are meant; may be none.

        Args:
            storages: attributes by RSE name; the name itself need not be among them.
        """
        return self._node(storages)


def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        InvalidRseExpression: it breaks the grammar; the message says where.
    """
    if len(text) > MAX_CHARS:
        raise InvalidRseExpression(f"the RSE expression is longer than {MAX_CHARS} characters")
    node, end = _sequence(text, 0, 0)
    if end != len(text):
        raise _fault(text, end, "an operator")
    return Expression(text, node)


def _sequence(text: str, at: int, depth: int) -> tuple[Node, int]:
    """Read terms joined by operators, the left ones first; stop before what is neither."""
    left, at = _operand(text, at, depth)
    while at < len(text) and text[at] in _OPERATORS:
        operator = _OPERATORS[text[at]]
        right, at = _operand(text, at + 1, depth)
        left = operator(left, right)
    return left, at


def _operand(text: str, at: int, depth: int) -> tuple[Node, int]:
    if text[at : at + 1] == "(":
        if depth == MAX_DEPTH:
            raise InvalidRseExpression(f"the RSE expression nests deeper than {MAX_DEPTH}")
        node, end = _sequence(text, at + 1, depth + 1)
        if text[end : end + 1] != ")":
            raise _fault(text, end, "an operator or a closing parenthesis")
        return node, end + 1
    found = _TERM.match(text, at)
    if found is None:
        raise _fault(text, at, "a storage, an attribute or an opening parenthesis")
    return _term(found), found.end()


def _term(found: re.Match[str]) -> Node:
    if found["all"]:
        return frozenset
    if found["name"]:
        name = found["name"]
        return lambda storages: _where(storages, lambda rse, facts: _named(rse, facts, name))
    key, relation, value = found["key"], found["relation"], found["value"]
    if relation == "=":
        return lambda storages: _where(storages, lambda _, facts: _equal(facts.get(key), value))
    try:
        bound = float(value)
    except ValueError as error:
        raise InvalidRseExpression(f"{found[0]!r} compares with {value!r}: no number") from error
    if relation == "<":
        return lambda storages: _where(storages, lambda _, facts: _compared(facts, key, bound) < 0)
    return lambda storages: _where(storages, lambda _, facts: _compared(facts, key, bound) > 0)


def _where(storages: Storages, fits: Callable[[str, Attributes], bool]) -> frozenset[str]:
    return frozenset(rse for rse, facts in storages.items() if fits(rse, facts))


def _named(rse: str, facts: Attributes, name: str) -> bool:
    return rse == name or _equal(facts.get(name), "True")


def _equal(value: Any, wanted: str) -> bool:
    """Compare as Rucio does: everything is text there, truth has two spellings."""
    if isinstance(value, bool):
        return wanted in ({"True", "true", "1"} if value else {"False", "false", "0"})
    if value is None:
        return False
    return str(value) == wanted


def _compared(facts: Attributes, key: str, bound: float) -> float:
    """Return how far an attribute is above `bound`; one that is no number is at neither side."""
    try:
        return float(facts[key]) - bound
    except (KeyError, TypeError, ValueError):
        return 0.0


def _fault(text: str, at: int, wanted: str) -> InvalidRseExpression:
    there = f"{text[at]!r} at character {at + 1}" if at < len(text) else "the end"
    return InvalidRseExpression(f"RSE expression {text!r}: {wanted} is expected, not {there}")


def _union(left: Node, right: Node) -> Node:
    return lambda storages: left(storages) | right(storages)


def _both(left: Node, right: Node) -> Node:
    return lambda storages: left(storages) & right(storages)


def _without(left: Node, right: Node) -> Node:
    return lambda storages: left(storages) - right(storages)


_OPERATORS: Mapping[str, Callable[[Node, Node], Node]] = {
    "|": _union,
    "&": _both,
    "\\": _without,
}


def ordered(names: Iterable[str]) -> list[str]:
    """Return `names` in the one order in which sets of storages are shown."""
    return sorted(names)
