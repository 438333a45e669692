"""YAML as a tree that remembers where each value stands; hostile documents are refused here.

Reads text only: no files, no includes, no tags beyond the plain YAML ones. Scalars follow the YAML
1.2 core schema (``no`` is text, ``010`` is ten) and keep their spelling, so that a version ``1.20``
does not become 1.2. Its neighbour ``parse`` gives the tree a meaning.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from twinfra.core.errors import shorten
from twinfra.orchestration.tosca.errors import TemplateErrors, TemplateProblem
from twinfra.orchestration.tosca.model import Limits

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = yaml.resolver.Resolver()
_TAG = "tag:yaml.org,2002:"
_TAGS = {
    _TAG + name
    for name in ("str", "int", "float", "bool", "null", "map", "seq", "timestamp", "value")
}
_NULLS = {"", "~", "null", "Null", "NULL"}
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]{1,30}")
_BASED = re.compile(r"0x[0-9a-fA-F]{1,24}|0o[0-7]{1,32}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]{1,30}|[0-9]{1,30}(?:\.[0-9]{0,30})?)(?:[eE][-+]?[0-9]{1,3})?")


@dataclass(frozen=True, slots=True)
class Tree:
    """A value and its place.

    Attributes:
        value: a scalar, a list of trees, a mapping of trees by key, or an expression.
        line: line, from 1, of the key (of the value where there is no key); 0 outside a document.
        column: column, likewise.
        path: dotted way from the root.
        text: the scalar's own spelling when it was written plain, without quotes.
        weight: how much an expression holds; 1 for anything else.
        depth: how deep an expression nests; 0 for anything else.
    """

    value: Any
    line: int = 0
    column: int = 0
    path: str = ""
    text: str | None = None
    weight: int = 1
    depth: int = 0

    @property
    def is_map(self) -> bool:
        """Say whether this is a mapping."""
        return isinstance(self.value, dict)

    @property
    def is_list(self) -> bool:
        """Say whether this is a list."""
        return isinstance(self.value, list)

    def get(self, key: str) -> "Tree | None":
        """Return the member of a mapping; ``None`` if it is absent or this is no mapping."""
        member: Tree | None = self.value.get(key) if isinstance(self.value, dict) else None
        return member

    def items(self) -> Iterator[tuple[str, "Tree"]]:
        """Yield the members of a mapping; nothing for anything else."""
        if isinstance(self.value, dict):
            yield from self.value.items()

    def plain(self) -> Any:
        """Return the value without its places."""
        if isinstance(self.value, dict):
            return {key: member.plain() for key, member in self.value.items()}
        if isinstance(self.value, list):
            return [member.plain() for member in self.value]
        return self.value

    def like(self, value: Any) -> "Tree":
        """Return a tree of `value`, a plain one, standing at this place."""
        at = replace(self, text=None, weight=1, depth=0)
        if isinstance(value, Mapping):
            members = {str(key): at.like(member) for key, member in value.items()}
            return replace(at, value=members)
        if isinstance(value, list | tuple):
            return replace(at, value=[at.like(member) for member in value])
        return replace(at, value=value)

    def moved(self, at: "Tree") -> "Tree":
        """Return this value as if it were written at `at`."""
        return replace(self, line=at.line, column=at.column, path=at.path)


class TooManyProblemsError(Exception):
    """The checker gives up; what it found so far is enough."""


class Problems:
    """Collects faults and warnings while a document is checked."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.found: list[TemplateProblem] = []
        self.warnings: list[TemplateProblem] = []
        self._spent = 0

    def add(self, at: Tree, message: str) -> None:
        """Note a fault at `at`.

        Raises:
            TooManyProblemsError: there are as many faults as the limits allow.
        """
        self.found.append(TemplateProblem(at.line, at.column, at.path, message))
        if len(self.found) >= self.limits.problem_count:
            raise TooManyProblemsError

    def warn(self, at: Tree, message: str) -> None:
        """Note something that has no effect."""
        self.warnings.append(TemplateProblem(at.line, at.column, at.path, message))

    def spend(self, at: Tree, count: int = 1) -> None:
        """Count work done for this document; functions may not multiply it without end.

        Raises:
            TooManyProblemsError: more is asked than ten times the values that are allowed.
        """
        self._spent += count
        if self._spent > 10 * self.limits.value_count:
            self.add(at, "the functions of this template make too much of it")
            raise TooManyProblemsError

    def raise_any(self) -> None:
        """Raise what was found.

        Raises:
            TemplateErrors: something was found.
        """
        if self.found:
            raise TemplateErrors(self.found)


