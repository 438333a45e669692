"""Steps of a run at its site: make the pod, follow it, take in how it ended; and how it is stopped.

Neighbours: ``placing`` chose the site, ``serving`` takes over once a service runs.
"""

from dataclasses import replace
from datetime import timedelta

from twinfra.access.scopes import JOB_SCOPES
from twinfra.core.errors import (
    InsufficientScope,
    SiteRejected,
    TwinfraError,
    Unauthenticated,
    shorten,
)
from twinfra.core.workflow import Done, Goto, Next, Outcome, Run, Wait
from twinfra.orchestration.deployments.model.happenings import event_text
from twinfra.orchestration.deployments.model.intent import Intent
from twinfra.orchestration.deployments.model.records import Attempt
from twinfra.orchestration.deployments.model.states import Failure, Role, RunState
from twinfra.orchestration.deployments.service.ending import end_run, fail_attempt
from twinfra.orchestration.deployments.service.kit import Kit, Scene, scene_of, seconds_until
from twinfra.orchestration.deployments.service.placing import halted, late
from twinfra.orchestration.deployments.service.telling import tell_progress, tell_run
from twinfra.orchestration.infrastructure.model import Observation, Phase, Workload

DATA_ROOT = "/data/"
AGAIN_S = (0.5, 5.0)
REASON_LINE_CHARS = 400


