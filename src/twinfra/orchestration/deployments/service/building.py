"""Steps that build a generation of a deployment: nodes in their order, webhooks, outputs.

Each node is carried out by a run of its own (``running``); the build only begins runs whose
predecessors are ready and waits to be woken by their end.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from twinfra.core.errors import NotFound, TwinfraError
from twinfra.core.workflow import Done, Goto, Next, Outcome, Run, Step, Wait, Workflow, WorkState
from twinfra.orchestration.deployments.model.intent import DELIVER
from twinfra.orchestration.deployments.model.records import Deployment, Node, NodeRun, Policy
from twinfra.orchestration.deployments.model.standing import is_ready
from twinfra.orchestration.deployments.model.states import (
    BUILDING,
    NodeState,
    RunState,
    Status,
    Trigger,
    after,
)
from twinfra.orchestration.deployments.model.views import service_url
from twinfra.orchestration.deployments.service.attributes import outputs_of
from twinfra.orchestration.deployments.service.beginning import (
    begin_run,
    cancel_run,
    cancel_runs,
    clean_up,
)
from twinfra.orchestration.deployments.service.kit import BUILD, Kit, seconds_until
from twinfra.orchestration.deployments.service.telling import tell_status
from twinfra.orchestration.deployments.store import Unit, View

LOOK_AGAIN_S = 300.0
NEIGHBOUR_AWAY_S = 5.0
TOO_LATE = "the time limit of {} minutes passed"


class Building:
    """The steps, on the ports of a kit."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def workflow(self) -> Workflow:
        """Return the work as the engine takes it; its key is ``<deployment>/<generation>``."""
        steps = [
            Step("nodes", self.nodes),
            Step("links", self.links),
            Step("prune", self.prune),
            Step("finish", self.finish),
            Step("rollback", self.rollback),
        ]
        return Workflow(BUILD, steps, on_end=self.ended)

    async def nodes(self, work: Run) -> Outcome:
        """Begin what can begin; go on when all nodes are ready, roll back when one failed."""
        kit = self._kit
        async with kit.store.unit() as unit:
            deployment = await _current(unit, work)
            if deployment is None:
                return Done()
            nodes = [node for node in await unit.nodes(deployment.id) if not node.removed]
            runs = await unit.runs(deployment.id)
            ready = {node.name for node in nodes if is_ready(node, runs)}
            failed = [run for node in nodes if (run := _failed(node, runs)) is not None]
            late = deployment.deadline_at is not None and deployment.deadline_at <= kit.clock.now()
            if failed or (late and len(ready) < len(nodes)):
                reasons = [f"{run.node}: {run.reason}" for run in failed]
                limit = TOO_LATE.format(deployment.wishes.timeout_mins)
                work.data["reason"] = "; ".join(reasons) or limit
                return Goto("rollback")
            for node in nodes:
                await self._begin(unit, deployment, node, ready)
        if len(ready) == len(nodes):
            return Next()
        wait_s = seconds_until(kit.clock.now(), deployment.deadline_at, most=LOOK_AGAIN_S)
        return Wait(wait_s, "nodes are being built")

    async def links(self, work: Run) -> Outcome:
        """Make the webhooks that the policies ask for, and end those they no longer ask for."""
        kit = self._kit
        async with kit.store.view() as view:
            deployment = await _current(view, work)
            if deployment is None:
                return Done()
            policies = await view.policies(deployment.id)
            nodes = {node.name: node for node in await view.nodes(deployment.id)}
        for policy in policies:
            try:
                if policy.removed:
                    await unlink(kit, deployment, policy)
                elif policy.action == DELIVER and policy.subscription is None:
                    await self._link(deployment, policy, nodes[policy.node])
            except TwinfraError as error:
                if not error.retryable:
                    work.data["reason"] = f"policy {policy.name}: {error.detail}"
                    return Goto("rollback")
                return Wait(NEIGHBOUR_AWAY_S, error.detail)
        return Next()

    async def prune(self, work: Run) -> Outcome:
        """Take away the nodes that an update left out."""
        async with self._kit.store.unit() as unit:
            deployment = await _current(unit, work)
            if deployment is None:
                return Done()
            gone = [node for node in await unit.nodes(deployment.id) if node.removed]
            for node in sorted(gone, key=lambda each: -each.place):
                if await take_away(unit, node):
                    return Wait(LOOK_AGAIN_S, f"{node.name} is being taken away")
                await unit.forget_node(node.id)
        return Next()

    async def finish(self, work: Run) -> Outcome:
        """Fill in the outputs and say that it stands."""
        async with self._kit.store.unit() as unit:
            deployment = await _current(unit, work)
            if deployment is not None:
                outputs = await outputs_of(unit, deployment, self._kit.base_url)
                status = after(deployment.status, good=True)
                await tell_status(self._kit, unit, deployment, status, outputs=outputs)
        return Done()

    async def rollback(self, work: Run) -> Outcome:
        """Stop what this generation began; what an update found in place goes on."""
        kit = self._kit
        async with kit.store.unit() as unit:
            deployment = await _current(unit, work)
            if deployment is None:
                return Done()
            open_runs = [
                run for run in await unit.runs(deployment.id) if _must_stop(deployment, run)
            ]
            for run in open_runs:
                await cancel_run(unit, run)
            if open_runs:
                return Wait(LOOK_AGAIN_S, "runs are being stopped")
            status = after(deployment.status, good=False)
            outputs = await outputs_of(unit, deployment, kit.base_url)
            reason = str(work.data.get("reason", ""))
            await tell_status(kit, unit, deployment, status, reason, outputs=outputs)
        return Done()

    async def ended(self, work: Run, state: WorkState, reason: str) -> None:
        """Say so when the work itself broke; an end that the steps chose has been told."""
        if state is WorkState.DONE:
            return
        async with self._kit.store.unit() as unit:
            deployment = await _current(unit, work)
            if deployment is not None:
                status = after(deployment.status, good=False)
                await tell_status(self._kit, unit, deployment, status, reason)

    async def _begin(self, unit: Unit, deployment: Deployment, node: Node, ready: set[str]) -> None:
        if node.name in ready or not ready.issuperset(node.depends_on):
            return
        first = node.generation == 1
        await begin_run(
            self._kit,
            unit,
            deployment,
            node,
            Trigger.DEPLOY if first else Trigger.UPDATE,
            cause=f"generation/{node.generation}",
        )

    async def _link(self, deployment: Deployment, policy: Policy, node: Node) -> None:
        kit = self._kit
        url = service_url(kit.base_url, node.id).rstrip("/") + policy.path
        subscription = await kit.webhooks.subscribe(
            deployment.permit,
            name=f"{deployment.id}/{policy.name}/{policy.node}",
            types=policy.types,
            condition=policy.condition,
            url=url,
            group=deployment.group,
        )
        async with kit.store.unit() as unit:
            await unit.save(replace(policy, subscription=subscription))


