"""Type definitions: what a node, capability, relationship, data or policy type declares.

Reads the definition sections of a document, our own vendored ones and a template's alike, into
frozen data. Inheritance is the business of its neighbour ``table``.

Source: TOSCA Simple Profile 1.3 §3.6 and §3.7.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from twinfra.orchestration.tosca.document import Problems, Tree

UNBOUNDED = 2**31

KINDS: Mapping[str, str] = {
    "node_types": "node",
    "capability_types": "capability",
    "relationship_types": "relationship",
    "artifact_types": "artifact",
    "data_types": "data",
    "interface_types": "interface",
    "policy_types": "policy",
    "group_types": "group",
}
"""The sections that define types, and what a message calls one of them."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The shape of a value: its type, its constraints, the shape of its members."""

    type: str
    constraints: tuple[Tree, ...] = ()
    entry: "Schema | None" = None


@dataclass(frozen=True, slots=True)
class PropertyDef:
    """A property, attribute or input as its type declares it."""

    name: str
    schema: Schema
    required: bool = True
    default: Tree | None = None
    description: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CapabilityDef:
    """A capability that a node type offers."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class RequirementDef:
    """A requirement that a node type has; `at_least` 0 means that it may stay open."""

    name: str
    capability: str | None = None
    node: str | None = None
    relationship: str | None = None
    at_least: int = 0
    at_most: int = UNBOUNDED


@dataclass(frozen=True, slots=True)
class TypeDef:
    """One type, with only what it declares itself until ``table`` adds its ancestors'."""

    kind: str
    name: str
    parent: str | None
    place: Tree
    properties: Mapping[str, PropertyDef] = field(default_factory=dict)
    attributes: Mapping[str, PropertyDef] = field(default_factory=dict)
    capabilities: Mapping[str, CapabilityDef] = field(default_factory=dict)
    requirements: Mapping[str, RequirementDef] = field(default_factory=dict)
    constraints: tuple[Tree, ...] = ()
    targets: tuple[str, ...] = ()


def text_of(tree: Tree | None) -> str | None:
    """Return the text of a scalar member, ``None`` if it is absent or something else."""
    return tree.value if tree is not None and isinstance(tree.value, str) else None


def flag_of(tree: Tree | None, *, default: bool) -> bool:
    """Return a boolean member, in either spelling; `default` if absent."""
    if tree is None or tree.value is None:
        return default
    return str(tree.text or tree.value).lower() in {"true", "yes", "on"}


def named_members(tree: Tree | None, problems: Problems) -> Iterator[tuple[str, Tree]]:
    """Yield what a section holds by name, be it a mapping or a list of one-entry mappings."""
    if tree is None or tree.value is None:
        return
    if tree.is_map:
        yield from tree.items()
    elif tree.is_list:
        for each in tree.value:
            if each.is_map and len(each.value) == 1:
                yield from each.items()
            else:
                problems.add(each, "each entry of this list is one name with its value")
    else:
        problems.add(tree, "this is a mapping, or a list of names with their values")


class Reader:
    """Reads definition sections; notes what is malformed and goes on."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def types(self, document: Tree) -> Iterator[TypeDef]:
        """Yield every type that a document defines."""
        for section, kind in KINDS.items():
            place = document.get(section)
            if place is not None and place.value is not None and not place.is_map:
                self._problems.add(place, f"{section} is a mapping of names to {kind} types")
                continue
            for name, body in place.items() if place else ():
                if body.is_map:
                    yield self._type(kind, name, body)
                else:
                    self._problems.add(body, f"a {kind} type is a mapping")

    def _type(self, kind: str, name: str, body: Tree) -> TypeDef:
        targets = body.get("targets") or body.get("members")
        listed = targets.value if targets is not None and targets.is_list else ()
        return TypeDef(
            kind=kind,
            name=name,
            parent=text_of(body.get("derived_from")),
            place=body,
            properties=self.properties(body.get("properties")),
            attributes=self.properties(body.get("attributes")),
            capabilities=self._capabilities(body.get("capabilities")),
            requirements=self._requirements(body.get("requirements")),
            constraints=_list(body.get("constraints")),
            targets=tuple(str(each.value) for each in listed),
        )

    def properties(self, section: Tree | None) -> dict[str, PropertyDef]:
        """Return the properties, attributes or inputs that a section declares."""
        found: dict[str, PropertyDef] = {}
        for name, body in named_members(section, self._problems):
            if not body.is_map:
                self._problems.add(body, "this declaration is a mapping with a type")
                continue
            schema = self.schema(body)
            if schema is None:
                continue
            found[name] = PropertyDef(
                name=name,
                schema=schema,
                required=flag_of(body.get("required"), default=True),
                default=_given(body.get("default")),
                description=text_of(body.get("description")) or "",
                metadata=_metadata(body.get("metadata")),
            )
        return found

    def schema(self, body: Tree) -> Schema | None:
        """Return the shape that `body` declares; an entry schema may be just a type's name."""
        if isinstance(body.value, str):
            return Schema(body.value)
        type_name = text_of(body.get("type"))
        if type_name is None:
            self._problems.add(body, "the type is missing")
            return None
        entry = body.get("entry_schema")
        return Schema(
            type=type_name,
            constraints=_list(body.get("constraints")),
            entry=self.schema(entry) if entry is not None and entry.value is not None else None,
        )

    def _capabilities(self, section: Tree | None) -> dict[str, CapabilityDef]:
        found: dict[str, CapabilityDef] = {}
        for name, body in named_members(section, self._problems):
            type_name = text_of(body) or text_of(body.get("type"))
            if type_name is None:
                self._problems.add(body, "the capability's type is missing")
            else:
                found[name] = CapabilityDef(name, type_name)
        return found

    def _requirements(self, section: Tree | None) -> dict[str, RequirementDef]:
        found: dict[str, RequirementDef] = {}
        for name, body in named_members(section, self._problems):
            if text_of(body) is not None:
                found[name] = RequirementDef(name, capability=text_of(body))
                continue
            relationship = body.get("relationship")
            low, high = self._occurrences(body.get("occurrences"))
            found[name] = RequirementDef(
                name=name,
                capability=text_of(body.get("capability")),
                node=text_of(body.get("node")),
                relationship=text_of(relationship)
                or (text_of(relationship.get("type")) if relationship else None),
                at_least=low,
                at_most=high,
            )
        return found

    def _occurrences(self, tree: Tree | None) -> tuple[int, int]:
        if tree is None:
            return 0, UNBOUNDED
        bounds = [member.value for member in tree.value] if tree.is_list else []
        if len(bounds) == 2 and isinstance(bounds[0], int):
            high = bounds[1]
            if high == "UNBOUNDED":
                return bounds[0], UNBOUNDED
            if isinstance(high, int) and high >= bounds[0]:
                return bounds[0], high
        self._problems.add(tree, "occurrences is a list such as [0, 1] or [1, UNBOUNDED]")
        return 0, UNBOUNDED


def _list(tree: Tree | None) -> tuple[Tree, ...]:
    if tree is None or tree.value is None:
        return ()
    return tuple(tree.value) if tree.is_list else (tree,)


def _given(tree: Tree | None) -> Tree | None:
    return None if tree is None or tree.value is None else tree


def _metadata(tree: Tree | None) -> Mapping[str, Any]:
    value = tree.plain() if tree is not None else None
    return value if isinstance(value, dict) else {}
