"""The kinds of durable work of this service, put together for the engine."""

from twinfra.core.errors import InvalidRequest, TwinfraError
from twinfra.core.time import parse_rfc3339, rfc3339
from twinfra.core.workflow import Done, Outcome, Run, Step, Wait, Workflow, WorkState
from twinfra.orchestration.deployments.model.states import RunState
from twinfra.orchestration.deployments.service.building import Building
from twinfra.orchestration.deployments.service.ending import end_run
from twinfra.orchestration.deployments.service.kit import CALL, RUN, Kit, scene_of
from twinfra.orchestration.deployments.service.placing import Placing
from twinfra.orchestration.deployments.service.removing import Cleaning, Removing
from twinfra.orchestration.deployments.service.running import Running
from twinfra.orchestration.deployments.service.serving import Serving

WITHOUT_END = 10**9
CALL_PAUSE_S = (1.0, 300.0)


def workflows(kit: Kit) -> list[Workflow]:
    """Return all kinds of work that the engine of this service must know."""
    return [
        Building(kit).workflow(),
        Removing(kit).workflow(),
        Cleaning(kit).workflow(),
        run_workflow(kit),
        Calling(kit).workflow(),
    ]


def run_workflow(kit: Kit) -> Workflow:
    """Return the work of one run; its key is the run's id."""
    placing, running, serving = Placing(kit), Running(kit), Serving(kit)

    async def ended(work: Run, state: WorkState, reason: str) -> None:
        """End the run when the work itself broke."""
        scene = await scene_of(kit, work.key)
        if state is not WorkState.DONE and scene is not None:
            await end_run(kit, scene, RunState.FAILED, reason)

    steps = [
        Step("place", placing.place),
        Step("choose", placing.choose),
        Step("stage", placing.stage),
        Step("await_data", placing.await_data),
        Step("submit", running.submit),
        Step("watch", running.watch),
        Step("probe", serving.probe),
        Step("serve", serving.serve),
        Step("drain", serving.drain),
        Step("pause", placing.pause),
        Step("stop", running.stop),
    ]
    return Workflow(RUN, steps, on_end=ended, max_attempts=WITHOUT_END)


class Calling:
    """Tells a callback URL of one status; its key is ``<deployment>/<revision>``."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def workflow(self) -> Workflow:
        """Return the work as the engine takes it."""
        return Workflow(CALL, [Step("send", self.send)])

    async def send(self, work: Run) -> Outcome:
        """Send in turn; pause and repeat while nobody takes it, drop it after its time."""
        kit, now = self._kit, self._kit.clock.now()
        deployment_id, _, number = work.key.partition("/")
        async with kit.store.view() as view:
            earlier = [each for each in await view.calls(deployment_id) if each < int(number)]
        if earlier:
            return Wait(CALL_PAUSE_S[1], "an earlier status is still to be told")
        first = parse_rfc3339(work.data.setdefault("first", rfc3339(now)))
        try:
            await kit.callbacks.send(work.data["url"], work.data["body"], number=number)
        except InvalidRequest as error:
            return await self._over(work, f"refused: {error.detail}")
        except TwinfraError as error:
            if (now - first).total_seconds() > kit.settings.callback_within_s:
                return await self._over(work, f"dropped: {error.detail}")
            tries = int(work.data.get("tries", 0))
            work.data["tries"] = tries + 1
            return Wait(min(CALL_PAUSE_S[1], CALL_PAUSE_S[0] * 2 ** min(tries, 9)), error.detail)
        return await self._over(work, "")

    async def _over(self, work: Run, trouble: str) -> Outcome:
        """Let the next status be told, and write down one that was not."""
        deployment_id, _, number = work.key.partition("/")
        async with self._kit.store.unit() as unit:
            deployment = await unit.deployment(deployment_id)
            if deployment is not None and trouble:
                line = {"number": int(number), "reason": trouble}
                await unit.note(deployment_id, self._kit.clock.now(), "callback", line)
            await unit.called(deployment_id, int(number))
            for following in (await unit.calls(deployment_id))[:1]:
                await unit.wake(CALL, f"{deployment_id}/{following}")
        return Done()
