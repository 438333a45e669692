"""Nodes on their way into a plan: read, tied together, not yet evaluated.

Its neighbours: ``nodes`` fills drafts from the template, ``functions`` looks things up in them,
``planner`` makes plan nodes of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from twinfra.orchestration.tosca.definitions import TypeDef
from twinfra.orchestration.tosca.document import Tree


@dataclass(frozen=True, slots=True)
class Link:
    """A requirement tied to the node that fulfils it."""

    name: str
    target: str
    relationship: str
    capability: str | None
    place: Tree
    given: Mapping[str, Tree] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CapabilityDraft:
    """A capability of a node: its type, and what the template sets."""

    name: str
    type: TypeDef
    given: Mapping[str, Tree] = field(default_factory=dict)


@dataclass(slots=True)
class Draft:
    """A node template, read."""

    name: str
    type: TypeDef
    chain: tuple[str, ...]
    place: Tree
    given: Mapping[str, Tree]
    capabilities: Mapping[str, CapabilityDraft]
    links: list[Link] = field(default_factory=list)


@dataclass(slots=True)
class Drafts:
    """All nodes of a template, by name."""

    nodes: dict[str, Draft] = field(default_factory=dict)
    hosting: frozenset[str] = frozenset()

    def hosts(self, node: str) -> list[Draft]:
        """Return what `node` stands on, the nearest first, along ``HostedOn``."""
        found: list[Draft] = []
        seen = {node}
        current = self.nodes.get(node)
        while current is not None:
            below = next((li.target for li in current.links if li.relationship in self.hosting), "")
            if below in seen or below not in self.nodes:
                break
            seen.add(below)
            current = self.nodes[below]
            found.append(current)
        return found
