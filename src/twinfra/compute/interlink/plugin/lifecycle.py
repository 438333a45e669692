"""The life of a pod as durable work: inputs, placing, watching, outputs, keeping, removing.

Each step may run again after a crash and leads to the same end: a job is looked up by its name
before it is submitted, outputs are keyed by the pod's UID, usage by the attempt's name. A pod is
reported as over only after its outputs are registered.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import cast

from twinfra.compute.containers.errors import ErrImagePull, ImagePullBackOff
from twinfra.compute.containers.images.model import UnpackedImage
from twinfra.compute.containers.keeper.model import CONTAINER_CREATING, KEEPER_LOST, PodStats
from twinfra.compute.interlink.model.status import PodPhase, PodReport
from twinfra.compute.interlink.plugin import reports
from twinfra.compute.interlink.plugin.journal import Journal
from twinfra.compute.interlink.plugin.kit import SiteKit
from twinfra.compute.interlink.plugin.model import KeptPod
from twinfra.compute.interlink.pods.places import clear, lay
from twinfra.compute.interlink.pods.plan import job_of
from twinfra.compute.interlink.pods.request import ContainerRequest, PodRequest
from twinfra.compute.sites.model import JobState, JobStatus, job_name
from twinfra.compute.sites.ports import CHANGES, STATS, StatsSite
from twinfra.core.errors import (
    InsufficientCapacity,
    InternalError,
    NotFound,
    SiteRejected,
    TwinfraError,
    UpstreamFault,
    UpstreamTimeout,
    shorten,
)
from twinfra.core.telemetry import get_logger
from twinfra.core.time import parse_rfc3339, rfc3339
from twinfra.core.workflow import Done, Goto, Next, Outcome, Run, Step, Wait, Workflow

log = get_logger(__name__)

KIND = "pod"
STAGE, PLACE, WATCH, PUBLISH, KEEP, REMOVE = "stage", "place", "watch", "publish", "keep", "remove"
POD = "pod"
PAUSE_MOST_S = 30.0
LAST_LINES_S = 0.5
CRASHES_MOST = 5


class Lifecycle:
    """The steps of a pod's life.

    Args:
        kit: of the site.
        journal: keeps pods and tells of their changes.
    """

    def __init__(self, kit: SiteKit, journal: Journal) -> None:
        self._kit, self._journal = kit, journal
        self._looked_at: dict[str, datetime] = {}
        self.fresh_data: set[str] = set()
        self.works: dict[str, str] = {}
        """Work by native id, of jobs that this process has placed and not seen over: a site may
        tell of a job before its id is written down."""

    def workflow(self) -> Workflow:
        """Return the work of one pod."""
        steps = {
            STAGE: self._stage,
            PLACE: self._place,
            WATCH: self._watch,
            PUBLISH: self._publish,
            KEEP: self._keep,
            REMOVE: self._remove,
        }
        return Workflow(KIND, [Step(name, self._guarded(do)) for name, do in steps.items()])

    def _guarded(
        self, do: Callable[[Run, KeptPod], Awaitable[Outcome]]
    ) -> Callable[[Run], Awaitable[Outcome]]:
        """Wrap a step: what may pass is waited for without end, the rest ends the pod."""

        async def step(run: Run) -> Outcome:
            pod: KeptPod | None = run.leg.memo.get(POD)
            pod = pod or await self._journal.store.of_work(run.key)
            if pod is None:
                return Done()
            try:
                outcome = await do(run, pod)
            except TwinfraError as error:
                if _passes(error):
                    return await self._again(run, pod, error)
                return await self._fail(run, pod, error)
            except Exception:
                crashes = run.data["crashes"] = run.data.get("crashes", 0) + 1
                log.exception("pod_step_crashed", uid=pod.uid, step=run.step)
                if crashes < CRASHES_MOST:
                    return Wait(float(crashes))
                return await self._fail(run, pod, InternalError("the plug-in failed; see its log"))
            run.data.pop("tries", None)
            return outcome

        return step

    async def _stage(self, run: Run, pod: KeptPod) -> Outcome:
        """Hold the pod until all its inputs are in its folder."""
        if pod.deleting:
            return self._cancelled(run, pod)
        request = self._kit.request(pod)
        if not request.inputs:
            return Next(written=False)
        resolved = run.data.setdefault("resolved", {})
        staged = await self._kit.inputs.stage(request, self._kit.places(pod), resolved)
        if staged.missing:
            text = f"{staged.here} of {staged.here + staged.missing} files are at the site"
            told = await self._kit.inputs.bring(pod, staged.lacking)
            text = f"{text}; {told}" if told else text
            self._tell(run, pod, reports.waiting(pod.report, reports.WAITING_FOR_DATA, text))
            return Wait(self._kit.settings.data_fallback_s, reports.WAITING_FOR_DATA)
        return Next()

    async def _place(self, run: Run, pod: KeptPod) -> Outcome:
        """Hand the present attempt to the site, unless it has it already."""
        kit = self._kit
        name = job_name(pod.uid, pod.attempt)
        native_id = await kit.site.find(name)
        if native_id is None:
            if pod.deleting:
                return self._cancelled(run, pod)
            request, places = kit.request(pod), kit.places(pod)
            images = {}
            for entry in (*request.inits, *request.containers):
                images[entry.image] = await self._image(entry, request)
            await asyncio.to_thread(lay, request, places)
            spec = job_of(request, places, images, kit.ground)
            native_id = await kit.site.submit(spec)
        self.works[native_id] = pod.work
        self._journal.place(run.leg, pod, native_id)
        run.leg.memo[POD] = replace(pod, native_id=native_id)
        log.info("pod_placed", uid=pod.uid, attempt=pod.attempt, native_id=native_id)
        return Next(written=False)

    async def _image(self, entry: ContainerRequest, request: PodRequest) -> UnpackedImage:
        """Return a container's image; it is pulled with the pod's accounts.

        Raises:
            ErrImagePull: there is none for this pod.
            ImagePullBackOff: not now (retryable).
        """
        ensure = self._kit.images.ensure
        try:
            return await asyncio.to_thread(
                ensure, entry.image, request.accounts, policy=entry.pull_policy
            )
        except TwinfraError as error:
            kind = ImagePullBackOff if _passes(error) else ErrImagePull
            text = f"image {entry.image}: {error.detail}"
            raise kind(text, retry_after_s=error.retry_after_s) from error

    async def _watch(self, run: Run, pod: KeptPod) -> Outcome:
        """Follow the job to its end."""
        kit = self._kit
        if not pod.native_id:
            return Goto(PLACE)
        if pod.deleting:
            await kit.site.cancel(pod.native_id)
        status = (await kit.site.status([pod.native_id])).get(pod.native_id)
        if status is None:
            raise NotFound(f"the site does not know its job {pod.native_id} any more")
        request = kit.request(pod)
        report = replace(reports.seen(pod.report, status), native_id=pod.native_id)
        if pod.deleting and status.state is JobState.CANCELLED:
            report = replace(report, reason=reports.CANCELLED, message="its end was asked for")
        if not status.state.final:
            if not report.phase.final:  # an end is told once its last process has left
                self._tell(run, pod, report)
            await self._refresh_inputs(run, pod, request)
            quick = CHANGES in kit.site.capabilities
            return Wait(kit.settings.status_fallback_s if quick else kit.settings.poll_s)
        await self._account(run, pod, request, status)
        if self._may_retry(pod, request, status):
            self._try_again(run, pod, report)
            return Goto(PLACE)
        if report.phase is PodPhase.SUCCEEDED and request.outputs and not pod.deleting:
            run.data["last"] = report.to_event()
            self._tell(run, pod, reports.publishing(pod.report, report))
            return Goto(PUBLISH)
        self._tell(run, pod, report)
        return Goto(KEEP, written=False)

    async def _publish(self, run: Run, pod: KeptPod) -> Outcome:
        """Store and register the outputs; only then is the pod over."""
        last = PodReport.from_event(run.data["last"])
        meta = {
            "images": sorted({entry.image_id for entry in last.containers if entry.image_id}),
            "inputs": list(run.data.get("resolved", {}).values()),
        }
        try:
            made = await self._kit.outputs.publish(pod, self._kit.request(pod), meta)
        except TwinfraError as error:
            if _passes(error):
                raise
            log.warning("outputs_refused", uid=pod.uid, code=error.code, detail=error.detail)
            spoiled = reports.overruled(
                last, reports.OUTPUTS_FAILED, error.detail, exit_code=reports.FAILED_EXIT_CODE
            )
            self._tell(run, pod, spoiled)
            return Next()
        self._tell(run, pod, replace(last, message=f"registered {', '.join(made)}"))
        return Next()

    async def _keep(self, run: Run, pod: KeptPod) -> Outcome:
        """Keep a pod that is over, with its logs, until it is deleted or too old.

        Who follows the log of a deleted pod has a moment for its last lines.
        """
        self.works.pop(pod.native_id, None)
        now = self._kit.clock.now()
        data = run.data
        over_at = parse_rfc3339(data.setdefault("over_at", rfc3339(now)))
        until = over_at + timedelta(seconds=self._kit.settings.keep_finished_s)
        if pod.deleting:
            for_readers = timedelta(seconds=LAST_LINES_S if pod.native_id else 0)
            until = parse_rfc3339(data.setdefault("read_until", rfc3339(now + for_readers)))
        left_s = (until - now).total_seconds()
        return Next() if left_s <= 0 else Wait(left_s)

    async def _remove(self, _run: Run, pod: KeptPod) -> Outcome:
        await asyncio.to_thread(clear, self._kit.jobs / pod.uid)
        with suppress(TwinfraError):  # the permission ends by itself, if later
            await self._kit.outputs.release(pod)
        await self._journal.forget(pod)
        self._looked_at.pop(pod.uid, None)
        log.info("pod_forgotten", uid=pod.uid)
        return Done()

    def _cancelled(self, run: Run, pod: KeptPod) -> Outcome:
        """End a pod whose job never came to be."""
        end = reports.ended(
            pod.report,
            reports.CANCELLED,
            "deleted before it began",
            exit_code=reports.KILLED_EXIT_CODE,
            at=self._kit.clock.now(),
        )
        self._tell(run, pod, end)
        return Goto(KEEP)

    async def _again(self, run: Run, pod: KeptPod, error: TwinfraError) -> Outcome:
        """Wait, longer each time, and let a pod that waits anyway say for what."""
        tries = run.data["tries"] = run.data.get("tries", 0) + 1
        log.warning(
            "pod_step_retried",
            uid=pod.uid,
            step=run.step,
            tries=tries,
            code=error.code,
            detail=error.detail,
        )
        if run.step in {STAGE, PLACE}:
            reason = pod.report.reason or CONTAINER_CREATING
            if isinstance(error, ImagePullBackOff):
                reason = _reason_of(error)
            self._tell(run, pod, reports.waiting(pod.report, reason, shorten(error.detail)))
        pause_s = error.retry_after_s or 0.2 * 2 ** min(tries - 1, 10)
        return Wait(min(PAUSE_MOST_S, pause_s), shorten(error.detail))

    async def _fail(self, run: Run, pod: KeptPod, error: TwinfraError) -> Outcome:
        """End a pod that cannot go on; what may run of it is ended too."""
        log.warning("pod_failed", uid=pod.uid, step=run.step, code=error.code, detail=error.detail)
        if run.step in {KEEP, REMOVE}:
            return Wait(PAUSE_MOST_S, shorten(error.detail))
        if pod.native_id:
            with suppress(TwinfraError):
                await self._kit.site.cancel(pod.native_id)
        end = reports.ended(
            pod.report,
            _reason_of(error),
            shorten(error.detail),
            exit_code=reports.FAILED_EXIT_CODE,
            at=self._kit.clock.now(),
        )
        self._tell(run, pod, end)
        return Goto(KEEP)

    def _may_retry(self, pod: KeptPod, request: PodRequest, status: JobStatus) -> bool:
        """Say whether a lost attempt is followed by another: `Never` fails."""
        lost = status.state is JobState.FAILED and status.reason == KEEPER_LOST
        allowed = request.restart_policy != "Never" and not pod.deleting
        return lost and allowed and pod.attempt < self._kit.settings.max_attempts

    def _try_again(self, run: Run, pod: KeptPod, report: PodReport) -> None:
        attempt = pod.attempt + 1
        log.warning("pod_tried_again", uid=pod.uid, attempt=attempt, reason=report.reason)
        self.works.pop(pod.native_id, None)
        self._journal.place(run.leg, pod, "")
        self._journal.tell(run.leg, pod, reports.next_attempt(report, attempt))

    async def _account(
        self, run: Run, pod: KeptPod, request: PodRequest, status: JobStatus
    ) -> None:
        stats: PodStats | None = None
        if STATS in self._kit.site.capabilities:
            stats = await cast("StatsSite", self._kit.site).stats(pod.native_id)
        made = self._kit.usage.record(pod, request, status, stats, self._kit.clock.now())
        if made is not None:
            self._journal.add_usage(run.leg, *made)

    async def _refresh_inputs(self, run: Run, pod: KeptPod, request: PodRequest) -> None:
        """Link newly arrived inputs into a pod that runs for ever."""
        if not (request.live and request.inputs) or pod.deleting:
            return
        now = self._kit.clock.now()
        last = self._looked_at.get(pod.uid)
        pause = timedelta(seconds=self._kit.settings.data_fallback_s)
        if pod.uid not in self.fresh_data and last is not None and now - last < pause:
            return
        self.fresh_data.discard(pod.uid)
        self._looked_at[pod.uid] = now
        try:
            resolved = run.data.setdefault("resolved", {})
            staged = await self._kit.inputs.stage(request, self._kit.places(pod), resolved)
            if staged.lacking:
                await self._kit.inputs.bring(pod, staged.lacking)
        except TwinfraError as error:
            self.fresh_data.add(pod.uid)
            log.warning("inputs_not_refreshed", uid=pod.uid, detail=error.detail)
        else:
            if staged.new:
                log.info("inputs_linked", uid=pod.uid, files=staged.new)

    def _tell(self, run: Run, pod: KeptPod, report: PodReport) -> None:
        """Tell how a pod is, if that is news; what the wire does not carry is none."""
        if report.to_event() != pod.report.to_event():
            self._journal.tell(run.leg, pod, report)
            run.leg.memo[POD] = replace(pod, report=report)


def _passes(error: TwinfraError) -> bool:
    """Say whether trying again may help."""
    return error.retryable or isinstance(error, UpstreamFault | UpstreamTimeout)


def _reason_of(error: TwinfraError) -> str:
    if isinstance(error, SiteRejected | InsufficientCapacity | InternalError | ImagePullBackOff):
        return type(error).__name__
    return "".join(word.capitalize() for word in error.code.split("-"))
