"""Node templates read into drafts, and their requirements tied to other nodes.

Notes unknown types, keys and capabilities, requirements without a fitting target, and cycles.
Its neighbour ``planner`` evaluates the drafts.

Source: TOSCA Simple Profile 1.3 §3.8.2-§3.8.3.
"""

import heapq
from collections.abc import Iterable

from twinfra.orchestration.tosca.definitions import (
    UNBOUNDED,
    RequirementDef,
    named_members,
    text_of,
)
from twinfra.orchestration.tosca.document import Problems, Tree
from twinfra.orchestration.tosca.drafts import CapabilityDraft, Draft, Drafts, Link
from twinfra.orchestration.tosca.table import TypeTable
from twinfra.orchestration.tosca.values import hint

HOSTED_ON = "tosca.relationships.HostedOn"
DEPENDS_ON = "tosca.relationships.DependsOn"

_RING_SHOWN = 12
_NODE_KEYS = {
    "type",
    "description",
    "metadata",
    "directives",
    "properties",
    "attributes",
    "requirements",
    "capabilities",
    "interfaces",
    "artifacts",
}
_REQUIREMENT_KEYS = {"node", "capability", "relationship", "occurrences", "description", "metadata"}


def expect_keys(tree: Tree, known: Iterable[str], problems: Problems) -> None:
    """Note every key of a mapping that is not known."""
    allowed = set(known)
    for key, member in tree.items():
        if key not in allowed:
            problems.add(member, f"{key!r} has no meaning here{hint(key, allowed)}")


def section(tree: Tree, key: str, problems: Problems) -> dict[str, Tree]:
    """Return a section that is a mapping; empty if it is absent."""
    member = tree.get(key)
    if member is None or member.value is None:
        return {}
    if not member.is_map:
        problems.add(member, f"{key} is a mapping")
        return {}
    return dict(member.items())


class NodeReader:
    """Reads the node templates of one topology."""

    def __init__(self, table: TypeTable, problems: Problems, relationships: Tree | None) -> None:
        self._table = table
        self._problems = problems
        self._relationships = dict(relationships.items()) if relationships else {}

    def read(self, templates: Tree | None) -> Drafts:
        """Return the drafts of all node templates whose type is known, tied together."""
        drafts = Drafts(hosting=self._hosting())
        bodies: dict[str, Tree] = {}
        if templates is not None and templates.value is not None and not templates.is_map:
            self._problems.add(templates, "node_templates is a mapping")
        for name, body in templates.items() if templates else ():
            draft = self._draft(name, body)
            bodies[name] = body
            if draft is not None:
                drafts.nodes[name] = draft
        for draft in drafts.nodes.values():
            self._tie(draft, drafts, bodies)
        return drafts

    def _hosting(self) -> frozenset[str]:
        names = self._table.names("relationship")
        return frozenset(n for n in names if self._table.is_a("relationship", n, HOSTED_ON))

    def _draft(self, name: str, body: Tree) -> Draft | None:
        if not body.is_map:
            self._problems.add(body, "a node template is a mapping with a type")
            return None
        expect_keys(body, _NODE_KEYS, self._problems)
        type_tree = body.get("type")
        type_name = text_of(type_tree)
        if type_tree is None or type_name is None:
            self._problems.add(type_tree or body, f"the type of {name!r} is missing")
            return None
        definition = self._table.find("node", type_name)
        if definition is None:
            self._problems.add(type_tree, self._table.unknown("node", type_name))
            return None
        draft = Draft(
            name=name,
            type=definition,
            chain=self._table.chain("node", type_name),
            place=body,
            given=section(body, "properties", self._problems),
            capabilities={},
        )
        draft.capabilities = self._capabilities(draft)
        return draft

    def _capabilities(self, draft: Draft) -> dict[str, CapabilityDraft]:
        given = section(draft.place, "capabilities", self._problems)
        for name, extra in given.items():
            if name not in draft.type.capabilities:
                known = hint(name, draft.type.capabilities)
                self._problems.add(extra, f"{draft.type.name} has no capability {name!r}{known}")
        found: dict[str, CapabilityDraft] = {}
        for name, definition in draft.type.capabilities.items():
            type_def = self._table.find("capability", definition.type)
            if type_def is None:
                continue  # noted when the type table was checked
            body = given.get(name)
            properties = section(body, "properties", self._problems) if body else {}
            if body is not None:
                keys = {"properties", "attributes", "occurrences", "description"}
                expect_keys(body, keys, self._problems)
            found[name] = CapabilityDraft(name, type_def, properties)
        return found

    def _tie(self, draft: Draft, drafts: Drafts, bodies: dict[str, Tree]) -> None:
        requirements = draft.place.get("requirements")
        for name, body in named_members(requirements, self._problems):
            definition = draft.type.requirements.get(name)
            if definition is None:
                known = hint(name, draft.type.requirements)
                self._problems.add(body, f"{draft.type.name} has no requirement {name!r}{known}")
                continue
            link = self._link(definition, body, drafts, bodies)
            if link is not None:
                draft.links.append(link)
        self._count(draft, requirements)

    def _count(self, draft: Draft, requirements: Tree | None) -> None:
        given = [name for name, _ in named_members(requirements, Problems(self._problems.limits))]
        for name, definition in draft.type.requirements.items():
            count = given.count(name)
            if count < definition.at_least:
                self._problems.add(
                    draft.place, f"{draft.name!r} lacks its requirement {name!r}: name a node"
                )
            if definition.at_most != UNBOUNDED and count > definition.at_most:
                message = f"the requirement {name!r} stands {count} times, at most"
                self._problems.add(requirements or draft.place, f"{message} {definition.at_most}")

    def _link(
        self, definition: RequirementDef, body: Tree, drafts: Drafts, bodies: dict[str, Tree]
    ) -> Link | None:
        node_tree = body if text_of(body) is not None else body.get("node")
        if body.is_map:
            expect_keys(body, _REQUIREMENT_KEYS, self._problems)
        wanted = text_of(node_tree)
        if node_tree is None or wanted is None:
            message = f"the requirement {definition.name!r} names no node"
            self._problems.add(node_tree or body, message)
            return None
        target = self._target(wanted, node_tree, drafts, bodies)
        if target is None:
            return None
        capability, fits = self._capability(definition, body, node_tree, target)
        relationship, given = self._relationship(definition, body)
        if not fits or relationship is None:
            return None
        return Link(definition.name, target.name, relationship, capability, body, given)

    def _target(
        self, wanted: str, at: Tree, drafts: Drafts, bodies: dict[str, Tree]
    ) -> Draft | None:
        if wanted in bodies:
            return drafts.nodes.get(wanted)  # a faulty one was noted already
        if self._table.canonical("node", wanted) is not None:
            self._problems.spend(at, len(drafts.nodes))
            fitting = [
                draft
                for draft in drafts.nodes.values()
                if self._table.is_a("node", draft.type.name, wanted)
            ]
            if len(fitting) == 1:
                return fitting[0]
            count = f"{len(fitting)} nodes" if fitting else "no node"
            self._problems.add(at, f"{count} of the type {wanted!r}: name one node template")
            return None
        self._problems.add(at, f"there is no node {wanted!r}{hint(wanted, bodies)}")
        return None

    def _capability(
        self, definition: RequirementDef, body: Tree, at: Tree, target: Draft
    ) -> tuple[str | None, bool]:
        """Return the target's capability that fits, and whether the target fits at all."""
        if definition.node and not self._table.is_a("node", target.type.name, definition.node):
            message = f"{target.name!r} ({target.type.name}) is no {definition.node}"
            self._problems.add(at, f"{message}, which the requirement {definition.name!r} wants")
            return None, False
        asked = text_of(body.get("capability")) if body.is_map else None
        if asked is not None and asked in target.capabilities:
            return asked, True
        wanted = asked or definition.capability
        if wanted is None:
            return None, True
        for name, offered in target.capabilities.items():
            if self._table.is_a("capability", offered.type.name, wanted):
                return name, True
        message = f"{target.name!r} ({target.type.name}) offers no capability {wanted!r}"
        self._problems.add(at, f"{message}, which the requirement {definition.name!r} wants")
        return None, False

    def _relationship(
        self, definition: RequirementDef, body: Tree
    ) -> tuple[str | None, dict[str, Tree]]:
        tree = body.get("relationship")
        name = text_of(tree)
        template = self._relationships.get(name) if name is not None else None
        if template is not None:
            tree, name = template, text_of(template.get("type"))
        elif tree is not None and tree.is_map:
            name = text_of(tree.get("type"))
        name = name or definition.relationship or DEPENDS_ON
        known = self._table.canonical("relationship", name)
        if known is None:
            self._problems.add(tree or body, self._table.unknown("relationship", name))
            return None, {}
        given = section(tree, "properties", self._problems) if tree is not None else {}
        return known, given


