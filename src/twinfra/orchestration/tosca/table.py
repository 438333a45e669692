"""The type table: every known type by name, with what it inherits.

Holds the vendored types (``types/*.yaml``) and, above them, those that one template defines.
Imports are never fetched: a template may name a vendored file, nothing else.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from twinfra.orchestration.tosca.definitions import Reader, TypeDef
from twinfra.orchestration.tosca.document import Problems, Tree, load
from twinfra.orchestration.tosca.model import Limits
from twinfra.orchestration.tosca.scalars import PRIMITIVES

_VENDORED = ("normative", "software", "indigo", "indigo_apps", "twinfra")
_PLURALS = {
    "node": "nodes",
    "capability": "capabilities",
    "relationship": "relationships",
    "artifact": "artifacts",
    "data": "datatypes",
    "interface": "interfaces",
    "policy": "policies",
    "group": "groups",
}
_DEPTH = 30
_HINT_CHARS, _HINT_NAMES = 100, 300


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name closest to `name`, if one is close; the search is bounded."""
    names = sorted(known)
    if len(name) > _HINT_CHARS or len(names) > _HINT_NAMES:
        return None
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.72)
    return close[0] if close else None


class TypeTable:
    """Types by kind and name; looks up aliases and short names, resolves inheritance once."""

    def __init__(
        self, types: Mapping[tuple[str, str], TypeDef], aliases: Mapping[str, str]
    ) -> None:
        self._types = dict(types)
        self._aliases = dict(aliases)
        self._resolved: dict[tuple[str, str], TypeDef] = {}
        self._chains: dict[tuple[str, str], tuple[str, ...]] = {}

    def extended(self, types: list[TypeDef]) -> "TypeTable":
        """Return a table that also knows `types`."""
        added = {(each.kind, each.name): each for each in types}
        return TypeTable({**self._types, **added}, self._aliases)

    def canonical(self, kind: str, name: str) -> str | None:
        """Return the full, current name of a type; ``None`` if it is unknown.

        An alias, the short name (``Compute``), and the prefix ``tosca:`` are understood.
        """
        bare = name.removeprefix("tosca:")
        for candidate in (bare, f"tosca.{_PLURALS[kind]}.{bare}"):
            known = self._aliases.get(candidate, candidate)
            if (kind, candidate) in self._types:
                return candidate
            if (kind, known) in self._types:
                return known
        return None

    def find(self, kind: str, name: str) -> TypeDef | None:
        """Return a type with all that it inherits; ``None`` if it is unknown."""
        known = self.canonical(kind, name)
        return self._resolve((kind, known)) if known is not None else None

    def names(self, kind: str) -> list[str]:
        """Return the full names of all types of a kind."""
        return [name for of_kind, name in self._types if of_kind == kind]

    def chain(self, kind: str, name: str) -> tuple[str, ...]:
        """Return a type's name and its ancestors', the root last; empty if it is unknown."""
        known = self.canonical(kind, name)
        if known is None:
            return ()
        if (kind, known) not in self._chains:
            names = [known]
            while len(names) < _DEPTH:
                parent = self._types[kind, names[-1]].parent
                above = self.canonical(kind, parent) if parent else None
                if above is None or above in names:
                    break
                names.append(above)
            self._chains[kind, known] = tuple(names)
        return self._chains[kind, known]

    def primitive(self, name: str) -> str | None:
        """Return the primitive type that a data type is or derives from, if any."""
        if name in PRIMITIVES or name in {"list", "map"}:
            return name
        chain = self.chain("data", name)
        parent = self._types["data", chain[-1]].parent if chain else None
        return parent if parent in PRIMITIVES else None

    def is_a(self, kind: str, name: str, ancestor: str) -> bool:
        """Say whether type `name` is `ancestor` or derives from it."""
        return (self.canonical(kind, ancestor) or ancestor) in self.chain(kind, name)

    def unknown(self, kind: str, name: str) -> str:
        """Return the message for a type that is not known, with the nearest known name."""
        close = nearest(name, self.names(kind))
        hint = f"; is {close} meant?" if close else ""
        return f"the {kind} type {name!r} is unknown{hint}"

    def _resolve(self, key: tuple[str, str]) -> TypeDef:
        if key not in self._resolved:
            kind, name = key
            whole = self._types[key]
            for ancestor in self.chain(kind, name)[1:]:
                above = self._types[kind, ancestor]
                whole = replace(
                    whole,
                    properties={**above.properties, **whole.properties},
                    attributes={**above.attributes, **whole.attributes},
                    capabilities={**above.capabilities, **whole.capabilities},
                    requirements={**above.requirements, **whole.requirements},
                    constraints=(*above.constraints, *whole.constraints),
                    targets=whole.targets or above.targets,
                )
            self._resolved[key] = whole
        return self._resolved[key]

    def check(self, types: list[TypeDef], problems: Problems) -> None:
        """Note every type in `types` whose ancestors or referred types do not exist."""
        for each in types:
            self._check_parents(each, problems)
            for definition in (*each.properties.values(), *each.attributes.values()):
                self._check_schema(definition.schema, each.place, problems)
            for capability in each.capabilities.values():
                self._expect("capability", capability.type, each.place, problems)
            for requirement in each.requirements.values():
                self._expect("node", requirement.node, each.place, problems)
                self._expect("relationship", requirement.relationship, each.place, problems)
                self._expect("capability", requirement.capability, each.place, problems)

    def _check_parents(self, each: TypeDef, problems: Problems) -> None:
        primitive = each.kind == "data" and each.parent in (*PRIMITIVES, "list", "map")
        if each.parent is None or primitive:
            return
        if self.canonical(each.kind, each.parent) is None:
            problems.add(each.place, self.unknown(each.kind, each.parent))
        root = self._types[each.kind, self.chain(each.kind, each.name)[-1]]
        if root.parent is not None and self.canonical(each.kind, root.parent) is not None:
            problems.add(each.place, f"the type {each.name!r} derives from itself")

    def _check_schema(self, schema: Any, at: Tree, problems: Problems) -> None:
        while schema is not None:
            if schema.type not in (*PRIMITIVES, "list", "map"):
                self._expect("data", schema.type, at, problems)
            schema = schema.entry

    def _expect(self, kind: str, name: str | None, at: Tree, problems: Problems) -> None:
        if name is not None and self.canonical(kind, name) is None:
            problems.add(at, self.unknown(kind, name))


@cache
def vendored() -> TypeTable:
    """Return the table of the types that ship with twinfra.

    Raises:
        TemplateErrors: a shipped file is broken, which is our bug.
    """
    problems = Problems(Limits())
    types: list[TypeDef] = []
    aliases: dict[str, str] = {}
    for name in _VENDORED:
        file = resources.files(__package__).joinpath("types", f"{name}.yaml")
        document = load(file.read_text(encoding="utf-8"), Limits())
        types.extend(Reader(problems).types(document))
        aliases.update((document.get("aliases") or Tree({})).plain())
    table = TypeTable({(each.kind, each.name): each for each in types}, aliases)
    table.check(types, problems)
    problems.raise_any()
    return table


def template_types(document: Tree, problems: Problems) -> TypeTable:
    """Return the vendored table with the types that a template defines itself."""
    types = list(Reader(problems).types(document))
    if not types:
        return vendored()
    base = vendored()
    for each in types:
        if base.canonical(each.kind, each.name) != each.name:
            continue
        if ".twinfra." in each.name:
            problems.add(each.place, f"{each.name!r} is ours and cannot be defined anew")
        problems.warn(each.place, f"the template's own definition of {each.name!r} counts")
    table = base.extended(types)
    table.check(types, problems)
    return table
