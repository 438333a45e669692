"""Steps that remove a deployment: webhooks, then nodes in reverse order, then its permit.

Also the work that clears one ended attempt from its site, which goes on until it is proved gone,
whatever became of the deployment.
"""

from dataclasses import replace

from twinfra.core.errors import TwinfraError
from twinfra.core.workflow import Done, Next, Outcome, Run, Step, Wait, Workflow, WorkState
from twinfra.orchestration.deployments.model.records import Attempt, Deployment
from twinfra.orchestration.deployments.model.states import Status
from twinfra.orchestration.deployments.service.building import take_away, unlink
from twinfra.orchestration.deployments.service.kit import CLEAN, REMOVE, RUN, Kit
from twinfra.orchestration.deployments.service.telling import (
    tell_progress,
    tell_status,
    wake_parents,
)
from twinfra.orchestration.deployments.store import View
from twinfra.orchestration.infrastructure.model import Handle

LOOK_AGAIN_S = 300.0
AWAY_S = (1.0, 60.0)
ENDING_S = 1.0
WITHOUT_END = 10**9


class Removing:
    """The steps, on the ports of a kit."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def workflow(self) -> Workflow:
        """Return the work as the engine takes it; its key is ``<deployment>/<generation>``."""
        steps = [
            Step("links", self.links),
            Step("nodes", self.nodes),
            Step("finish", self.finish),
        ]
        return Workflow(REMOVE, steps, on_end=self.ended)

    async def links(self, work: Run) -> Outcome:
        """End the webhooks, so that nothing new comes in."""
        kit = self._kit
        async with kit.store.view() as view:
            deployment = await _leaving(view, work)
            if deployment is None:
                return Done()
            policies = await view.policies(deployment.id)
        for policy in policies:
            try:
                await unlink(kit, deployment, policy)
            except TwinfraError as error:
                if work.data.get("force"):
                    continue
                await self._say(deployment, f"policy {policy.name}: {error.detail}")
                return Wait(_pause_s(work), error.detail)
        return Next()

    async def nodes(self, work: Run) -> Outcome:
        """Take the nodes away, those that others need last."""
        async with self._kit.store.unit() as unit:
            deployment = await _leaving(unit, work)
            if deployment is None:
                return Done()
            nodes = await unit.nodes(deployment.id)
            left: dict[str, list[str]] = {}
            for node in sorted(nodes, key=lambda each: -each.place):
                needed_by = [each.name for each in nodes if node.name in each.depends_on]
                if not work.data.get("force") and any(name in left for name in needed_by):
                    left[node.name] = []
                    continue
                if still := await take_away(unit, node):
                    left[node.name] = still
            there = [each for still in left.values() for each in still]
            work.data["orphans"] = there
        if work.data.get("force") or not left:
            return Next()
        return Wait(LOOK_AGAIN_S, "nodes are being taken away")

    async def finish(self, work: Run) -> Outcome:
        """End the owner's permit and say that it is gone; a forced removal names what is left."""
        kit = self._kit
        async with kit.store.view() as view:
            deployment = await _leaving(view, work)
        if deployment is None:
            return Done()
        orphans = work.data.get("orphans", [])
        if not orphans:
            try:
                await kit.permits.revoke(deployment.permit)
            except TwinfraError as error:
                if error.retryable:
                    return Wait(_pause_s(work), error.detail)
        async with kit.store.unit() as unit:
            still = await _leaving(unit, work)
            if still is not None:
                reason = f"left behind: {'; '.join(orphans)}" if orphans else ""
                await tell_status(kit, unit, still, Status.DELETE_COMPLETE, reason)
        return Done()

    async def ended(self, work: Run, state: WorkState, reason: str) -> None:
        """Say so when the work itself broke."""
        if state is WorkState.DONE:
            return
        async with self._kit.store.unit() as unit:
            deployment = await _leaving(unit, work)
            if deployment is not None:
                await tell_status(self._kit, unit, deployment, Status.DELETE_FAILED, reason)

    async def _say(self, deployment: Deployment, reason: str) -> None:
        async with self._kit.store.unit() as unit:
            present = await unit.deployment(deployment.id)
            if present is not None and present.status_reason != reason:
                await unit.save(replace(present, status_reason=reason))


class Cleaning:
    """Clears an ended attempt from its site; its key is the attempt's id."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def workflow(self) -> Workflow:
        """Return the work as the engine takes it; it does not give up."""
        steps = [Step("pod", self.pod), Step("rules", self.rules), Step("finish", self.finish)]
        return Workflow(CLEAN, steps, max_attempts=WITHOUT_END)

    async def pod(self, work: Run) -> Outcome:
        """Have the site end and forget the pod; go on when it proves that it runs no more."""
        kit = self._kit
        attempt, deployment = await self._look(work)
        if attempt is None or deployment is None or attempt.gone:
            return Done()
        handle = Handle.of(attempt.id, attempt.node, deployment.group)
        await kit.traffic.drop(attempt.id)
        try:
            await kit.driver.delete(attempt.target, handle)
            left = await kit.driver.status(attempt.target, [handle], restarting=False)
            if handle.uid in left and not left[handle.uid].phase.final:
                return Wait(ENDING_S, "its site is ending it")
        except TwinfraError as error:
            text = f"{attempt.node} is still to be removed: {error.detail}"
            if work.data.get("said") != text:
                work.data["said"] = text
                async with kit.store.unit() as unit:
                    await tell_progress(kit, unit, attempt, text)
            return Wait(_pause_s(work), error.detail)
        return Next()

    async def rules(self, work: Run) -> Outcome:
        """Let go of the data that only this attempt needed."""
        kit = self._kit
        attempt, deployment = await self._look(work)
        if attempt is None or deployment is None:
            return Done()
        async with kit.store.view() as view:
            holds = await view.holds(attempt.id)
            alone = [hold for hold in holds if set(await view.holders(hold.rule)) == {attempt.id}]
        for hold in alone:
            try:
                await kit.data.release(hold.rule, deployment.permit)
            except TwinfraError as error:
                if error.retryable:
                    return Wait(_pause_s(work), error.detail)
        return Next()

    async def finish(self, work: Run) -> Outcome:
        """Note that nothing is left."""
        seen, _ = await self._look(work)
        if seen is None:
            return Done()
        async with self._kit.store.unit() as unit:
            deployment = await unit.deployment(seen.deployment)
            attempt = await unit.attempt(work.key)
            if attempt is not None and deployment is not None:
                await unit.drop_holds(attempt.id)
                await unit.save(replace(attempt, gone=True, kept=False))
                await unit.wake(RUN, attempt.run)
                await wake_parents(unit, deployment)
        return Done()

    async def _look(self, work: Run) -> tuple[Attempt | None, Deployment | None]:
        async with self._kit.store.view() as view:
            attempt = await view.attempt(work.key)
            if attempt is None:
                return None, None
            return attempt, await view.deployment(attempt.deployment)


def _pause_s(work: Run) -> float:
    """Return a pause that doubles each time this work asks for one."""
    count = int(work.data.get("pauses", 0))
    work.data["pauses"] = count + 1
    return float(min(AWAY_S[1], AWAY_S[0] * 2 ** min(count, 10)))


async def _leaving(view: View, work: Run) -> Deployment | None:
    """Return the deployment if this work is still to remove it."""
    deployment_id, _, generation = work.key.partition("/")
    deployment = await view.deployment(deployment_id)
    if deployment is None or deployment.status is not Status.DELETE_IN_PROGRESS:
        return None
    return deployment if deployment.generation == int(generation) else None
