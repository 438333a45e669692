"""The front door: a template and its inputs become a plan, or all their faults at once.

``parse`` reads nothing but its arguments: imports are names of vendored types and never fetched.
Composing partial templates comes before this step and is not done here.

Source: TOSCA Simple Profile 1.0-1.3 §3.10.
"""

from collections.abc import Mapping
from typing import Any

from twinfra.orchestration.tosca import rules
from twinfra.orchestration.tosca.definitions import (
    KINDS,
    PropertyDef,
    Reader,
    named_members,
    text_of,
)
from twinfra.orchestration.tosca.document import Problems, TooManyProblemsError, Tree, load
from twinfra.orchestration.tosca.errors import TemplateErrors, TemplateProblem
from twinfra.orchestration.tosca.functions import Functions
from twinfra.orchestration.tosca.model import Limits, Plan, PlanInput
from twinfra.orchestration.tosca.nodes import NodeReader, expect_keys, ordered, section
from twinfra.orchestration.tosca.planner import Planner
from twinfra.orchestration.tosca.scalars import named
from twinfra.orchestration.tosca.table import TypeTable, template_types
from twinfra.orchestration.tosca.values import BROKEN, Values, hint

VERSIONS = (
    "tosca_simple_yaml_1_0",
    "tosca_simple_yaml_1_0_0",
    "tosca_simple_yaml_1_1",
    "tosca_simple_yaml_1_2",
    "tosca_simple_yaml_1_3",
)
_VENDORED_IMPORTS = {"custom_types", "types", "indigo_custom_types", "grycap_custom_types"}
_KEYS = {
    "tosca_definitions_version",
    "namespace",
    "metadata",
    "description",
    "template_name",
    "template_author",
    "template_version",
    "dsl_definitions",
    "repositories",
    "imports",
    "topology_template",
    *KINDS,
}
_TOPOLOGY_KEYS = {
    "description",
    "inputs",
    "node_templates",
    "relationship_templates",
    "groups",
    "policies",
    "outputs",
    "substitution_mappings",
    "workflows",
}
_INPUT_DEPTH = 40


def parse(
    text: str, inputs: Mapping[str, Any] | None = None, *, limits: Limits | None = None
) -> Plan:
    """Return the plan of a service template with these inputs.

    Guarantees: no I/O; the same arguments give an equal plan; every property in the plan is of its
    declared type, holds an expression where it waits for attributes, or is absent.

    Args:
        text: the service template, TOSCA Simple Profile YAML 1.0 to 1.3.
        inputs: values for the template's inputs, plain JSON values.
        limits: what the template may cost; the defaults if absent.

    Raises:
        TemplateErrors: something is wrong; it lists every fault with path, line and column.
    """
    limits = limits or Limits()
    problems = Problems(limits)
    document = load(text, limits)
    try:
        plan = _Template(document, problems).plan(inputs or {})
    except TooManyProblemsError:
        problems.raise_any()
        raise
    except RecursionError as exc:  # the limits above keep this from happening; the caller is safe
        where = TemplateProblem(1, 1, "", "this template nests too deep")
        raise TemplateErrors([where]) from exc
    problems.raise_any()
    return plan


