"""Steps of a run until its pod can be made: rank, choose a site, bring the data there.

Neighbour: ``running`` makes the pod and follows it, ``serving`` keeps a service.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

from twinfra.core.errors import (
    InsufficientScope,
    InvalidRequest,
    NotFound,
    TwinfraError,
    Unauthenticated,
)
from twinfra.core.ids import derived_uuid
from twinfra.core.workflow import Done, Goto, Next, Outcome, Run, Wait
from twinfra.orchestration.deployments.model.choices import (
    GiveUp,
    may_pass,
    next_try,
    restart_pause_s,
)
from twinfra.orchestration.deployments.model.intent import Intent, intent_of
from twinfra.orchestration.deployments.model.records import Attempt, Hold, NodeRun, Placement
from twinfra.orchestration.deployments.model.states import (
    AttemptState,
    Failure,
    Role,
    RunState,
)
from twinfra.orchestration.deployments.ports import Ranked
from twinfra.orchestration.deployments.service.attributes import attributes_of, plan_of
from twinfra.orchestration.deployments.service.ending import (
    PLACE,
    STOP,
    end_run,
    fail_attempt,
)
from twinfra.orchestration.deployments.service.kit import (
    CLEAN,
    Kit,
    Scene,
    later,
    rest,
    scene_of,
    seconds_until,
)
from twinfra.orchestration.deployments.service.telling import tell_progress, tell_run

RULE_LOOK_S = 60.0
TURN_S = 60.0
PROOF_S, NOWHERE_S = 30.0, 10.0
AWAY_S = 2.0


class Placing:
    """The steps, on the ports of a kit."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def place(self, work: Run) -> Outcome:
        """Have the sites ranked and keep the answer; a version of a service waits for its turn."""
        kit = self._kit
        scene = await scene_of(kit, work.key)
        if (stop := await halted(kit, scene)) or scene is None:
            return stop or Done()
        if scene.open_attempts:
            return Next()
        if (turn := await self._turn(scene)) is not None:
            return turn
        if scene.run.state is not RunState.PLACING:
            await self._show(scene, RunState.PLACING)
        intent = await self._intent(scene)
        if isinstance(intent, str):
            return await end_run(kit, scene, RunState.FAILED, intent)
        try:
            ranked = await kit.ranking.rank(
                requirements_of(intent),
                intent.inputs,
                group=scene.deployment.group,
                deployment=scene.deployment.id,
            )
        except (InvalidRequest, InsufficientScope) as error:
            return await end_run(kit, scene, RunState.FAILED, f"ranking: {error.detail}")
        except TwinfraError as error:
            return await self._away(scene, f"ranking: {error.detail}")
        return await self._keep(scene, intent, ranked)

    async def choose(self, work: Run) -> Outcome:
        """Begin an attempt at the next site, or end the run when none is left."""
        kit = self._kit
        scene = await scene_of(kit, work.key)
        if (stop := await halted(kit, scene)) or scene is None:
            return stop or Done()
        if scene.open_attempts:
            return Next()
        intent = Intent.from_json(scene.run.intent or {})
        choice = next_try(
            scene.run.candidates,
            scene.of_cycle,
            max_providers=scene.deployment.wishes.max_providers_retry,
            job_retries=intent.max_retries,
        )
        if isinstance(choice, GiveUp):
            return await self._give_up(scene, choice)
        before = f"before attempt {scene.last_number + 1}"
        if choice.pause_s and (pause := rest(kit, work, before, choice.pause_s)):
            return pause
        if (proof := await self._prove_gone(scene, work)) is not None:
            return proof
        try:
            await self._begin(scene, choice.site)
        except NotFound:
            without = tuple(site for site in scene.run.candidates if site != choice.site)
            await self._save(replace(scene.run, candidates=without))
            return Goto("choose")
        except TwinfraError as error:
            return await self._away(scene, f"catalogue: {error.detail}")
        return Next()

    async def stage(self, work: Run) -> Outcome:
        """Ask for a copy of each input at the chosen site."""
        kit = self._kit
        scene = await scene_of(kit, work.key)
        if (stop := await halted(kit, scene)) or scene is None:
            return stop or Done()
        if not scene.open_attempts:
            return Goto("choose")
        intent = Intent.from_json(scene.run.intent or {})
        if intent.inputs and scene.attempt.target.rse is None:
            reason = f"{scene.attempt.target.site} has no storage to bring the inputs to"
            return await fail_attempt(kit, scene, Failure.PROVIDER, reason)
        try:
            await self._ask_for_copies(scene, intent)
        except NotFound as error:
            return await end_run(kit, scene, RunState.FAILED, f"input data: {error.detail}")
        except (Unauthenticated, InsufficientScope) as error:
            reason = f"input data: the owner's permission does not hold: {error.detail}"
            return await end_run(kit, scene, RunState.FAILED, reason)
        except TwinfraError as error:
            if error.retryable or error.status >= 500:
                return await self._away(scene, f"datasets: {error.detail}")
            return await fail_attempt(kit, scene, Failure.DATA, error.detail)
        return Next()

    async def await_data(self, work: Run) -> Outcome:
        """Wait until every rule is OK; one that is stuck ends the attempt with its reason."""
        kit = self._kit
        scene = await scene_of(kit, work.key)
        if (stop := await halted(kit, scene)) or scene is None:
            return stop or Done()
        if not scene.open_attempts:
            return Goto("choose")
        async with kit.store.view() as view:
            holds = await view.holds(scene.attempt.id)
        waiting: list[str] = []
        for hold in holds:
            try:
                rule = await kit.data.rule(hold.rule)
            except TwinfraError as error:
                return await self._away(scene, f"datasets: {error.detail}")
            if rule is None:
                return Goto("stage")
            if rule.state in {"STUCK", "SUSPENDED"}:
                reason = f"{hold.did} at {scene.attempt.target.rse}: {rule.state} {rule.reason}"
                return await fail_attempt(kit, scene, Failure.DATA, reason.strip())
            if rule.state != "OK":
                waiting.append(hold.did)
        if not waiting:
            return Next()
        if await late(kit, scene):
            reason = f"{', '.join(waiting)} did not arrive within the provider's time limit"
            return await fail_attempt(kit, scene, Failure.TIMEOUT, reason)
        wait_s = seconds_until(
            kit.clock.now(), scene.attempt.deadline_at, scene.run.deadline_at, most=RULE_LOOK_S
        )
        return Wait(wait_s, f"waiting for {', '.join(waiting)}")

    async def _turn(self, scene: Scene) -> Outcome | None:
        """Let one version of a service come up at a time; a newer one replaces those waiting."""
        if scene.node.role is not Role.SERVICE or scene.run.state is not RunState.QUEUED:
            return None
        async with self._kit.store.view() as view:
            runs = await view.runs(scene.run.deployment, scene.run.node)
        if any(each.number > scene.run.number and not each.cancel for each in runs):
            reason = "a newer version replaced it before it began"
            return await end_run(self._kit, scene, RunState.CANCELLED, reason)
        coming = [
            each
            for each in runs
            if each.number < scene.run.number
            and not each.state.final
            and each.state not in {RunState.SERVING, RunState.DRAINING}
            and each.id != scene.node.active_run
        ]
        return Wait(TURN_S, "an earlier version is coming up") if coming else None

    async def _intent(self, scene: Scene) -> Intent | str:
        """Return what is run, fixed at the first look, or why that cannot be said."""
        if scene.run.intent is not None:
            return Intent.from_json(scene.run.intent)
        async with self._kit.store.view() as view:
            known = await attributes_of(view, scene.deployment, self._kit.base_url)
        try:
            return intent_of(plan_of(scene.deployment), scene.run.node, known)
        except (ValueError, KeyError) as error:
            return f"the template cannot be carried out: {error}"

    async def _keep(self, scene: Scene, intent: Intent, ranked: Ranked) -> Outcome:
        """Write down what ranking said; where it found nothing only what stood before waits."""
        kit = self._kit
        placed = Placement(
            scene.run.id, scene.deployment.id, scene.node.name, scene.run.cycle,
            kit.clock.now(), ranked.body,
        )  # fmt: skip
        async with kit.store.unit() as unit:
            run = await unit.run(scene.run.id)
            if run is None:
                return Done()
            await unit.put(placed)
            kept = replace(run, candidates=ranked.sites, intent=intent.to_json())
            if ranked.sites:
                best = f"ranked {', '.join(ranked.sites)}"
                await tell_run(kit, unit, kept, candidates=list(ranked.sites), choice=best)
            else:
                await unit.save(kept)
        if ranked.sites:
            return Next()
        reason = _nowhere(ranked.body)
        stood = scene.run.cycle and scene.node.active_run == scene.run.id
        since = kit.clock.now() - scene.run.updated_at
        patient = since < timedelta(seconds=kit.settings.placement_patience_s)
        if stood or (patient and may_pass(ranked.body)):
            return Wait(NOWHERE_S, reason)
        return await end_run(kit, scene, RunState.FAILED, reason)

    async def _give_up(self, scene: Scene, choice: GiveUp) -> Outcome:
        """End the run; a service that stood once is ranked again, for ever, with growing pauses."""
        if scene.node.active_run == scene.run.id and scene.node.role is Role.SERVICE:
            async with self._kit.store.unit() as unit:
                run = await unit.run(scene.run.id)
                if run is None:
                    return Done()
                again = replace(run, cycle=run.cycle + 1, reason=choice.reason)
                await tell_run(self._kit, unit, again)
            return Goto("pause")
        return await end_run(
            self._kit, scene, RunState.FAILED, choice.reason, exit_code=choice.exit_code
        )

    async def _prove_gone(self, scene: Scene, work: Run) -> Outcome | None:
        """Have earlier attempts taken away; wait a while for the proof, so that no two run."""
        there = [each for each in scene.attempts if not each.gone]
        if not there:
            return None
        async with self._kit.store.unit() as unit:
            for attempt in there:
                await unit.start(CLEAN, attempt.id)
        return rest(self._kit, work, f"proof that {scene.last_number} is gone", PROOF_S)

    async def pause(self, work: Run) -> Outcome:
        """Wait before a service that keeps failing is ranked again."""
        scene = await scene_of(self._kit, work.key)
        if (stop := await halted(self._kit, scene)) or scene is None:
            return stop or Done()
        name, pause_s = f"before ranking {scene.run.cycle}", restart_pause_s(scene.run.cycle)
        return rest(self._kit, work, name, pause_s) or Goto(PLACE)

    async def _begin(self, scene: Scene, site: str) -> None:
        """Write the attempt down, its pod's UID decided, before anything is asked of the site."""
        kit, now = self._kit, self._kit.clock.now()
        target = await kit.ranking.target(site)
        number = scene.last_number + 1
        attempt = Attempt(
            id=derived_uuid("attempt", scene.run.id, str(number)),
            run=scene.run.id,
            deployment=scene.deployment.id,
            node=scene.node.name,
            number=number,
            cycle=scene.run.cycle,
            target=target,
            state=AttemptState.OPEN,
            reached=RunState.STAGING,
            created_at=now,
            deadline_at=later(now, scene.deployment.wishes.provider_timeout_mins),
        )
        async with kit.store.unit() as unit:
            run = await unit.run(scene.run.id)
            if run is not None and await unit.add_once(attempt):
                begun = replace(run, state=RunState.STAGING, reason="")
                await tell_run(kit, unit, begun, attempt)
        kit.watching.ensure(target)

    async def _ask_for_copies(self, scene: Scene, intent: Intent) -> None:
        kit, attempt = self._kit, scene.attempt
        pins: dict[str, str] = dict(scene.run.pins)
        for did in intent.inputs:
            pins[did] = pins.get(did) or await kit.data.pin(did, scene.deployment.permit)
        await self._save(replace(scene.run, pins=pins))
        for did in intent.inputs:
            rule = await kit.data.keep(
                pins[did],
                attempt.target.rse or "",
                scene.deployment.permit,
                lifetime_s=kit.settings.rule_lifetime_s,
                meta={"deployment": scene.deployment.id, "group": scene.deployment.group},
            )
            async with kit.store.unit() as unit:
                if await unit.add_once(Hold(attempt.id, pins[did], rule)):
                    text = f"rule {rule} keeps {pins[did]} at {attempt.target.rse}"
                    await tell_progress(kit, unit, attempt, text)

    async def _show(self, scene: Scene, state: RunState) -> None:
        async with self._kit.store.unit() as unit:
            run = await unit.run(scene.run.id)
            if run is not None and not run.state.final:
                await tell_run(self._kit, unit, replace(run, state=state))

    async def _save(self, run: NodeRun) -> None:
        """Write what a step found out, unless somebody changed the run meanwhile."""
        async with self._kit.store.unit() as unit:
            present = await unit.run(run.id)
            if present is not None and not present.state.final:
                await unit.save(replace(present, pins=run.pins, candidates=run.candidates))

    async def _away(self, scene: Scene, reason: str) -> Outcome:
        """Wait for a neighbour that is away; after too long the run fails, unless it stood."""
        kit = self._kit
        since = kit.clock.now() - scene.run.updated_at
        stood = scene.node.active_run == scene.run.id
        if not stood and since > timedelta(seconds=kit.settings.patience_s):
            return await end_run(kit, scene, RunState.FAILED, reason)
        return Wait(AWAY_S, reason)


