"""The plan: what a TOSCA template with its inputs asks for, checked and typed.

Frozen data for whoever carries it out (``orchestration.deployments``); knows neither YAML nor how
anything is run. Its neighbour ``parse`` makes it: ``parse(text, inputs) -> Plan``, or
``TemplateErrors`` with every fault and its line.

Sizes are bytes (int), times seconds (float), frequencies hertz, bit rates bits a second, timestamps
aware datetimes, versions text. A value that needs an attribute is an ``expressions.Expression``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twinfra.orchestration.tosca.errors import TemplateErrors, TemplateProblem
from twinfra.orchestration.tosca.expressions import PENDING, Attributes, resolve

__all__ = [
    "Limits",
    "Plan",
    "PlanArtifact",
    "PlanCapability",
    "PlanGroup",
    "PlanInput",
    "PlanNode",
    "PlanOperation",
    "PlanOutput",
    "PlanPolicy",
    "PlanRequirement",
    "ResourceRequest",
    "TemplateErrors",
    "TemplateProblem",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """What a template may cost; beyond any of these it is refused unread.

    Attributes:
        document_bytes: size of the text.
        nesting_depth: levels of lists and mappings.
        value_count: scalars, lists and mappings once YAML aliases are followed.
        text_chars: length of one value made by concat, join or token.
        problem_count: faults reported before the checker stops.
    """

    document_bytes: int = 512 * 1024
    nesting_depth: int = 40
    value_count: int = 10_000
    text_chars: int = 256 * 1024
    problem_count: int = 200


@dataclass(frozen=True, slots=True)
class PlanInput:
    """A declared input with the value that this plan was made with."""

    name: str
    type: str
    value: Any
    required: bool
    default: Any = None
    description: str = ""
    constraints: tuple[Mapping[str, Any], ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanCapability:
    """A capability of a node, its defaults filled in."""

    name: str
    type: str
    types: tuple[str, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanRequirement:
    """A requirement, tied to the node that fulfils it."""

    name: str
    node: str
    relationship: str
    relationship_types: tuple[str, ...]
    capability: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanArtifact:
    """A file or image that comes with a node; `file` is whatever the author wrote."""

    name: str
    type: str
    file: Any
    repository: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanOperation:
    """What a node does at a moment of its life."""

    implementation: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResourceRequest:
    """What a node asks of a provider: the ``requirements`` of a ranking request."""

    cpu: float
    memory_bytes: int
    gpus: int = 0
    architecture: str | None = None
    capabilities: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlanNode:
    """One node template.

    Attributes:
        type: its type by the full, current name (an alias is already replaced).
        types: that type and its ancestors, the root last.
        requirements: in the order of the template; one entry per target.
        interfaces: operations by interface name, then operation name.
        line: line of the document where it begins.
    """

    name: str
    type: str
    types: tuple[str, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)
    capabilities: Mapping[str, PlanCapability] = field(default_factory=dict)
    requirements: tuple[PlanRequirement, ...] = ()
    artifacts: Mapping[str, PlanArtifact] = field(default_factory=dict)
    interfaces: Mapping[str, Mapping[str, PlanOperation]] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0

    def is_a(self, type_name: str) -> bool:
        """Say whether the node's type is `type_name` or derives from it."""
        return type_name in self.types

    @property
    def dependencies(self) -> tuple[str, ...]:
        """Return the nodes that must be ready before this one, each once."""
        return tuple(dict.fromkeys(each.node for each in self.requirements))

    @property
    def image(self) -> str | None:
        """Return the container image: property ``image``, else the artifact of that name."""
        value = self.properties.get("image")
        if value is None and "image" in self.artifacts:
            value = self.artifacts["image"].file
        return value if isinstance(value, str) else None

    @property
    def count(self) -> int:
        """Return how many instances are asked for (capability ``scalable``), 1 by default."""
        scalable = self.capabilities.get("scalable")
        value = scalable.properties.get("count") if scalable else None
        return value if isinstance(value, int) else 1

    @property
    def request(self) -> ResourceRequest:
        """Return what capability ``host`` asks for; 1 CPU and 512 MiB where it says nothing."""
        host = self.capabilities.get("host")
        asked = host.properties if host else {}
        return ResourceRequest(
            cpu=float(asked.get("num_cpus") or 1),
            memory_bytes=int(asked.get("mem_size") or 512 * 2**20),
            gpus=int(asked.get("num_gpus") or 0),
            architecture=asked.get("architecture"),
            capabilities=tuple(asked.get("site_capabilities") or ()),
        )


@dataclass(frozen=True, slots=True)
class PlanGroup:
    """Nodes that are treated alike."""

    name: str
    type: str
    members: tuple[str, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlanPolicy:
    """A rule over nodes.

    Attributes:
        targets: nodes and groups as the template names them.
        nodes: the same with every group replaced by its members; all nodes if it names none.
    """

    name: str
    type: str
    types: tuple[str, ...]
    targets: tuple[str, ...]
    nodes: tuple[str, ...]
    properties: Mapping[str, Any] = field(default_factory=dict)
    triggers: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0

    def is_a(self, type_name: str) -> bool:
        """Say whether the policy's type is `type_name` or derives from it."""
        return type_name in self.types


@dataclass(frozen=True, slots=True)
class PlanOutput:
    """A value to hand to the user, perhaps only known once attributes arrive."""

    name: str
    value: Any
    description: str = ""
    sensitive: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a template asks for.

    Attributes:
        version: the template's ``tosca_definitions_version``.
        nodes: by name, each after all that it depends on; otherwise in the template's order.
        policies: in the template's order.
        warnings: what was understood but has no effect, with its line.
    """

    version: str
    nodes: Mapping[str, PlanNode]
    inputs: Mapping[str, PlanInput] = field(default_factory=dict)
    outputs: Mapping[str, PlanOutput] = field(default_factory=dict)
    policies: tuple[PlanPolicy, ...] = ()
    groups: Mapping[str, PlanGroup] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""
    warnings: tuple[TemplateProblem, ...] = ()

    def of_type(self, type_name: str) -> tuple[PlanNode, ...]:
        """Return the nodes whose type is `type_name` or derives from it, in plan order."""
        return tuple(node for node in self.nodes.values() if node.is_a(type_name))

    def policies_for(self, node: str, type_name: str | None = None) -> tuple[PlanPolicy, ...]:
        """Return the policies over `node`, only those of `type_name` if it is given."""
        return tuple(
            policy
            for policy in self.policies
            if node in policy.nodes and (type_name is None or policy.is_a(type_name))
        )

    def outputs_with(self, attributes: Attributes) -> dict[str, Any]:
        """Return every output; ``None`` for one whose attributes have not arrived.

        Args:
            attributes: values by node name, then attribute name.
        """
        values = {name: resolve(out.value, attributes) for name, out in self.outputs.items()}
        return {name: None if value is PENDING else value for name, value in values.items()}

    def properties_with(self, node: str, attributes: Attributes) -> dict[str, Any]:
        """Return the properties of `node` with attributes filled in; ``None`` where one lacks."""
        values = {key: resolve(val, attributes) for key, val in self.nodes[node].properties.items()}
        return {key: None if value is PENDING else value for key, value in values.items()}

    def dependents(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return the nodes that directly depend on any of `names`, in plan order."""
        return tuple(
            node.name
            for node in self.nodes.values()
            if any(target in names for target in node.dependencies)
        )