class _Template:
    """One reading of one document."""

    def __init__(self, document: Tree, problems: Problems) -> None:
        self._document = document
        self._problems = problems

    def plan(self, supplied: Mapping[str, Any]) -> Plan:
        problems, document = self._problems, self._document
        version = self._head()
        table = template_types(document, problems)
        topology = self._topology()
        values = Values(table, problems)
        planned, trees = self._inputs(topology, supplied, values, table)
        drafts = NodeReader(table, problems, topology.get("relationship_templates")).read(
            topology.get("node_templates")
        )
        order = ordered(drafts, problems)
        planner = Planner(table, drafts, Functions(drafts, trees, problems), problems)
        nodes = {draft.name: planner.node(draft) for draft in order}
        groups = planner.groups(topology)
        policies = planner.policies(topology, groups)
        outputs = planner.outputs(topology)
        rules.check(nodes, policies, self._places(topology), problems)
        metadata = document.get("metadata")
        return Plan(
            version=version,
            nodes=nodes,
            inputs=planned,
            outputs=outputs,
            policies=tuple(policies),
            groups=groups,
            metadata=metadata.plain() if metadata is not None and metadata.is_map else {},
            description=text_of(document.get("description")) or "",
            warnings=tuple(problems.warnings),
        )

    def _head(self) -> str:
        document, problems = self._document, self._problems
        if not document.is_map:
            problems.add(document, "a template is a mapping, beginning with its version")
            raise TooManyProblemsError
        expect_keys(document, _KEYS, problems)
        tree = document.get("tosca_definitions_version")
        version = text_of(tree)
        if tree is None:
            problems.add(document, "tosca_definitions_version is missing")
        elif version not in VERSIONS:
            problems.add(tree, f"{named(tree.value)} is not one of {', '.join(VERSIONS)}")
        for key in ("metadata", "repositories", "dsl_definitions"):
            section(document, key, problems)
        self._imports(document.get("imports"))
        return version or ""

    def _imports(self, imports: Tree | None) -> None:
        """Accept what names a vendored file; nothing is ever fetched."""
        if imports is None or imports.value is None:
            return
        members = imports.value if imports.is_list else [member for _, member in imports.items()]
        for each in members or [imports]:
            target = each
            if each.is_map:
                file = each.get("file")
                target = file or next((member for _, member in each.items()), each)
                if target.is_map:
                    target = target.get("file") or target
            name = str(target.value).rsplit("/", 1)[-1].removesuffix(".yaml").removesuffix(".yml")
            if name not in _VENDORED_IMPORTS:
                message = "imports are not fetched: the INDIGO and GRyCAP custom types are built in"
                self._problems.add(target, f"{message}, {named(target.plain())} is not known")

    def _topology(self) -> Tree:
        problems = self._problems
        topology = self._document.get("topology_template")
        if topology is None or topology.value is None:
            if topology is not None or not any(self._document.get(kind) for kind in KINDS):
                problems.add(topology or self._document, "topology_template is missing")
            return self._document.like({})
        if not topology.is_map:
            problems.add(topology, "topology_template is a mapping")
            return self._document.like({})
        expect_keys(topology, _TOPOLOGY_KEYS, problems)
        for key in ("workflows", "substitution_mappings"):
            tree = topology.get(key)
            if tree is not None and section(topology, key, problems):
                problems.warn(tree, f"{key} has no effect here")
        section(topology, "relationship_templates", problems)
        return topology

    def _inputs(
        self, topology: Tree, supplied: Mapping[str, Any], values: Values, table: TypeTable
    ) -> tuple[dict[str, PlanInput], dict[str, Tree]]:
        declared = Reader(self._problems).properties(topology.get("inputs"))
        places = dict(named_members(topology.get("inputs"), Problems(self._problems.limits)))
        for name in supplied:
            if name not in declared and name not in places:
                at = Tree(None, path=f"inputs.{name}")
                message = f"the template declares no input {name!r}"
                self._problems.add(at, f"{message}{hint(str(name), declared)}")
        planned: dict[str, PlanInput] = {}
        trees: dict[str, Tree] = {
            # A declaration that is itself at fault must not make its uses look faulty too.
            name: place.like(BROKEN)
            for name, place in places.items()
        }
        for name, definition in declared.items():
            at = places[name]
            tree = self._supplied(name, supplied[name]) if name in supplied else None
            given = tree if tree is not None and tree.value is not None else definition.default
            before = len(self._problems.found)
            if given is None and definition.required:
                self._problems.add(at, f"the required input {name!r} has no value")
            planned[name] = self._input(definition, given, values, table, at)
            if len(self._problems.found) == before:
                trees[name] = given if given is not None else at.like(None)
        return planned, trees

    def _input(
        self,
        definition: PropertyDef,
        given: Tree | None,
        values: Values,
        table: TypeTable,
        at: Tree,
    ) -> PlanInput:
        schema = definition.schema
        if table.primitive(schema.type) is None and table.find("data", schema.type) is None:
            self._problems.add(at.get("type") or at, table.unknown("data", schema.type))
            given = None
        default = definition.default
        if default is not None and given is not default:
            values.conform(default, schema)
        return PlanInput(
            name=definition.name,
            type=schema.type,
            value=values.conform(given, schema) if given is not None else None,
            required=definition.required,
            default=default.plain() if default is not None else None,
            description=definition.description,
            constraints=tuple(each.plain() for each in schema.constraints if each.is_map),
            metadata=definition.metadata,
        )

    def _supplied(self, name: str, value: Any) -> Tree:
        at = Tree(None, path=f"inputs.{name}")
        if not _is_json(value, self._problems.limits.value_count):
            self._problems.add(at, "this is not a plain JSON value, or too large")
            return at.like(BROKEN)
        return at.like(value)

    def _places(self, topology: Tree) -> dict[str, Tree]:
        quiet = Problems(self._problems.limits)
        return {
            f"{key}.{name}": place
            for key in ("node_templates", "policies")
            for name, place in named_members(topology.get(key), quiet)
        }


def _is_json(value: Any, count: int) -> bool:
    """Say whether a value is made of JSON's types, not too deep and not too large."""
    pending: list[tuple[Any, int]] = [(value, 0)]
    while pending:
        each, depth = pending.pop()
        count -= 1
        if depth > _INPUT_DEPTH or count < 0:
            return False
        if isinstance(each, Mapping):
            pending.extend((member, depth + 1) for member in each.values())
        elif isinstance(each, list | tuple):
            pending.extend((member, depth + 1) for member in each)
        elif not isinstance(each, str | int | float | bool | None):
            return False
    return True