async def halted(kit: Kit, scene: Scene | None) -> Outcome | None:
    """Return what a step answers when its run is over, is to stop, or came too late."""
    if scene is None or scene.run.state.final:
        return Done()
    if scene.run.cancel:
        return Goto(STOP)
    limit = scene.run.deadline_at
    stands = scene.run.id == scene.node.active_run or scene.run.state in {
        RunState.SERVING,
        RunState.DRAINING,
    }
    if limit is not None and not stands and limit <= kit.clock.now():
        phase = scene.run.state.value
        minutes = scene.deployment.wishes.timeout_mins
        reason = f"the time limit of {minutes} minutes passed while {phase}: {scene.run.reason}"
        return await end_run(kit, scene, RunState.FAILED, reason.removesuffix(": "))
    return None


async def late(kit: Kit, scene: Scene) -> bool:
    """Say whether the attempt's own time is over."""
    limit = scene.attempt.deadline_at
    return limit is not None and limit <= kit.clock.now()


def requirements_of(intent: Intent) -> dict[str, Any]:
    """Return the ``requirements`` of a ranking request."""
    return {
        "cpu": intent.cpu,
        "memory_bytes": intent.memory_bytes,
        "gpus": intent.gpus,
        "capabilities": list(intent.capabilities),
        "architecture": intent.architecture,
    }


def _nowhere(body: Mapping[str, Any]) -> str:
    causes = "; ".join(
        f"{each.get('site')}: {each.get('detail') or each.get('reason')}"
        for each in body.get("excluded", ())
    )
    text = "no cloud provider meets the deployment requirements"
    return f"{text}: {causes}" if causes else text
