"""Drafts evaluated into a plan: typed properties, policies with their targets, outputs.

Its neighbour ``parse`` calls this once the nodes are tied together.

Source: TOSCA Simple Profile 1.3 §3.8 and §3.9.
"""

from collections.abc import Mapping
from typing import Any

from twinfra.orchestration.tosca.definitions import (
    TypeDef,
    flag_of,
    named_members,
    text_of,
)
from twinfra.orchestration.tosca.document import Problems, Tree
from twinfra.orchestration.tosca.drafts import CapabilityDraft, Draft, Drafts, Link
from twinfra.orchestration.tosca.functions import NOWHERE, Functions, Where
from twinfra.orchestration.tosca.model import (
    PlanArtifact,
    PlanCapability,
    PlanGroup,
    PlanNode,
    PlanOperation,
    PlanOutput,
    PlanPolicy,
    PlanRequirement,
)
from twinfra.orchestration.tosca.nodes import expect_keys, section
from twinfra.orchestration.tosca.table import TypeTable
from twinfra.orchestration.tosca.values import Values, hint

_ARTIFACT_KEYS = {
    "type",
    "file",
    "repository",
    "description",
    "deploy_path",
    "properties",
    "artifact_version",
    "checksum",
    "checksum_algorithm",
    "version",
}
_POLICY_KEYS = {"type", "description", "metadata", "properties", "targets", "triggers"}
_GROUP_KEYS = {"type", "description", "metadata", "properties", "members", "interfaces"}
_OUTPUT_KEYS = {"value", "description", "type", "sensitive", "metadata"}
_INTERFACE_KEYS = {"type", "inputs", "operations", "notifications", "description"}