class Running:
    """The steps, on the ports of a kit."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    async def submit(self, work: Run) -> Outcome:
        """Have the site make the pod; the same UID is made once, however often this runs."""
        kit = self._kit
        scene = await scene_of(kit, work.key)
        if (stop := await halted(kit, scene)) or scene is None:
            return stop or Done()
        if not scene.open_attempts:
            return Goto("choose")
        attempt = scene.attempt
        if scene.run.state is RunState.STAGING:
            await self._show(scene, replace(attempt, reached=RunState.STARTING), RunState.STARTING)
        try:
            token = await kit.permits.token(
                scene.deployment.permit, attempt.target.endpoint, JOB_SCOPES
            )
            native_id = await kit.driver.create(attempt.target, self._workload(scene), token=token)
        except SiteRejected as error:
            return await fail_attempt(kit, scene, Failure.REJECTED, error.detail)
        except (Unauthenticated, InsufficientScope) as error:
            reason = f"the owner's permission does not hold: {error.detail}"
            return await fail_attempt(kit, scene, Failure.REJECTED, reason)
        except TwinfraError as error:
            return await self._not_taken(scene, work, error)
        made = replace(attempt, native_id=native_id, reached=RunState.STARTING, unseen_since=None)
        async with kit.store.unit() as unit:
            await tell_progress(kit, unit, made, f"pod {attempt.id} made, job {native_id}")
        return Next()

    async def watch(self, work: Run) -> Outcome:
        """Look how the pod is; a job ends here, a service that runs goes on to be probed."""
        kit = self._kit
        scene = await scene_of(kit, work.key)
        if (stop := await halted(kit, scene)) or scene is None:
            return stop or Done()
        if not scene.open_attempts:
            return Goto("choose")
        service = scene.node.role is Role.SERVICE
        try:
            seen = await look(kit, scene)
        except TwinfraError as error:
            return await self._unseen(scene, error.detail)
        if seen is None:
            reason = f"{scene.attempt.target.site} knows no such job any more"
            return await fail_attempt(kit, scene, Failure.LOST, reason)
        if seen.phase.final:
            return await self._ended(scene, seen)
        await self._note(scene, seen)
        if service and seen.phase is Phase.RUNNING:
            return Goto("probe")
        if await late(kit, scene):
            reason = f"{seen.phase} {seen.reason}: the provider's time limit passed"
            return await fail_attempt(kit, scene, Failure.TIMEOUT, reason)
        wait_s = seconds_until(
            kit.clock.now(), scene.attempt.deadline_at, scene.run.deadline_at,
            most=kit.settings.status_every_s,
        )  # fmt: skip
        return Wait(wait_s, f"{seen.phase} {seen.reason}".strip())

    async def stop(self, work: Run) -> Outcome:
        """End a run that was asked to stop; what it left at sites is cleaned."""
        scene = await scene_of(self._kit, work.key)
        if scene is None or scene.run.state.final:
            return Done()
        return await end_run(self._kit, scene, RunState.CANCELLED, "cancelled")

    def _workload(self, scene: Scene) -> Workload:
        """Return what the site is to run: the intent, with the uid that was decided before."""
        intent = Intent.from_json(scene.run.intent or {})
        run, attempt = scene.run, scene.attempt
        port = intent.port_of(attempt.id)
        listens = {} if port is None else {"PORT": str(port)}
        env = {
            **listens,
            **intent.env,  # the template's own PORT stands, unless it says that any will do
            **(listens if intent.any_port else {}),
            "TWINFRA_DEPLOYMENT": scene.deployment.id,
            "TWINFRA_NODE": scene.node.name,
            "TWINFRA_RUN": str(run.number),
            "TWINFRA_ATTEMPT": str(attempt.number),
        }
        if run.event is not None:
            env["TWINFRA_EVENT"] = event_text(run.event)
        return Workload(
            uid=attempt.id,
            node=scene.node.name,
            image=intent.image,
            deployment=scene.deployment.id,
            group=scene.deployment.group,
            command=intent.command,
            args=intent.args,
            env=env,
            cpu=intent.cpu,
            memory_bytes=intent.memory_bytes,
            gpus=intent.gpus,
            inputs=tuple(run.pins.get(did, did) for did in intent.inputs),
            outputs=intent.outputs,
            mounts={
                run.pins[did]: DATA_ROOT + did.replace(":", "/")
                for did in intent.inputs
                if run.pins.get(did, did) != did
            },
            port=port,
            readiness_path=intent.readiness_path,
            restart=scene.node.role is Role.SERVICE,
        )

    async def _not_taken(self, scene: Scene, work: Run, error: TwinfraError) -> Outcome:
        """Ask again for a while, then take the next site; the lost pod is still cleaned up."""
        kit, attempt, now = self._kit, scene.attempt, self._kit.clock.now()
        since = attempt.unseen_since or now
        if now - since >= timedelta(seconds=kit.settings.submit_patience_s):
            return await fail_attempt(kit, scene, Failure.UNREACHABLE, error.detail)
        if attempt.unseen_since is None:
            await self._save(replace(attempt, unseen_since=now))
        tries = int(work.data.get("asked", 0))
        work.data["asked"] = tries + 1
        pause_s = min(AGAIN_S[1], AGAIN_S[0] * 2 ** min(tries, 8))
        return Wait(error.retry_after_s or pause_s, error.detail)

    async def _unseen(self, scene: Scene, reason: str) -> Outcome:
        """Wait for a site that is away: its keepers go on without it, so nothing is begun anew."""
        kit, attempt = self._kit, scene.attempt
        if attempt.unseen_since is None:
            attempt = replace(attempt, unseen_since=kit.clock.now())
            async with kit.store.unit() as unit:
                await tell_progress(kit, unit, attempt, reason)
        if await late(kit, scene):
            text = f"the provider's time limit passed while it was away: {reason}"
            return await fail_attempt(kit, scene, Failure.TIMEOUT, text)
        wait_s = seconds_until(
            kit.clock.now(), attempt.deadline_at, scene.run.deadline_at, most=AGAIN_S[1]
        )
        return Wait(wait_s, reason)

    async def _note(self, scene: Scene, seen: Observation) -> None:
        """Write down that it runs, or why it does not yet, when that is news."""
        attempt = replace(
            scene.attempt, unseen_since=None, restarts=seen.restarts,
            native_id=seen.native_id or scene.attempt.native_id,
        )  # fmt: skip
        if seen.phase is Phase.RUNNING and scene.run.state is RunState.STARTING:
            await self._show(scene, replace(attempt, reached=RunState.RUNNING), RunState.RUNNING)
        elif seen.phase is not Phase.RUNNING and seen.reason and seen.reason != attempt.reason:
            text = f"{seen.reason} {shorten(seen.message)}".strip()
            async with self._kit.store.unit() as unit:
                await tell_progress(self._kit, unit, replace(attempt, reason=seen.reason), text)
        elif attempt != scene.attempt:
            await self._save(attempt)

    async def _ended(self, scene: Scene, seen: Observation) -> Outcome:
        """Take in the end of a pod: success, the job's own failure, or its site's."""
        kit = self._kit
        log_tail = await self._log(scene)
        if seen.phase is Phase.SUCCEEDED and scene.node.role is Role.JOB:
            return await end_run(kit, scene, RunState.SUCCEEDED, exit_code=0, log_tail=log_tail)
        failure, reason = judge(seen, log_tail, lines=kit.settings.reason_lines)
        return await fail_attempt(
            kit, scene, failure, reason, exit_code=seen.exit_code, log_tail=log_tail
        )

    async def _log(self, scene: Scene) -> str:
        """Return the end of the log; a site that cannot give it does not change how it ended."""
        attempt = scene.attempt
        try:
            return await self._kit.driver.logs(
                attempt.target, scene.handle(attempt), tail_lines=self._kit.settings.log_lines
            )
        except TwinfraError as error:
            return f"(the log could not be read: {error.detail})"

    async def _show(self, scene: Scene, attempt: Attempt, state: RunState) -> None:
        async with self._kit.store.unit() as unit:
            run = await unit.run(scene.run.id)
            if run is not None and not run.state.final:
                await tell_run(self._kit, unit, replace(run, state=state), attempt)

    async def _save(self, attempt: Attempt) -> None:
        async with self._kit.store.unit() as unit:
            await unit.save(attempt)


async def look(kit: Kit, scene: Scene) -> Observation | None:
    """Return how the attempt under way is at its site, or none if the site does not know it.

    Raises:
        Unavailable: the site does not answer.
    """
    attempt = scene.attempt
    handle = scene.handle(attempt)
    service = scene.node.role is Role.SERVICE
    found = await kit.driver.status(attempt.target, [handle], restarting=service)
    return found.get(attempt.id)


def judge(seen: Observation, log_tail: str, *, lines: int) -> tuple[Failure, str]:
    """Return whose failure an end is, and the reason for people."""
    said = f"{seen.reason} {shorten(seen.message)}".strip()
    if seen.lost:
        return Failure.LOST, said or "the site lost the job"
    if seen.by_site:
        return Failure.PROVIDER, said or "the site ended the job without an exit code"
    last = [line[:REASON_LINE_CHARS] for line in log_tail.strip().splitlines()[-lines:]]
    words = seen.reason if seen.reason not in {"", "Error", "Completed"} else ""
    reason = f"exit code {seen.exit_code}" + (f" ({words})" if words else "")
    return Failure.JOB, reason + (": " + "\n".join(last) if last else "")
