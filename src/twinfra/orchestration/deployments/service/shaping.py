"""What a template becomes in the tables: nodes and policies, new or changed; nothing runs here."""

from dataclasses import dataclass, replace

from twinfra.core.ids import derived_uuid
from twinfra.orchestration.deployments.model.intent import (
    armed_nodes,
    fingerprint,
    on_event_policies,
    order,
    role_of,
)
from twinfra.orchestration.deployments.model.records import Deployment, Node, Policy
from twinfra.orchestration.deployments.model.standing import is_ready
from twinfra.orchestration.deployments.model.states import NodeState, Role
from twinfra.orchestration.deployments.service.kit import Kit
from twinfra.orchestration.deployments.store import Unit
from twinfra.orchestration.tosca.model import Plan, PlanNode


@dataclass(frozen=True)
class Asked:
    """A plan and the deployment whose generation is to carry it out."""

    deployment: Deployment
    plan: Plan


async def shape(kit: Kit, unit: Unit, asked: Asked) -> None:
    """Write nodes and policies as `asked` wants them; what is no longer wanted is marked so."""
    deployment, plan = asked.deployment, asked.plan
    old = {node.name: node for node in await unit.nodes(deployment.id)}
    runs = await unit.runs(deployment.id)
    edges, armed = order(plan), armed_nodes(plan)
    for place, (name, waits_for) in enumerate(edges.items()):
        wanted = _node(kit, asked, plan.nodes[name], place)
        wanted = replace(wanted, depends_on=waits_for, armed=name in armed)
        known = old.pop(name, None)
        if known is None:
            await unit.add(wanted)
        else:
            await unit.save(_changed(known, wanted, ready=is_ready(known, runs)))
    for node in old.values():
        await unit.save(replace(node, removed=True))
    await _policies(unit, asked)


def _node(kit: Kit, asked: Asked, node: PlanNode, place: int) -> Node:
    now = kit.clock.now()
    role = role_of(node) or Role.JOB
    service = role is Role.SERVICE
    return Node(
        id=kit.new_id(),
        deployment=asked.deployment.id,
        name=node.name,
        type=node.type,
        role=role,
        place=place,
        generation=asked.deployment.generation,
        fingerprint=fingerprint(node),
        created_at=now,
        updated_at=now,
        follow=tuple(node.properties.get("follow") or ()) if service else (),
        port=int(node.properties["port"]) if service else None,
    )


def _changed(known: Node, wanted: Node, *, ready: bool) -> Node:
    """Return the node as wanted; one that is there and asks for the same is not made anew."""
    same = known.fingerprint == wanted.fingerprint and not known.removed and ready
    return replace(
        wanted,
        id=known.id,
        created_at=known.created_at,
        active_run=known.active_run,
        state=known.state if same else NodeState.CONFIGURING,
        generation=known.generation if same else wanted.generation,
    )


async def _policies(unit: Unit, asked: Asked) -> None:
    """Write the policies; one that changed is another one, so that its webhook is made anew."""
    old = {policy.id: policy for policy in await unit.policies(asked.deployment.id)}
    for wanted in _wanted_policies(asked):
        known = old.pop(wanted.id, None)
        if known is None:
            await unit.add(wanted)
        elif known.removed:
            await unit.save(replace(known, removed=False))
    for policy in old.values():
        await unit.save(replace(policy, removed=True))


def _wanted_policies(asked: Asked) -> list[Policy]:
    found = []
    for policy in on_event_policies(asked.plan):
        values = policy.properties
        condition = dict(values.get("filter") or {})
        facts = (
            str(values["event"]),
            str(values["action"]),
            str(values.get("path") or "/"),
            repr(sorted(condition.items())),
        )
        for node in policy.nodes:
            key = derived_uuid("policy", asked.deployment.id, policy.name, node, *facts)
            found.append(
                Policy(
                    id=key,
                    deployment=asked.deployment.id,
                    name=policy.name,
                    action=str(values["action"]),
                    node=node,
                    types=(str(values["event"]),),
                    condition=condition,
                    path=str(values.get("path") or "/"),
                    coalesce=bool(values.get("coalesce")),
                )
            )
    return found
