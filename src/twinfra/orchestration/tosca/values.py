"""Values against their declared types: checked, completed with defaults, and typed.

Every fault is noted with its place and checking goes on. Functions are already replaced (see
``functions``); an expression that waits for attributes passes as it is.

Source: TOSCA Simple Profile 1.3 §3.6.9-§3.6.10.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from twinfra.orchestration.tosca import constraints
from twinfra.orchestration.tosca.definitions import PropertyDef, Schema
from twinfra.orchestration.tosca.document import Problems, Tree
from twinfra.orchestration.tosca.expressions import Expression
from twinfra.orchestration.tosca.scalars import PRIMITIVES, named
from twinfra.orchestration.tosca.table import TypeTable, nearest


class _Broken:
    """Stands where a fault was already noted, so that it is not noted again."""


BROKEN: Final = _Broken()


def hint(name: str, known: Iterable[str]) -> str:
    """Return ``; is x meant?`` if a known name is close to `name`."""
    close = nearest(name, known)
    return f"; is {close!r} meant?" if close else ""


class Values:
    """Checks values for one template."""

    def __init__(self, table: TypeTable, problems: Problems) -> None:
        self._table = table
        self._problems = problems

    def fill(
        self,
        given: Mapping[str, Tree],
        declared: Mapping[str, PropertyDef],
        at: Tree,
        evaluate: Callable[[Tree], Tree] = lambda tree: tree,
    ) -> dict[str, Any]:
        """Return every declared property that has a value, typed.

        Notes what is undeclared, what is required but missing, and what has a wrong value.
        """
        for name, extra in given.items():
            if name not in declared:
                self._problems.add(
                    extra, f"the property {name!r} is not declared{hint(name, declared)}"
                )
        values: dict[str, Any] = {}
        for name, definition in declared.items():
            tree: Tree | None = given.get(name)
            if (tree is None or tree.value is None) and definition.default is not None:
                tree = definition.default.moved(tree or at)
            if tree is not None:
                tree = evaluate(tree)
            if tree is None or tree.value is None:
                if definition.required:
                    self._problems.add(tree or at, f"the property {name!r} is required")
                continue
            values[name] = self.conform(tree, definition.schema)
        return values

    def conform(self, tree: Tree, schema: Schema) -> Any:
        """Return `tree` as a value of `schema`; what is faulty is noted and becomes ``None``."""
        self._problems.spend(tree)
        if tree.value is BROKEN or tree.value is None:
            return None
        if isinstance(tree.value, Expression):
            return tree.value
        value, ok = self._typed(tree, schema)
        if ok:
            self._constrain(tree, value, schema.constraints, Schema(schema.type, (), schema.entry))
        return value

    def free(self, tree: Tree) -> Any:
        """Return a value that has no declared type, in plain lists, mappings and scalars."""
        self._problems.spend(tree)
        if tree.is_map:
            return {key: self.free(member) for key, member in tree.items()}
        if tree.is_list:
            return [self.free(member) for member in tree.value]
        return None if tree.value is BROKEN else tree.value

    def _typed(self, tree: Tree, schema: Schema) -> tuple[Any, bool]:
        if schema.type == "list":
            return self._list(tree, schema)
        if schema.type == "map":
            return self._map(tree, schema)
        primitive = self._table.primitive(schema.type)
        if primitive is None:
            return self._complex(tree, schema.type)
        try:
            value = PRIMITIVES[primitive](tree)
        except ValueError as exc:
            self._problems.add(tree, str(exc))
            return None, False
        definition = self._table.find("data", schema.type) if schema.type != primitive else None
        if definition is not None:
            self._constrain(tree, value, definition.constraints, Schema(primitive))
        return value, True

    def _list(self, tree: Tree, schema: Schema) -> tuple[Any, bool]:
        if not tree.is_list:
            self._problems.add(tree, f"{named(tree.plain())} is not a list")
            return None, False
        if schema.entry is None:
            return self.free(tree), True
        return [self.conform(member, schema.entry) for member in tree.value], True

    def _map(self, tree: Tree, schema: Schema) -> tuple[Any, bool]:
        if not tree.is_map:
            self._problems.add(tree, f"{named(tree.plain())} is not a mapping")
            return None, False
        entry = schema.entry
        if entry is None:
            return self.free(tree), True
        return {key: self.conform(member, entry) for key, member in tree.items()}, True

    def _complex(self, tree: Tree, type_name: str) -> tuple[Any, bool]:
        definition = self._table.find("data", type_name)
        if definition is None:
            self._problems.add(tree, self._table.unknown("data", type_name))
            return None, False
        if not tree.is_map:
            self._problems.add(tree, f"{named(tree.plain())} is not a mapping ({definition.name})")
            return None, False
        if not definition.properties:
            return self.free(tree), True
        return self.fill(dict(tree.items()), definition.properties, tree), True

    def _constrain(self, tree: Tree, value: Any, clauses: Iterable[Tree], schema: Schema) -> None:
        for clause in clauses:
            for name, operand in clause.items():
                self._clause(tree, value, name, operand, schema)

    def _clause(self, tree: Tree, value: Any, name: str, operand: Tree, schema: Schema) -> None:
        if name == "schema":
            self._problems.warn(operand, "schema constraints have no effect here")
            return
        if name not in constraints.NAMES:
            self._problems.add(operand, f"{name!r} is no constraint{hint(name, constraints.NAMES)}")
            return
        before = len(self._problems.found)
        typed = self._operand(name, operand, schema)
        if len(self._problems.found) > before:
            return
        ends = value if self._table.primitive(schema.type) == "range" else [value]
        for each in ends:
            if each is None or isinstance(each, Expression):
                continue
            broken = constraints.violation(name, typed, each, spelt(operand))
            if broken is not None:
                self._problems.add(tree, f"{_shown(tree)} {broken}")
                return

    def _operand(self, name: str, operand: Tree, schema: Schema) -> Any:
        if name in constraints.LENGTHS:
            return self.conform(operand, Schema("integer"))
        if name == "pattern":
            return self._pattern(operand)
        if self._table.primitive(schema.type) == "range":
            schema = Schema("float")
        if name not in {"in_range", "valid_values"}:
            return self.conform(operand, schema)
        members = operand.value if operand.is_list else None
        if members is None or (name == "in_range" and len(members) != 2):
            self._problems.add(operand, f"{name} wants a list" + " of two" * (name == "in_range"))
            return None
        if name == "valid_values":
            return [self.conform(member, schema) for member in members]
        return [
            None if member.value == "UNBOUNDED" else self.conform(member, schema)
            for member in members
        ]

    def _pattern(self, operand: Tree) -> Any:
        try:
            constraints.compiled(str(operand.value))
        except ValueError as exc:
            self._problems.add(operand, str(exc))
        return operand.value


def spelt(operand: Tree) -> str:
    """Return an operand as its author wrote it, for a message."""
    if operand.is_list:
        return "[" + ", ".join(spelt(member) for member in operand.value[:20]) + "]"
    return operand.text if operand.text is not None else named(operand.plain())


def _shown(tree: Tree) -> str:
    if tree.is_list or tree.is_map:
        return "it"
    bare = tree.text is not None and not isinstance(tree.value, str)
    return str(tree.text) if bare else named(tree.value)
