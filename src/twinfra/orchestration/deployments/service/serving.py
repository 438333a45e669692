"""Steps of a run that is a version of a service: probe, take over, keep, drain.

One version at a time is the node's active run; requests go to it. A new one takes over once it
answers its readiness probe; the old one finishes its requests, then its pod goes.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from twinfra.core.errors import TwinfraError
from twinfra.core.time import parse_rfc3339, rfc3339
from twinfra.core.workflow import Done, Goto, Outcome, Run, Wait
from twinfra.orchestration.deployments.model.intent import Intent
from twinfra.orchestration.deployments.model.states import Failure, RunState
from twinfra.orchestration.deployments.ports import Ranked
from twinfra.orchestration.deployments.service.ending import (
    PLACE,
    STOP,
    abandon,
    end_run,
    fail_attempt,
)
from twinfra.orchestration.deployments.service.kit import RUN, Kit, Scene, scene_of
from twinfra.orchestration.deployments.service.placing import halted, late, requirements_of
from twinfra.orchestration.deployments.service.running import look
from twinfra.orchestration.deployments.service.telling import tell_run, wake_parents

STATUS_LOOKS = 8
DRAIN_LEAST_S, DRAIN_LOOK_S = 1.5, 0.25
UNSEEN_LOOK_S = 2.0


class Serving:
    """The steps, on the ports of a kit."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def probe(self, work: Run) -> Outcome:
        """Ask until it is ready, then let it take over."""
        kit = self._kit
        scene = await scene_of(kit, work.key)
        if (stop := await halted(kit, scene)) or scene is None:
            return stop or Done()
        if not scene.open_attempts:
            return Goto("choose")
        if await kit.traffic.ready(scene.attempt.id):
            return await self._take_over(scene)
        looks = int(work.data.get("looks", 0)) + 1
        work.data["looks"] = looks
        if looks % STATUS_LOOKS == 0:
            return Goto("watch") if await self._fine(scene) else await self._lost(scene)
        begun = scene.run.updated_at
        limit = begun + timedelta(seconds=kit.settings.ready_within_s)
        if kit.clock.now() > limit or await late(kit, scene):
            reason = f"not ready within {kit.settings.ready_within_s:.0f} s"
            return await fail_attempt(kit, scene, Failure.NOT_READY, reason)
        pause_s = kit.settings.probe_every_s * 2 ** min(looks // STATUS_LOOKS, 3)
        return Wait(pause_s, "not ready yet")

    async def serve(self, work: Run) -> Outcome:
        """Keep the version that serves: renew its data, notice when its pod or site is lost."""
        kit = self._kit
        scene = await scene_of(kit, work.key)
        if (stop := await halted(kit, scene)) or scene is None:
            return stop or Done()
        if scene.node.active_run != scene.run.id:
            return Goto("drain")
        if not scene.open_attempts:
            return Goto(PLACE)
        try:
            seen = await look(kit, scene)
        except TwinfraError as error:
            return await self._unseen(scene, error.detail)
        if seen is None or seen.phase.final:
            reason = "the site knows it no more" if seen is None else f"{seen.reason}: it ended"
            await abandon(kit, scene, reason)
            return Goto(PLACE)
        if scene.attempt.unseen_since is not None or seen.restarts != scene.attempt.restarts:
            async with kit.store.unit() as unit:
                known = replace(scene.attempt, unseen_since=None, restarts=seen.restarts)
                await unit.save(known)
        await self._renew(scene, work)
        return Wait(kit.settings.status_every_s, "serving")

    async def drain(self, work: Run) -> Outcome:
        """Let requests to an old version finish, within a bound; then end it."""
        kit, now = self._kit, self._kit.clock.now()
        scene = await scene_of(kit, work.key)
        if scene is None or scene.run.state.final:
            return Done()
        if not scene.open_attempts:
            return await end_run(kit, scene, RunState.RETIRED, "replaced")
        if scene.run.state is not RunState.DRAINING:
            async with kit.store.unit() as unit:
                run = await unit.run(scene.run.id)
                if run is not None and not run.state.final:
                    draining = replace(run, state=RunState.DRAINING)
                    await tell_run(kit, unit, draining, scene.attempt)
        until = now + timedelta(seconds=kit.settings.drain_within_s)
        if "drain_until" not in work.data:
            work.data["drain_until"] = rfc3339(until)
            return Wait(DRAIN_LEAST_S, "others may still send requests here")
        until = parse_rfc3339(work.data["drain_until"])
        left = kit.traffic.in_flight(scene.attempt.id)
        if left and now < until and not scene.run.cancel:
            return Wait(DRAIN_LOOK_S, f"{left} requests are still being answered")
        reason = "replaced" if not left else f"replaced; {left} requests were cut off"
        return await end_run(kit, scene, RunState.RETIRED, reason)

    async def _take_over(self, scene: Scene) -> Outcome:
        """Make this run the active one, unless a newer version already is."""
        kit = self._kit
        async with kit.store.unit() as unit:
            deployment = await unit.deployment(scene.deployment.id)
            node = await unit.node(scene.node.id)
            run = await unit.run(scene.run.id)
            if deployment is None or node is None or run is None or run.cancel:
                return Goto(STOP)
            old = await unit.run(node.active_run) if node.active_run else None
            if old is not None and old.number > run.number:
                await unit.wake(RUN, run.id)
                return Goto("drain")
            await unit.save(replace(node, active_run=run.id))
            ready = replace(scene.attempt, reached=RunState.SERVING)
            await tell_run(kit, unit, replace(run, state=RunState.SERVING, reason=""), ready)
            await wake_parents(unit, deployment)
            for other in await unit.runs(run.deployment, run.node):
                if other.id != run.id and not other.state.final:
                    await unit.wake(RUN, other.id)
        kit.traffic.switch(scene.node.id)
        return Goto("serve")

    async def _fine(self, scene: Scene) -> bool:
        """Say whether the pod that is not ready yet is still there; an absent site is no proof."""
        try:
            seen = await look(self._kit, scene)
        except TwinfraError:
            return True
        return seen is not None and not seen.phase.final

    async def _lost(self, scene: Scene) -> Outcome:
        return await fail_attempt(
            self._kit, scene, Failure.LOST, "it ended before it was ready to serve"
        )

    async def _unseen(self, scene: Scene, reason: str) -> Outcome:
        """Wait for the site; after too long serve from another one, if there is one."""
        kit, now, attempt = self._kit, self._kit.clock.now(), scene.attempt
        if attempt.unseen_since is None:
            async with kit.store.unit() as unit:
                await unit.save(replace(attempt, unseen_since=now))
            return Wait(UNSEEN_LOOK_S, reason)
        lost_at = attempt.unseen_since + timedelta(seconds=kit.settings.site_lost_after_s)
        if now >= lost_at and (await self._elsewhere(scene)).sites:
            await abandon(kit, scene, f"{attempt.target.site} is away: {reason}")
            return Goto(PLACE)
        return Wait(UNSEEN_LOOK_S, reason)

    async def _elsewhere(self, scene: Scene) -> Ranked:
        """Return how other sites rank; nothing when ranking is away."""
        intent = Intent.from_json(scene.run.intent or {})
        try:
            return await self._kit.ranking.rank(
                requirements_of(intent),
                intent.inputs,
                group=scene.deployment.group,
                deployment=scene.deployment.id,
                exclude=(scene.attempt.target.site,),
            )
        except TwinfraError:
            return Ranked((), {})

    async def _renew(self, scene: Scene, work: Run) -> None:
        """Ask anew for the rules that keep a service's inputs, at half of their life."""
        kit, now = self._kit, self._kit.clock.now()
        half = timedelta(seconds=kit.settings.rule_lifetime_s / 2)
        last = _moment(work.data.get("renewed")) or scene.attempt.created_at
        if now - last < half:
            return
        async with kit.store.view() as view:
            holds = await view.holds(scene.attempt.id)
        for hold in holds:
            await kit.data.keep(
                hold.did,
                scene.attempt.target.rse or "",
                scene.deployment.permit,
                lifetime_s=kit.settings.rule_lifetime_s,
                meta={"deployment": scene.deployment.id, "group": scene.deployment.group},
            )
        work.data["renewed"] = rfc3339(now)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_rfc3339(text)