def ordered(drafts: Drafts, problems: Problems) -> list[Draft]:
    """Return the nodes, each after what it requires; otherwise in the template's order.

    Every cycle is noted once, with the nodes that it runs through.
    """
    rank = {name: index for index, name in enumerate(drafts.nodes)}
    needs = {name: {link.target for link in d.links} for name, d in drafts.nodes.items()}
    needed_by: dict[str, list[str]] = {name: [] for name in drafts.nodes}
    for name, targets in needs.items():
        for target in targets:
            needed_by[target].append(name)
    ready = [(rank[name], name) for name, targets in needs.items() if not targets]
    done: list[Draft] = []
    while needs:
        if not ready:
            ring = _note_cycle(needs, drafts, problems)
            ready = [(rank[name], name) for name in ring]
            heapq.heapify(ready)
        _, name = heapq.heappop(ready)
        if name not in needs:
            continue
        del needs[name]
        done.append(drafts.nodes[name])
        for other in needed_by[name]:
            if other in needs:
                needs[other].discard(name)
                if not needs[other]:
                    heapq.heappush(ready, (rank[other], other))
    return done


def _note_cycle(needs: dict[str, set[str]], drafts: Drafts, problems: Problems) -> list[str]:
    """Note one cycle among the nodes that wait, and return its nodes."""
    trail: dict[str, int] = {}
    name = next(iter(needs))
    while name not in trail:
        trail[name] = len(trail)
        name = min(needs[name], key=lambda each: drafts.nodes[each].place.line)
    ring = list(trail)[trail[name] :]
    start = min(ring, key=lambda each: drafts.nodes[each].place.line)
    ring = ring[ring.index(start) :] + ring[: ring.index(start)]
    after = ring[1] if len(ring) > 1 else start
    link = next(link for link in drafts.nodes[start].links if link.target == after)
    shown = [*ring, start]
    if len(shown) > _RING_SHOWN:
        shown = [*ring[: _RING_SHOWN - 1], f"({len(ring) - _RING_SHOWN + 1} more)", start]
    problems.add(link.place, f"these nodes require each other: {' > '.join(shown)}")
    return ring
