"""What a plan asks of the driver, node by node, and what is wrong with asking it here.

The template's own faults are found by ``orchestration.tosca``; here stand the rules of this
orchestrator: what it can make, which data a node needs, what an event does.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from graphlib import CycleError, TopologicalSorter
from typing import Any

from twinfra.orchestration.deployments.model.states import Role
from twinfra.orchestration.tosca.expressions import Attributes, is_lazy
from twinfra.orchestration.tosca.model import Plan, PlanNode, PlanPolicy, TemplateProblem

JOB = "tosca.nodes.twinfra.Job"
SERVICE = "tosca.nodes.twinfra.Service"
ON_EVENT = "tosca.policies.twinfra.OnEvent"
RUN, DELIVER = "run", "deliver"
SERVICES = "services"
FREE_PORTS = range(10_000, 20_000)  # below those that a home's own services choose from
DELIVERED_BY = ("site", "path_prefix", "dataset", "subject_prefix")


@dataclass(frozen=True)
class Intent:
    """What one run of a node asks for, all values known."""

    image: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    follow: tuple[str, ...] = ()
    cpu: float = 1.0
    memory_bytes: int = 512 * 2**20
    gpus: int = 0
    architecture: str | None = None
    capabilities: tuple[str, ...] = ()
    max_retries: int = 0
    port: int | None = None
    any_port: bool = False
    readiness_path: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return a JSON object that `from_json` reads back."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    def port_of(self, attempt_id: str) -> int | None:
        """Return where the service of an attempt listens; of two attempts hardly ever the same."""
        if self.port is None or not self.any_port:
            return self.port
        digest = hashlib.sha256(attempt_id.encode()).digest()
        return FREE_PORTS[int.from_bytes(digest[:8], "big") % len(FREE_PORTS)]

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Intent":
        """Read what `to_json` wrote; what a newer release wrote besides is left out."""
        known = {each.name for each in fields(cls)}
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in body.items()
            if key in known
        }
        return cls(**values)


def role_of(node: PlanNode) -> Role | None:
    """Return what `node` is to the driver, or none if no driver here makes its type."""
    if node.is_a(SERVICE):
        return Role.SERVICE
    return Role.JOB if node.is_a(JOB) else None


def intent_of(plan: Plan, name: str, attributes: Attributes) -> Intent:
    """Return what node `name` asks for once `attributes` of its predecessors are known.

    Raises:
        ValueError: a value that it needs waits for an attribute that has not arrived.
    """
    node, values = plan.nodes[name], plan.properties_with(name, attributes)
    missing = [key for key, raw in node.properties.items() if is_lazy(raw) and values[key] is None]
    if missing:
        raise ValueError(f"{name}: no value yet for {', '.join(sorted(missing))}")
    request = node.request
    service = role_of(node) is Role.SERVICE
    capabilities = (*request.capabilities, *((SERVICES,) if service else ()))
    return Intent(
        image=node.image or str(values.get("image") or ""),
        command=_words(values.get("command")),
        args=_words(values.get("args")),
        env={key: str(value) for key, value in (values.get("env") or {}).items()},
        inputs=_words(values.get("inputs")),
        outputs=_words(values.get("outputs")),
        follow=_words(values.get("follow")),
        cpu=request.cpu,
        memory_bytes=request.memory_bytes,
        gpus=request.gpus,
        architecture=request.architecture,
        capabilities=tuple(dict.fromkeys(capabilities)),
        max_retries=int(values.get("max_retries") or 0),
        port=int(values["port"]) if service else None,
        any_port=bool(values.get("any_port")) if service else False,
        readiness_path=values.get("readiness_path") if service else None,
    )


def fingerprint(node: PlanNode) -> str:
    """Return what changes exactly when something changes that `node` asks for."""
    asked = (node.type, _frozen(node.properties), node.image, node.request, node.dependencies)
    return hashlib.sha256(repr(asked).encode()).hexdigest()


def armed_nodes(plan: Plan) -> frozenset[str]:
    """Return the jobs that run when an event comes, not when the template is deployed."""
    return frozenset(
        name
        for policy in _on_event(plan)
        if policy.properties.get("action") == RUN
        for name in policy.nodes
    )


def order(plan: Plan) -> dict[str, tuple[str, ...]]:
    """Return every node with what it must wait for, in the order of building.

    A node waits for what the template says and for those jobs of the template that write its
    inputs; where the data would close a circle, only the template counts.
    """
    stated = {name: node.dependencies for name, node in plan.nodes.items()}
    armed = armed_nodes(plan)
    by_output: dict[str, list[str]] = {}
    for name, node in plan.nodes.items():
        if name not in armed:
            for did in _plain(node, "outputs"):
                by_output.setdefault(did, []).append(name)
    with_data = {
        name: tuple(
            dict.fromkeys((*stated[name], *(p for p in _producers(node, by_output) if p != name)))
        )
        for name, node in plan.nodes.items()
    }
    for edges in (with_data, stated):
        try:
            return {name: edges[name] for name in _sorted(edges)}
        except CycleError:
            continue
    return stated


def needed_data(plan: Plan) -> dict[str, tuple[str, int]]:
    """Return the inputs that no other node writes, each with a node that wants it and its line."""
    wanted: dict[str, tuple[str, int]] = {}
    for name, node in plan.nodes.items():
        others = [each for other, each in plan.nodes.items() if other != name]
        made = {did for each in others for did in _plain(each, "outputs")}
        for did in (*_plain(node, "inputs"), *_plain(node, "follow")):
            if did not in made:
                wanted.setdefault(did, (name, node.line))
    return wanted


def problems(plan: Plan) -> list[TemplateProblem]:
    """Return what this orchestrator cannot do of `plan`, each with its line."""
    found: list[TemplateProblem] = []
    if not plan.nodes:
        found.append(_problem("topology_template", 0, "there is no node to deploy"))
    for name, node in plan.nodes.items():
        found += _node_problems(name, node)
    for policy in _on_event(plan):
        found += _policy_problems(plan, policy)
    return found


def _node_problems(name: str, node: PlanNode) -> Iterable[TemplateProblem]:
    path = f"topology_template.node_templates.{name}"
    role = role_of(node)
    if role is None:
        yield _problem(path, node.line, f"no driver here makes a {node.type}; {JOB}, {SERVICE} are")
        return
    if node.image is None and not is_lazy(node.properties.get("image")):
        yield _problem(path, node.line, "it names no image")
    if role is Role.SERVICE and not isinstance(node.properties.get("port"), int):
        yield _problem(path, node.line, "a service needs a port that is known from the start")
    for word in ("inputs", "outputs", "follow"):
        if is_lazy(node.properties.get(word)):
            yield _problem(path, node.line, f"{word} must be known from the start")


def _policy_problems(plan: Plan, policy: PlanPolicy) -> Iterable[TemplateProblem]:
    path = f"topology_template.policies.{policy.name}"
    action = policy.properties.get("action")
    wanted = SERVICE if action == DELIVER else JOB
    for name in policy.nodes:
        if not plan.nodes[name].is_a(wanted):
            yield _problem(path, policy.line, f"action {action} needs a {wanted}; {name} is none")
    unknown = set(policy.properties.get("filter") or {}) - set(DELIVERED_BY)
    if action == DELIVER and unknown:
        known = ", ".join(DELIVERED_BY)
        yield _problem(path, policy.line, f"filter {min(unknown)!r} is none of {known}")


def on_event_policies(plan: Plan) -> Sequence[PlanPolicy]:
    """Return the policies that tie an event to a node, in the template's order."""
    return _on_event(plan)


def _on_event(plan: Plan) -> list[PlanPolicy]:
    return [policy for policy in plan.policies if policy.is_a(ON_EVENT)]


def _producers(node: PlanNode, by_output: Mapping[str, list[str]]) -> Iterable[str]:
    for did in (*_plain(node, "inputs"), *_plain(node, "follow")):
        yield from by_output.get(did, ())


def _sorted(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Sort, each after what it waits for, otherwise in the given order."""
    sorter = TopologicalSorter(edges)
    sorter.prepare()
    place = {name: index for index, name in enumerate(edges)}
    found: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready(), key=lambda name: place[name])
        found += ready
        sorter.done(*ready)
    return found


def _plain(node: PlanNode, word: str) -> tuple[str, ...]:
    value = node.properties.get(word)
    return () if is_lazy(value) else _words(value)


def _words(value: Any) -> tuple[str, ...]:
    return tuple(str(each) for each in value or ())


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return sorted((key, _frozen(member)) for key, member in value.items())
    if isinstance(value, list | tuple):
        return [_frozen(member) for member in value]
    return value


def _problem(path: str, line: int, message: str) -> TemplateProblem:
    return TemplateProblem(line=line, column=min(line, 1), path=path, message=message)
