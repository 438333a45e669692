"""What twinfra's own types must keep beyond their declarations.

A job or service needs an image; an event runs jobs or is delivered to a path of services; a node
has one placement at most. Its neighbour ``parse`` calls these on the finished plan.
"""

from collections.abc import Iterable, Mapping

from twinfra.orchestration.tosca.document import Problems, Tree
from twinfra.orchestration.tosca.model import PlanNode, PlanPolicy

CONTAINER = "tosca.nodes.twinfra.Container"
JOB = "tosca.nodes.twinfra.Job"
SERVICE = "tosca.nodes.twinfra.Service"
ON_EVENT = "tosca.policies.twinfra.OnEvent"
PLACEMENT = "tosca.policies.Placement"


def check(
    nodes: Mapping[str, PlanNode],
    policies: Iterable[PlanPolicy],
    places: Mapping[str, Tree],
    problems: Problems,
) -> None:
    """Note every rule that is broken.

    Args:
        nodes: by name.
        policies: in order.
        places: where each node and policy stands, by its path in the template's topology.
        problems: where faults are noted.
    """
    for node in nodes.values():
        at = places[f"node_templates.{node.name}"]
        if node.type == CONTAINER:
            problems.add(at, f"{CONTAINER} is abstract: use {JOB} or {SERVICE}")
        elif node.is_a(CONTAINER) and not {"image"} & {*node.properties, *node.artifacts}:
            problems.add(at, f"{node.name!r} has no image: set the property or artifact 'image'")
    placed: dict[str, str] = {}
    for policy in policies:
        at = places[f"policies.{policy.name}"]
        if policy.is_a(ON_EVENT):
            _on_event(policy, nodes, at, problems)
        for name in policy.nodes if policy.is_a(PLACEMENT) else ():
            if name in placed:
                problems.add(at, f"{name!r} is already placed by the policy {placed[name]!r}")
            placed[name] = policy.name


def _on_event(
    policy: PlanPolicy, nodes: Mapping[str, PlanNode], at: Tree, problems: Problems
) -> None:
    action, path = policy.properties.get("action"), policy.properties.get("path")
    if not policy.targets:
        problems.add(at, f"the policy {policy.name!r} names no targets")
    if action == "deliver" and path is None:
        problems.add(at, "an event is delivered to a path: the property 'path' is missing")
    if action == "run" and path is not None:
        problems.add(at, "the property 'path' belongs to the action deliver")
    wanted = {"run": JOB, "deliver": SERVICE}.get(str(action))
    for name in policy.nodes if policy.targets and wanted else ():
        if wanted is not None and not nodes[name].is_a(wanted):
            problems.add(at, f"the action {action} wants a {wanted}; {name!r} is none")