class Planner:
    """Evaluates the drafts of one template."""

    def __init__(
        self, table: TypeTable, drafts: Drafts, functions: Functions, problems: Problems
    ) -> None:
        self._table = table
        self._drafts = drafts
        self._functions = functions
        self._problems = problems
        self._values = Values(table, problems)

    def node(self, draft: Draft) -> PlanNode:
        """Return the plan of one node."""
        here = Where(node=draft.name)
        given = {
            name: self._functions.property_value(draft, name)
            if name in draft.type.properties
            else tree
            for name, tree in draft.given.items()
        }
        metadata = draft.place.get("metadata")
        return PlanNode(
            name=draft.name,
            type=draft.type.name,
            types=draft.chain,
            properties=self._values.fill(
                given, draft.type.properties, draft.place, lambda tree: self._eval(tree, here)
            ),
            capabilities={
                name: self._capability(draft, offered)
                for name, offered in draft.capabilities.items()
            },
            requirements=tuple(self._requirement(draft, link) for link in draft.links),
            artifacts=self._artifacts(draft.place, here),
            interfaces=self._interfaces(draft.place, here),
            metadata=metadata.plain() if metadata is not None and metadata.is_map else {},
            line=draft.place.line,
        )

    def _eval(self, tree: Tree, where: Where) -> Tree:
        return self._functions.evaluate(tree, where)

    def _capability(self, draft: Draft, offered: CapabilityDraft) -> PlanCapability:
        here = Where(node=draft.name)
        body = section(draft.place, "capabilities", Problems(self._problems.limits))
        at = body.get(offered.name, draft.place)
        properties = self._values.fill(
            offered.given, offered.type.properties, at, lambda tree: self._eval(tree, here)
        )
        chain = self._table.chain("capability", offered.type.name)
        return PlanCapability(offered.name, offered.type.name, chain, properties)

    def _requirement(self, draft: Draft, link: Link) -> PlanRequirement:
        definition = self._table.find("relationship", link.relationship)
        where = Where(source=draft.name, target=link.target)
        declared = definition.properties if definition is not None else {}
        # A relationship that the template leaves bare needs none of its properties.
        properties = (
            self._values.fill(
                link.given, declared, link.place, lambda tree: self._eval(tree, where)
            )
            if link.given
            else {}
        )
        return PlanRequirement(
            name=link.name,
            node=link.target,
            relationship=link.relationship,
            relationship_types=self._table.chain("relationship", link.relationship),
            capability=link.capability,
            properties=properties,
        )

    def _artifacts(self, body: Tree, here: Where) -> dict[str, PlanArtifact]:
        found: dict[str, PlanArtifact] = {}
        for name, tree in named_members(body.get("artifacts"), self._problems):
            if text_of(tree) is not None:
                found[name] = PlanArtifact(name, "tosca.artifacts.File", tree.value)
                continue
            expect_keys(tree, _ARTIFACT_KEYS, self._problems)
            file, type_tree = tree.get("file"), tree.get("type")
            if file is None:
                self._problems.add(tree, "the artifact names no file")
                continue
            type_name = text_of(type_tree) or "tosca.artifacts.File"
            known = self._table.canonical("artifact", type_name)
            if known is None:
                self._problems.add(type_tree or tree, self._table.unknown("artifact", type_name))
                continue
            given = tree.get("properties") or Tree({})
            found[name] = PlanArtifact(
                name=name,
                type=known,
                file=self._values.free(self._eval(file, here)),
                repository=text_of(tree.get("repository")),
                properties=self._values.free(self._eval(given, here)) or {},
            )
        return found

    def _interfaces(self, body: Tree, here: Where) -> dict[str, dict[str, PlanOperation]]:
        found: dict[str, dict[str, PlanOperation]] = {}
        for name, tree in section(body, "interfaces", self._problems).items():
            listed = tree.get("operations")
            operations = dict((listed or tree).items())
            found[name] = {
                key: self._operation(operation, here)
                for key, operation in operations.items()
                if listed is not None or key not in _INTERFACE_KEYS
            }
        return found

    def _operation(self, tree: Tree, here: Where) -> PlanOperation:
        if not tree.is_map:
            return PlanOperation(implementation=tree.value)
        implementation = tree.get("implementation")
        inputs: dict[str, Any] = {}
        for name, value in section(tree, "inputs", self._problems).items():
            # An operation's input may be declared (type, default) instead of given.
            declared = value.get("type") is not None and value.get("default") is not None
            inputs[name] = self._values.free(
                self._eval(value.value["default"] if declared else value, here)
            )
        plain = self._values.free(self._eval(implementation, here)) if implementation else None
        return PlanOperation(plain, inputs)

    def groups(self, topology: Tree) -> dict[str, PlanGroup]:
        """Return the groups."""
        found: dict[str, PlanGroup] = {}
        for name, tree in named_members(topology.get("groups"), self._problems):
            expect_keys(tree, _GROUP_KEYS, self._problems)
            definition = self._type_of("group", tree)
            members = self._listed(tree, "members", self._drafts.nodes)
            if definition is not None:
                found[name] = PlanGroup(
                    name, definition.name, members, self._properties(tree, definition)
                )
        return found

    def policies(self, topology: Tree, groups: Mapping[str, PlanGroup]) -> list[PlanPolicy]:
        """Return the policies, be they written as a list or as a mapping."""
        found: list[PlanPolicy] = []
        names = {*self._drafts.nodes, *groups}
        for name, tree in named_members(topology.get("policies"), self._problems):
            expect_keys(tree, _POLICY_KEYS, self._problems)
            definition = self._type_of("policy", tree)
            targets = self._listed(tree, "targets", names)
            if definition is None:
                continue
            nodes = _expanded(targets, groups) if targets else tuple(self._drafts.nodes)
            self._check_targets(tree, definition, targets and nodes)
            triggers = tree.get("triggers")
            found.append(
                PlanPolicy(
                    name=name,
                    type=definition.name,
                    types=self._table.chain("policy", definition.name),
                    targets=targets,
                    nodes=nodes,
                    properties=self._properties(tree, definition),
                    triggers=triggers.plain() if triggers is not None and triggers.is_map else {},
                    line=tree.line,
                )
            )
        return found

    def _properties(self, tree: Tree, definition: TypeDef) -> dict[str, Any]:
        given = section(tree, "properties", self._problems)
        return self._values.fill(
            given, definition.properties, tree, lambda each: self._eval(each, NOWHERE)
        )

    def _type_of(self, kind: str, tree: Tree) -> TypeDef | None:
        name = text_of(tree.get("type"))
        definition = self._table.find(kind, name) if name is not None else None
        if name is None:
            self._problems.add(tree, f"the type of this {kind} is missing")
        elif definition is None:
            self._problems.add(tree.get("type") or tree, self._table.unknown(kind, name))
        return definition

    def _listed(self, tree: Tree, key: str, known: Any) -> tuple[str, ...]:
        listed = tree.get(key)
        if listed is None or listed.value is None:
            return ()
        found: list[str] = []
        for each in listed.value if listed.is_list else [listed]:
            name = str(each.value)
            if name in known:
                found.append(name)
            else:
                self._problems.add(
                    each, f"there is no {name!r} in this template{hint(name, known)}"
                )
        return tuple(dict.fromkeys(found))

    def _check_targets(self, tree: Tree, definition: TypeDef, nodes: tuple[str, ...]) -> None:
        for name in nodes if definition.targets else ():
            type_name = self._drafts.nodes[name].type.name
            if not any(self._table.is_a("node", type_name, each) for each in definition.targets):
                wanted = " or ".join(definition.targets)
                self._problems.add(
                    tree.get("targets") or tree, f"{name!r} ({type_name}) is no {wanted}"
                )

    def outputs(self, topology: Tree) -> dict[str, PlanOutput]:
        """Return the outputs; those that need attributes stay expressions."""
        found: dict[str, PlanOutput] = {}
        for name, tree in section(topology, "outputs", self._problems).items():
            value = tree.get("value")
            expect_keys(tree, _OUTPUT_KEYS, self._problems)
            if value is None:
                self._problems.add(tree, f"the output {name!r} has no value")
                continue
            found[name] = PlanOutput(
                name=name,
                value=self._values.free(self._eval(value, NOWHERE)),
                description=text_of(tree.get("description")) or "",
                sensitive=flag_of(tree.get("sensitive"), default=False),
            )
        return found


def _expanded(targets: tuple[str, ...], groups: Mapping[str, PlanGroup]) -> tuple[str, ...]:
    nodes: list[str] = []
    for target in targets:
        nodes.extend(groups[target].members if target in groups else (target,))
    return tuple(dict.fromkeys(nodes))