async def unlink(kit: Kit, deployment: Deployment, policy: Policy) -> None:
    """End a policy's webhook, then forget the policy.

    Raises:
        TwinfraError: the notification service did not end it; repeat it.
    """
    if policy.subscription is not None:
        with suppress(NotFound):
            await kit.webhooks.unsubscribe(deployment.permit, policy.subscription)
    async with kit.store.unit() as unit:
        await unit.forget_policy(policy.id)


async def take_away(unit: Unit, node: Node) -> list[str]:
    """Stop a node's runs and have its sites cleaned; return what is still there."""
    if node.state is not NodeState.DELETING:
        await unit.save(replace(node, state=NodeState.DELETING))
    running = await cancel_runs(unit, node.deployment, node.name)
    left = await clean_up(unit, node.deployment, node.name)
    return left or [f"{run.node}: run {run.number}" for run in running]


async def _current(view: View, work: Run) -> Deployment | None:
    """Return the deployment if this work is still about its present generation."""
    deployment_id, _, generation = work.key.partition("/")
    deployment = await view.deployment(deployment_id)
    if deployment is None or deployment.status not in BUILDING:
        return None
    return deployment if deployment.generation == int(generation) else None


def _must_stop(deployment: Deployment, run: NodeRun) -> bool:
    """Say whether `run` goes when this generation failed: all of a creation, or what it began."""
    if run.state.final:
        return False
    if deployment.status is Status.CREATE_IN_PROGRESS:
        return not (run.state is RunState.SERVING and deployment.wishes.keep_last_attempt)
    began = run.generation == deployment.generation and run.trigger is Trigger.UPDATE
    return began and run.state is not RunState.SERVING


def _failed(node: Node, runs: Sequence[NodeRun]) -> NodeRun | None:
    """Return the run that should have made the node and did not, if no other is under way."""
    mine = [run for run in runs if run.node == node.name and run.generation >= node.generation]
    meant = [run for run in mine if run.trigger in {Trigger.DEPLOY, Trigger.UPDATE}]
    if node.armed or not meant or is_ready(node, runs):
        return None
    if any(not run.state.final for run in mine):
        return None
    return meant[-1]
