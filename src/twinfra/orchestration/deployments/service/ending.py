"""How attempts and runs end: written once, told to all, with what follows from it.

Every function here opens its own unit of work and may be repeated: what has ended stays as it is.
"""

from dataclasses import replace

from twinfra.core.workflow import Done, Goto, Outcome
from twinfra.orchestration.deployments.model.records import NodeRun
from twinfra.orchestration.deployments.model.states import (
    AttemptState,
    Failure,
    RunState,
    Trigger,
)
from twinfra.orchestration.deployments.service.kit import CLEAN, RUN, Kit, Scene
from twinfra.orchestration.deployments.service.telling import tell_run, wake_parents
from twinfra.orchestration.deployments.store import Unit

LOG_BYTES = 64 * 1024
CHOOSE, PLACE, STOP = "choose", "place", "stop"


async def fail_attempt(
    kit: Kit,
    scene: Scene,
    failure: Failure,
    reason: str,
    *,
    exit_code: int | None = None,
    log_tail: str = "",
) -> Outcome:
    """End the attempt under way as failed; its site is cleaned, and the next one is chosen."""
    for attempt in scene.open_attempts:
        async with kit.store.unit() as unit:
            run = await unit.run(scene.run.id)
            if run is None or run.state.final:
                return Done()
            ended = replace(
                attempt,
                state=AttemptState.FAILED,
                failure=failure,
                reason=reason,
                exit_code=exit_code,
                log_tail=log_tail[-LOG_BYTES:],
                ended_at=kit.clock.now(),
            )
            again = replace(run, state=RunState.PLACING, reason=reason)
            await tell_run(kit, unit, again, ended, failure=failure.value)
            if not scene.deployment.wishes.keep_last_attempt:
                await unit.start(CLEAN, ended.id)
    return Goto(CHOOSE)


async def end_run(
    kit: Kit,
    scene: Scene,
    state: RunState,
    reason: str = "",
    *,
    exit_code: int | None = None,
    log_tail: str = "",
) -> Outcome:
    """End a run: close its attempt, keep or clean what is at sites, wake who waits for it."""
    async with kit.store.unit() as unit:
        deployment = await unit.deployment(scene.deployment.id)
        run = await unit.run(scene.run.id)
        if run is None or deployment is None or run.state.final:
            return Done()
        closed = None
        for attempt in scene.open_attempts:
            closed = replace(
                attempt,
                state=_closing(state),
                reason=reason,
                exit_code=exit_code,
                log_tail=log_tail[-LOG_BYTES:] or attempt.log_tail,
                ended_at=kit.clock.now(),
            )
        final = replace(run, state=state, reason=reason, exit_code=exit_code)
        await tell_run(kit, unit, final, closed)
        await _clear(kit, unit, final, keep_last=scene.deployment.wishes.keep_last_attempt)
        await _leave_service(unit, final)
        await wake_parents(unit, deployment)
        await _wake_next(unit, final)
    kit.traffic.switch(scene.node.id)
    return Done()


def _closing(state: RunState) -> AttemptState:
    if state in {RunState.SUCCEEDED, RunState.RETIRED}:
        return AttemptState.SUCCEEDED
    return AttemptState.CANCELLED if state is RunState.CANCELLED else AttemptState.FAILED


async def _clear(kit: Kit, unit: Unit, run: NodeRun, *, keep_last: bool) -> None:
    """Clean the sites of what nobody will look at: all but a finished job, or a kept failure."""
    attempts = await unit.attempts(run=run.id)
    kept: set[str] = set()
    if run.state is RunState.SUCCEEDED:
        kept = {each.id for each in attempts if each.state is AttemptState.SUCCEEDED}
        await _clear_older(kit, unit, run)
    elif run.state is RunState.FAILED and keep_last and attempts:
        kept = {attempts[-1].id}
        await unit.save(replace(attempts[-1], kept=True))
    for attempt in attempts:
        if attempt.id not in kept and not attempt.gone:
            await unit.start(CLEAN, attempt.id)


async def _clear_older(kit: Kit, unit: Unit, run: NodeRun) -> None:
    """Clean up after runs by event that are so old that nobody reads their logs at the site."""
    if run.trigger is not Trigger.EVENT:
        return
    finished = [
        each
        for each in await unit.runs(run.deployment, run.node)
        if each.state is RunState.SUCCEEDED and each.trigger is Trigger.EVENT
    ]
    for old in finished[: -kit.settings.kept_runs]:
        for attempt in await unit.attempts(run=old.id):
            if not attempt.gone:
                await unit.start(CLEAN, attempt.id)


async def _leave_service(unit: Unit, run: NodeRun) -> None:
    node = await unit.node_named(run.deployment, run.node)
    if node is not None and node.active_run == run.id:
        await unit.save(replace(node, active_run=None))


async def _wake_next(unit: Unit, run: NodeRun) -> None:
    """Let later versions of the same service look: they wait for their turn."""
    for other in await unit.runs(run.deployment, run.node):
        if not other.state.final and other.number > run.number:
            await unit.wake(RUN, other.id)


async def abandon(kit: Kit, scene: Scene, reason: str) -> None:
    """Close the open attempt of a service that lost its site; the run goes on elsewhere."""
    for attempt in scene.open_attempts:
        async with kit.store.unit() as unit:
            run = await unit.run(scene.run.id)
            if run is None or run.state.final:
                return
            ended = replace(
                attempt,
                state=AttemptState.FAILED,
                failure=Failure.LOST,
                reason=reason,
                ended_at=kit.clock.now(),
            )
            again = replace(run, state=RunState.PLACING, cycle=run.cycle + 1, reason=reason)
            await tell_run(kit, unit, again, ended, failure=Failure.LOST.value)
            await unit.start(CLEAN, ended.id)
    kit.traffic.switch(scene.node.id)
