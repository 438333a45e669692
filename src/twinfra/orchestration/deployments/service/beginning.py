"""How runs come to be: once for each cause, numbered by node, with their durable work."""

from dataclasses import replace
from typing import Any

from twinfra.core.ids import derived_uuid
from twinfra.orchestration.deployments.model.records import Deployment, Node, NodeRun
from twinfra.orchestration.deployments.model.states import RunState, Trigger
from twinfra.orchestration.deployments.service.kit import CLEAN, RUN, Kit, later
from twinfra.orchestration.deployments.service.telling import tell_run
from twinfra.orchestration.deployments.store import Unit


async def begin_run(
    kit: Kit,
    unit: Unit,
    deployment: Deployment,
    node: Node,
    trigger: Trigger,
    *,
    cause: str,
    event: dict[str, Any] | None = None,
) -> NodeRun | None:
    """Begin a run of `node` unless `cause` began one before; return it if it is new."""
    await unit.deployment(deployment.id)
    now = kit.clock.now()
    number = await unit.next_number(deployment.id, node.name)
    building = trigger in {Trigger.DEPLOY, Trigger.UPDATE}
    run = NodeRun(
        id=derived_uuid("run", deployment.id, node.name, str(number)),
        deployment=deployment.id,
        node=node.name,
        number=number,
        trigger=trigger,
        state=RunState.QUEUED,
        generation=deployment.generation,
        cause=cause[:255],
        event=event,
        created_at=now,
        updated_at=now,
        deadline_at=deployment.deadline_at
        if building
        else later(now, deployment.wishes.timeout_mins),
    )
    if not await unit.add_once(run):
        return None
    await unit.start(RUN, run.id)
    for other in await unit.runs(deployment.id, node.name):
        if other.state is RunState.QUEUED:
            await unit.wake(RUN, other.id)
    return await tell_run(kit, unit, run)


async def cancel_run(unit: Unit, run: NodeRun) -> None:
    """Ask a run to stop; asking again does nothing."""
    if not run.cancel:
        await unit.save(replace(run, cancel=True))
        await unit.wake(RUN, run.id)


async def cancel_runs(unit: Unit, deployment_id: str, node: str | None = None) -> list[NodeRun]:
    """Ask all open runs, of one node or of all, to stop; return those that have not yet."""
    still = [run for run in await unit.runs(deployment_id, node) if not run.state.final]
    for run in still:
        await cancel_run(unit, run)
    return still


async def clean_up(unit: Unit, deployment_id: str, node: str | None = None) -> list[str]:
    """Have everything taken away that ended attempts left at sites; return what is still there."""
    still = [
        each
        for each in await unit.attempts(deployment=deployment_id)
        if not each.gone and (node is None or each.node == node)
    ]
    for attempt in still:
        if attempt.ended_at is not None:
            await unit.start(CLEAN, attempt.id)
            await unit.wake(CLEAN, attempt.id)
    return [f"{each.node}: {each.id} at {each.target.site}" for each in still]
