"""Changes that others hear of: a deployment's status, a run's progress.

Each change is one line of history, one event and, for a status, one callback, all written with the
change itself. The deployment is locked by the caller's unit of work, so its lines are in order.
"""

from dataclasses import replace
from typing import Any

from twinfra.orchestration.deployments.model.happenings import state_event
from twinfra.orchestration.deployments.model.records import Attempt, Call, Deployment, NodeRun
from twinfra.orchestration.deployments.model.states import (
    BUILDING,
    NODE_OF_RUN,
    TASK_OF_RUN,
    Role,
    RunState,
    Status,
    Task,
    Trigger,
)
from twinfra.orchestration.deployments.model.views import deployment_view
from twinfra.orchestration.deployments.service.kit import BUILD, CALL, REMOVE, Kit, key_of
from twinfra.orchestration.deployments.store import Unit

REASON_CHARS = 4000


async def tell_status(
    kit: Kit, unit: Unit, deployment: Deployment, status: Status, reason: str = "", **more: Any
) -> Deployment:
    """Write a deployment's new status with its reason, and tell everyone; return it."""
    now = kit.clock.now()
    changed = replace(
        deployment,
        status=status,
        status_reason=reason[:REASON_CHARS],
        revision=deployment.revision + 1,
        updated_at=now,
        **{"task": Task.NONE, **more},
    )
    await unit.save(changed)
    line = {"status": status.value, "reason": changed.status_reason}
    number = await unit.note(changed.id, now, "status", line)
    await unit.tell(state_event(changed, number))
    if changed.wishes.callback:
        body = {"url": changed.wishes.callback, "body": deployment_view(changed, kit.base_url)}
        await unit.add(Call(changed.id, changed.revision))
        await unit.start(CALL, f"{changed.id}/{changed.revision}", body)
    return changed


async def tell_run(
    kit: Kit, unit: Unit, run: NodeRun, attempt: Attempt | None = None, **more: Any
) -> NodeRun:
    """Write a run as it is now, the state of its node and the deployment's task; tell everyone.

    Args:
        kit: the ports.
        unit: that the change belongs to.
        run: as it shall stand.
        attempt: the one that the change is about; written too.
        more: facts for the line of history.
    """
    now = kit.clock.now()
    run = replace(run, updated_at=now, ended_at=now if run.state.final else None)
    deployment = await unit.deployment(run.deployment)
    await unit.save(run)
    if attempt is not None:
        await unit.save(attempt)
    await _touch_node(unit, run, now)
    if deployment is None:
        return run
    deployment = replace(deployment, updated_at=now)
    if attempt is not None and run.trigger is not Trigger.EVENT:
        site = attempt.target
        deployment = replace(deployment, provider=site.site, endpoint=site.endpoint)
    if deployment.status in BUILDING:
        deployment = replace(deployment, task=TASK_OF_RUN.get(run.state, deployment.task))
    await unit.save(deployment)
    line = {
        "node": run.node,
        "run": run.number,
        "trigger": run.trigger.value,
        "phase": run.state.value,
        "provider": attempt.target.site if attempt else None,
        "attempt": attempt.number if attempt else None,
        "reason": run.reason[:REASON_CHARS],
        **more,
    }
    number = await unit.note(run.deployment, now, "run", line)
    facts = {key: line[key] for key in ("node", "provider", "phase")}
    told = state_event(deployment, number, run=run.id, run_reason=line["reason"], **facts)
    await unit.tell(told)
    return run


async def tell_progress(kit: Kit, unit: Unit, attempt: Attempt, text: str) -> None:
    """Write an attempt as it is now and a line of history about it; no state changed."""
    await unit.deployment(attempt.deployment)
    await unit.save(attempt)
    line = {"node": attempt.node, "provider": attempt.target.site, "attempt": attempt.number}
    await unit.note(attempt.deployment, kit.clock.now(), "progress", {**line, "reason": text})


async def wake_parents(unit: Unit, deployment: Deployment) -> None:
    """Let the work that builds or removes a deployment look again."""
    await unit.wake(BUILD, key_of(deployment))
    await unit.wake(REMOVE, key_of(deployment))


async def _touch_node(unit: Unit, run: NodeRun, now: Any) -> None:
    """Show in the node how its newest run, or the version that serves, is."""
    node = await unit.node_named(run.deployment, run.node)
    if node is None:
        return
    serving = node.role is Role.SERVICE and node.active_run not in {None, run.id}
    if serving and run.state is not RunState.SERVING:
        return
    await unit.save(replace(node, state=NODE_OF_RUN[run.state], updated_at=now))
