"""TOSCA's functions in a template, replaced by what they give.

``get_input``, ``get_property``, ``concat``, ``join`` and ``token`` give values now;
``get_attribute``, and whatever is built on it, becomes an expression. What an input supplies is
never read as a function. Its neighbour ``nodes`` says how nodes hang together.

Source: TOSCA Simple Profile 1.3 §4.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from twinfra.orchestration.tosca.definitions import text_of
from twinfra.orchestration.tosca.document import Problems, Tree
from twinfra.orchestration.tosca.drafts import Draft, Drafts
from twinfra.orchestration.tosca.expressions import (
    PENDING,
    Concat,
    Expression,
    GetAttribute,
    Join,
    Pick,
    Token,
    resolve,
)
from twinfra.orchestration.tosca.values import BROKEN, hint

_DEPTH = 90
_WEIGHT = 10_000
_NOT_OFFERED = {"get_operation_output", "get_nodes_of_type", "get_artifact"}
_TEXT_MAKERS = {"concat", "join", "token"}


@dataclass(frozen=True, slots=True)
class Where:
    """The node, and in a relationship the two ends, that ``SELF`` and its like mean."""

    node: str | None = None
    source: str | None = None
    target: str | None = None


NOWHERE = Where()


def call_in(tree: Tree) -> tuple[str, Tree] | None:
    """Return the function and its argument if `tree` is a call.

    A mapping with the one key ``token`` (say, of a credential) is a call only with a list.
    """
    if not tree.is_map or len(tree.value) != 1:
        return None
    name, argument = next(tree.items())
    if name in _TEXT_MAKERS:
        return (name, argument) if argument.is_list else None
    known = {"get_input", "get_property", "get_attribute", *_NOT_OFFERED}
    return (name, argument) if name in known else None


class Functions:
    """Evaluates the functions of one template."""

    def __init__(self, drafts: Drafts, inputs: Mapping[str, Tree], problems: Problems) -> None:
        self._drafts = drafts
        self._inputs = inputs
        self._problems = problems
        self._depth = 0
        self._open: set[tuple[str, ...]] = set()
        self._done: dict[tuple[str, ...], Tree] = {}
        self._calls: Mapping[str, Callable[[Tree, Where], Tree]] = {
            "get_input": self._get_input,
            "get_property": self._get_property,
            "get_attribute": self._get_attribute,
            "concat": self._concat,
            "join": self._join,
            "token": self._token,
        }

    def evaluate(self, tree: Tree, where: Where = NOWHERE) -> Tree:
        """Return `tree` with every function replaced; a faulty one is noted and left out."""
        self._problems.spend(tree)
        if self._depth >= _DEPTH:
            return self._fault(tree, "functions and properties refer too deep into each other")
        self._depth += 1
        try:
            call = call_in(tree)
            if call is not None:
                name, argument = call
                if name in _NOT_OFFERED:
                    return self._fault(tree, f"the function {name} is not offered here")
                return self._calls[name](replace(argument, line=tree.line), where).moved(tree)
            if tree.is_map:
                members = {key: self.evaluate(each, where) for key, each in tree.items()}
                return replace(tree, value=members)
            if tree.is_list:
                return replace(tree, value=[self.evaluate(each, where) for each in tree.value])
            return tree
        finally:
            self._depth -= 1

    def _fault(self, at: Tree, message: str) -> Tree:
        self._problems.add(at, message)
        return at.like(BROKEN)

    def _get_input(self, argument: Tree, _where: Where) -> Tree:
        path = _path(argument)
        if not path:
            return self._fault(argument, "get_input wants the name of an input")
        name = str(path[0])
        if name not in self._inputs:
            return self._fault(argument, f"there is no input {name!r}{hint(name, self._inputs)}")
        return self._follow(self._inputs[name], path[1:], argument)

    def _get_property(self, argument: Tree, where: Where) -> Tree:
        path = _path(argument)
        if len(path) < 2:
            return self._fault(argument, "get_property wants a node and the name of a property")
        return self._walk(argument, path, where, self._property_of)

    def _get_attribute(self, argument: Tree, where: Where) -> Tree:
        path = _path(argument)
        if len(path) < 2:
            return self._fault(argument, "get_attribute wants a node and the name of an attribute")
        return self._walk(argument, path, where, self._attribute_of)

    def _walk(
        self,
        at: Tree,
        path: Sequence[str | int],
        where: Where,
        look: Callable[[Draft, Sequence[str | int], Tree], Tree | None],
    ) -> Tree:
        """Look at the node that the first step names; for ``HOST`` at each host upwards."""
        candidates = self._entities(str(path[0]), where)
        if candidates is None:
            return self._fault(at, f"{path[0]} has no meaning here")
        for draft in candidates:
            found = look(draft, path[1:], at)
            if found is not None:
                return found
        if not candidates:
            if path[0] == "HOST":
                return self._fault(at, f"the node {where.node!r} has no host")
            names = self._drafts.nodes
            return self._fault(at, f"there is no node {path[0]!r}{hint(str(path[0]), names)}")
        kind = "property" if look == self._property_of else "attribute"
        first = candidates[0]
        return self._fault(at, f"{first.name!r} ({first.type.name}) has no {kind} {path[1]!r}")

    def _entities(self, name: str, where: Where) -> list[Draft] | None:
        nodes = self._drafts.nodes
        named = {"SELF": where.node, "SOURCE": where.source, "TARGET": where.target}
        if name in named or name == "HOST":
            node = where.node if name == "HOST" else named[name]
            if node is None:
                return None
            if name == "HOST":
                return self._drafts.hosts(node)
            return [nodes[node]] if node in nodes else []
        return [nodes[name]] if name in nodes else []

    def _property_of(self, draft: Draft, path: Sequence[str | int], at: Tree) -> Tree | None:
        name = str(path[0])
        if name in draft.type.properties:
            return self._follow(self.property_value(draft, name), path[1:], at)
        if len(path) > 1 and name in draft.capabilities:
            return self._capability_property(draft, name, path[1:], at)
        for link in draft.links:
            target = self._drafts.nodes.get(link.target)
            if len(path) > 1 and link.name == name and target is not None:
                direct = str(path[1]) in target.type.properties
                if direct:
                    return self._property_of(target, path[1:], at)
                for offered in (link.capability, *target.capabilities):
                    found = self._capability_property(target, offered or "", path[1:], at)
                    if found is not None:
                        return found
        return None

    def _capability_property(
        self, draft: Draft, capability: str, path: Sequence[str | int], at: Tree
    ) -> Tree | None:
        offered = draft.capabilities.get(capability)
        definition = offered.type.properties.get(str(path[0])) if offered else None
        if offered is None or definition is None:
            return None
        given = offered.given.get(definition.name) or definition.default
        key = (draft.name, capability, definition.name)
        return self._follow(self._once(key, given, draft, at), path[1:], at)

    def property_value(self, draft: Draft, name: str) -> Tree:
        """Return the value of a node's property, evaluated once; null if it has none."""
        given = draft.given.get(name)
        if given is None or given.value is None:
            default = draft.type.properties[name].default
            given = default.moved(given or draft.place) if default is not None else given
        return self._once((draft.name, name), given, draft, draft.place)

    def _once(self, key: tuple[str, ...], given: Tree | None, draft: Draft, at: Tree) -> Tree:
        if given is None:
            return at.like(None)
        if key not in self._done:
            if key in self._open:
                return self._fault(given, f"the property {'.'.join(key)} depends on itself")
            self._open.add(key)
            try:
                self._done[key] = self.evaluate(given, Where(node=draft.name))
            finally:
                self._open.discard(key)
        return self._done[key]

    def _attribute_of(self, draft: Draft, path: Sequence[str | int], at: Tree) -> Tree | None:
        name = str(path[0])
        if name in draft.type.attributes:
            return at.like(GetAttribute(draft.name, tuple(path)))
        offered = draft.capabilities.get(name)
        if offered is not None and len(path) > 1 and str(path[1]) in offered.type.attributes:
            return at.like(GetAttribute(draft.name, tuple(path)))
        for link in draft.links:
            target = self._drafts.nodes.get(link.target)
            if link.name == name and len(path) > 1 and target is not None:
                found = self._attribute_of(target, path[1:], at)
                if found is not None:
                    return found
        return self._property_of(draft, path, at)  # properties are reflected as attributes

    def _concat(self, argument: Tree, where: Where) -> Tree:
        parts = [self.evaluate(each, where) for each in argument.value]
        return self._text(argument, parts, Concat(tuple(_part(each) for each in parts)))

    def _join(self, argument: Tree, where: Where) -> Tree:
        members = argument.value
        delimiter = members[1].value if len(members) == 2 else ""
        if not 1 <= len(members) <= 2 or not isinstance(delimiter, str):
            return self._fault(argument, "join wants a list of parts, and a delimiter")
        parts = self.evaluate(members[0], where)
        return self._text(argument, [parts], Join(_part(parts), delimiter))

    def _token(self, argument: Tree, where: Where) -> Tree:
        members = argument.value
        separators = text_of(members[1]) if len(members) == 3 else None
        index = members[2].value if len(members) == 3 else None
        if not separators or not isinstance(index, int) or isinstance(index, bool):
            return self._fault(argument, "token wants a text, its separators and an index from 0")
        text = self.evaluate(members[0], where)
        made = self._text(argument, [text], Token(_part(text), separators, index))
        if made.value is PENDING:
            return self._fault(argument, f"the text has no part {index} between {separators!r}")
        return made

    def _text(self, at: Tree, parts: Sequence[Tree], expression: Expression) -> Tree:
        """Return the text that `expression` makes, or the expression if a part must wait."""
        if any(_holds(each, BROKEN) for each in parts):
            return at.like(BROKEN)
        weight = 1 + sum(_weight(each) for each in parts)
        depth = 1 + max((_nesting(each) for each in parts), default=0)
        if weight > _WEIGHT or depth > _DEPTH:
            return self._fault(at, "this text is put together from too many parts")
        value = resolve(expression, {})
        if value is PENDING and any(_nesting(each) for each in parts):
            return replace(at.like(expression), weight=weight, depth=depth)
        if isinstance(value, str):
            if len(value) > self._problems.limits.text_chars:
                return self._fault(at, "this text grows too long")
            self._problems.spend(at, len(value) // 64)
        return at.like(value)

    def _follow(self, tree: Tree, path: Sequence[str | int], at: Tree) -> Tree:
        for index, step in enumerate(path):
            if isinstance(tree.value, Expression):
                deeper = Pick(tree.value, tuple(path[index:]))
                return replace(at.like(deeper), weight=tree.weight + 1, depth=tree.depth + 1)
            if tree.value is BROKEN:
                return tree
            is_index = isinstance(step, int) and tree.is_list
            if is_index and 0 <= int(step) < len(tree.value):
                tree = tree.value[step]
            elif tree.is_map and str(step) in tree.value:
                tree = tree.value[str(step)]
            else:
                return self._fault(at, f"there is nothing at {step!r} in that value")
        return tree


def _path(argument: Tree) -> list[str | int]:
    members = argument.value if argument.is_list else [argument]
    steps = [each.value for each in members]
    usable = all(isinstance(step, str | int) and not isinstance(step, bool) for step in steps)
    return steps if usable else []


def _part(tree: Tree) -> Any:
    if tree.is_list:
        return [_part(each) for each in tree.value]
    if tree.is_map:
        return {key: _part(each) for key, each in tree.items()}
    return tree.text if tree.text is not None and tree.value is not None else tree.value


def _holds(tree: Tree, marker: Any) -> bool:
    if tree.is_list:
        return any(_holds(each, marker) for each in tree.value)
    return tree.value is marker


def _weight(tree: Tree) -> int:
    return sum(_weight(each) for each in tree.value) if tree.is_list else tree.weight


def _nesting(tree: Tree) -> int:
    """Return how deep the expressions in `tree` nest; 0 if there are none."""
    if tree.is_list:
        return max((_nesting(each) for each in tree.value), default=0)
    if isinstance(tree.value, Expression):
        return max(tree.depth, 1)
    return 0
