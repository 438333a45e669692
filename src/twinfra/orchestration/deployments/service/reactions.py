"""What the bus and the sites tell, and what follows: waiting work is woken, runs begin.

Handlers are idempotent: a run is begun once for a cause, and waking too often does no harm.
"""

from collections.abc import Iterable

from twinfra.core.bus import Event
from twinfra.core.telemetry import get_logger
from twinfra.orchestration.deployments.model.happenings import followed, wants
from twinfra.orchestration.deployments.model.intent import RUN as RUN_ACTION
from twinfra.orchestration.deployments.model.records import Node, Policy
from twinfra.orchestration.deployments.model.states import RunState, Trigger
from twinfra.orchestration.deployments.service.beginning import begin_run
from twinfra.orchestration.deployments.service.kit import RUN, Kit
from twinfra.orchestration.infrastructure.model import Target

log = get_logger(__name__)


class Reactions:
    """The handlers, on the ports of a kit."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def rule(self, event: Event) -> None:
        """Let the runs look that wait for this rule."""
        rule_id = (event.data or {}).get("rule_id")
        if not rule_id:
            return
        async with self._kit.store.unit() as unit:
            for attempt_id in await unit.holders(str(rule_id)):
                attempt = await unit.attempt(attempt_id)
                if attempt is not None and attempt.ended_at is None:
                    await unit.wake(RUN, attempt.run)

    async def site(self, event: Event) -> None:
        """Let the runs look that have something at this site, or wait for any."""
        site = (event.data or {}).get("site") or event.site
        async with self._kit.store.unit() as unit:
            for attempt in await unit.open_attempts():
                if attempt.target.site == site:
                    await unit.wake(RUN, attempt.run)
            for run in await unit.runs_in(RunState.PLACING):
                await unit.wake(RUN, run.id)

    async def changed(self, target: Target, uid: str) -> None:
        """Let the run of this pod look; without a uid, all that have something at `target`."""
        async with self._kit.store.unit() as unit:
            if uid:
                attempt = await unit.attempt(uid)
                open_ones = [attempt] if attempt is not None else []
            else:
                open_ones = [
                    each
                    for each in await unit.open_attempts()
                    if each.target.endpoint == target.endpoint
                ]
            for each in open_ones:
                if each.ended_at is None:
                    await unit.wake(RUN, each.run)

    async def happened(self, event: Event) -> None:
        """Begin what policies and followed data ask for."""
        async with self._kit.store.view() as view:
            policies = [each for each in await view.policies() if each.action == RUN_ACTION]
            followers = await view.followers() if followed(event) else []
        for policy in policies:
            await self._run(policy, event)
        for node in followers:
            if followed(event) in node.follow:
                await self._roll(node, event)

    async def _run(self, policy: Policy, event: Event) -> None:
        kit = self._kit
        async with kit.store.unit() as unit:
            deployment = await unit.deployment(policy.deployment)
            if deployment is None or not deployment.status.standing:
                return
            if not wants(policy, event, group=deployment.group):
                return
            node = await unit.node_named(policy.deployment, policy.node)
            if node is None or node.removed:
                return
            if policy.coalesce and _waits(await unit.runs(deployment.id, node.name)):
                return
            begun = await begin_run(
                kit, unit, deployment, node, Trigger.EVENT, cause=event.id, event=event.to_json()
            )
        if begun is not None:
            log.info("run_begun_by_event", run=begun.id, event_id=event.id, type=event.type)

    async def _roll(self, node: Node, event: Event) -> None:
        kit = self._kit
        async with kit.store.unit() as unit:
            deployment = await unit.deployment(node.deployment)
            if deployment is None or not deployment.status.standing:
                return
            if event.group not in {None, deployment.group}:
                return
            present = await unit.node(node.id)
            if present is None or present.removed or present.active_run is None:
                return
            version = (event.data or {}).get("version", event.id)
            begun = await begin_run(
                kit,
                unit,
                deployment,
                present,
                Trigger.FOLLOW,
                cause=f"follow/{followed(event)}/{version}",
                event=event.to_json(),
            )
        if begun is not None:
            log.info("service_rolled", run=begun.id, node=node.name, version=str(version))


def _waits(runs: Iterable[object]) -> bool:
    """Say whether a run by event is there that has not begun yet: it will see what is new too."""
    return any(getattr(run, "state", None) is RunState.QUEUED for run in runs)