def scalar(text: str) -> Any:
    """Return what a plain scalar means.

    Source: YAML 1.2.2 §10.3.2 (core schema), without infinities and NaN: TOSCA has no use for them.
    """
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _BASED.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


def load(text: str, limits: Limits) -> Tree:
    """Read one YAML document.

    Raises:
        TemplateErrors: it is no YAML, no single document, or beyond the limits.
    """
    problems = Problems(limits)
    try:
        size = len(text.encode())
        if size > limits.document_bytes:
            raise _refusal(None, f"{size} bytes are more than the {limits.document_bytes} allowed")
        _measure(text, limits)
        loader = _LOADER(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except UnicodeEncodeError as exc:
        raise _refusal(None, "the text holds half a surrogate pair") from exc
    except yaml.YAMLError as exc:
        raise _yaml_refusal(exc) from exc
    if root is None:
        raise _refusal(None, "the document is empty")
    tree = _Grower(problems).grow(root, "", None)
    problems.raise_any()
    return tree


def _measure(text: str, limits: Limits) -> None:
    """Walk the events first: composing recurses, and must not meet a bottomless document."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            depth += 1
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            depth -= 1
        if depth > limits.nesting_depth:
            raise _refusal(event.start_mark, f"more than {limits.nesting_depth} levels are nested")
        if count > 3 * limits.value_count:
            raise _refusal(event.start_mark, f"more than {limits.value_count} values")


def _refusal(mark: Any, message: str) -> TemplateErrors:
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    return TemplateErrors([TemplateProblem(line, column, "", message)])


def _yaml_refusal(exc: yaml.YAMLError) -> TemplateErrors:
    mark = getattr(exc, "problem_mark", None) or getattr(exc, "context_mark", None)
    problem = getattr(exc, "problem", None) or getattr(exc, "reason", None) or "it cannot be read"
    return _refusal(mark, f"not valid YAML: {shorten(str(problem))}")


class _Grower:
    """Turns composed nodes into trees; follows aliases at most as far as the limits go."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems
        self._count = 0
        self._open: set[int] = set()

    def grow(self, node: Any, path: str, key: Any) -> Tree:
        limits = self._problems.limits
        self._count += 1
        mark = (key or node).start_mark
        if self._count > limits.value_count:
            raise _refusal(mark, f"more than {limits.value_count} values once aliases are followed")
        at = Tree(None, mark.line + 1, mark.column + 1, path)
        if node.tag not in _TAGS:
            self._problems.add(at, f"the tag {shorten(node.tag, 60)} is not accepted")
            return at
        if isinstance(node, yaml.ScalarNode):
            return _leaf(node, at)
        if id(node) in self._open or len(self._open) > limits.nesting_depth:
            raise _refusal(mark, "an alias stands inside its own anchor, or nests too deep")
        self._open.add(id(node))
        try:
            value = self._map(node, at) if node.id == "mapping" else self._list(node, at)
        finally:
            self._open.discard(id(node))
        return replace(at, value=value)

    def _list(self, node: Any, at: Tree) -> list[Tree]:
        return [self.grow(m, f"{at.path}[{i}]", None) for i, m in enumerate(node.value)]

    def _map(self, node: Any, at: Tree) -> dict[str, Tree]:
        members: dict[str, Tree] = {}
        merged: dict[str, Tree] = {}
        for key, value in node.value:
            place = replace(at, line=key.start_mark.line + 1, column=key.start_mark.column + 1)
            if not isinstance(key, yaml.ScalarNode):
                self._problems.add(place, "a key is a list or mapping; it must be text")
                continue
            if key.value == "<<" and not key.style:
                merged = {**self._merge(value, at, key), **merged}
                continue
            member = self.grow(value, f"{at.path}.{key.value}".lstrip("."), key)
            if key.value in members:
                self._problems.add(member, f"the key {key.value!r} stands here twice")
            members[key.value] = member
        return {**merged, **members}

    def _merge(self, node: Any, at: Tree, key: Any) -> dict[str, Tree]:
        sources = node.value if isinstance(node, yaml.SequenceNode) else [node]
        merged: dict[str, Tree] = {}
        for source in sources:
            tree = self.grow(source, at.path, key)
            if not tree.is_map:
                self._problems.add(tree, "<< merges mappings only")
            for name, member in tree.items():
                merged.setdefault(name, member)
        return merged


def _leaf(node: Any, at: Tree) -> Tree:
    if node.style:  # quoted or a block, hence text
        return replace(at, value=node.value)
    old_rules = _RESOLVER.resolve(yaml.ScalarNode, node.value, (True, False))
    if node.tag == _TAG + "str" and old_rules != _TAG + "str":
        return replace(at, value=node.value)  # the author wrote !!str
    return replace(at, value=scalar(node.value), text=node.value)
