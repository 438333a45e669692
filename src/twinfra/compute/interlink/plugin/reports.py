"""What is told of a pod, made from what its site and its keeper say; pure."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from twinfra.compute.containers.keeper.model import (
    CONTAINER_CREATING,
    KEEPER_LOST,
    ContainerStatus,
    PodState,
    Terminated,
)
from twinfra.compute.interlink.model.status import (
    ContainerPhase,
    ContainerReport,
    PodPhase,
    PodReport,
)
from twinfra.compute.interlink.pods.request import ContainerRequest, PodRequest
from twinfra.compute.sites.model import JobState, JobStatus
from twinfra.core.time import parse_rfc3339

WAITING_FOR_DATA = "WaitingForData"
QUEUED = "Queued"
PUBLISHING = "PublishingOutputs"
OUTPUTS_FAILED = "OutputsFailed"
CANCELLED = "Cancelled"
NOT_STARTED = "NotStarted"
KILLED_EXIT_CODE = 137
FAILED_EXIT_CODE = 1


def new_report(request: PodRequest) -> PodReport:
    """Return the report of a pod that was just accepted: every container waits."""
    return PodReport(
        uid=request.ref.uid,
        name=request.ref.name,
        namespace=request.ref.namespace,
        containers=_waiting(request.containers, CONTAINER_CREATING, ""),
        inits=_waiting(request.inits, CONTAINER_CREATING, ""),
        origin=request.ref.hint("virtual-node"),
    )


def waiting(
    before: PodReport, reason: str, message: str = "", *, native_id: str | None = None
) -> PodReport:
    """Return the report of a pod whose containers wait for `reason`."""
    return replace(
        before,
        native_id=before.native_id if native_id is None else native_id,
        containers=tuple(_wait(entry, reason, message) for entry in before.containers),
        inits=tuple(_wait(entry, reason, message) for entry in before.inits),
        phase=PodPhase.PENDING,
        reason=reason,
        message=message,
    )


def seen(before: PodReport, status: JobStatus) -> PodReport:
    """Return the report that a site's word on the present attempt means.

    A keeper that did not say its last word is believed until the site says that the job is over.
    """
    if status.pod is not None and status.pod.attempt == before.attempt:
        before = _of_keeper(before, status.pod)
        if before.phase.final or not status.state.final:
            return before
    if status.state is JobState.QUEUED:
        place = status.queue_position
        text = status.message or (f"number {place} in the queue" if place else "")
        return waiting(before, status.reason or QUEUED, text)
    if status.state is JobState.UNKNOWN:
        return replace(before, reason=status.reason, message=status.message)
    if not status.state.final:
        return waiting(before, CONTAINER_CREATING, status.message)
    if status.state is JobState.COMPLETED:
        return ended(before, "Completed", status.message, exit_code=0, at=status.finished_at)
    lost = status.reason == KEEPER_LOST
    code = status.exit_code or (KILLED_EXIT_CODE if lost else FAILED_EXIT_CODE)
    reason = status.reason or ("Error" if status.state is JobState.FAILED else CANCELLED)
    return ended(before, reason, status.message, exit_code=code, at=status.finished_at)


def publishing(before: PodReport, last: PodReport) -> PodReport:
    """Return the report of a pod that has ended well but whose outputs are not registered yet.

    Args:
        before: the last one told.
        last: what will be told once they are.
    """
    running = tuple(
        replace(
            entry,
            phase=ContainerPhase.RUNNING,
            exit_code=None,
            reason="",
            message="",
            finished_at=None,
            ready=False,
        )
        for entry in last.containers
    )
    return replace(
        before,
        containers=running,
        inits=last.inits,
        phase=PodPhase.RUNNING,
        reason=PUBLISHING,
        message="the outputs are being registered",
    )


def ended(
    before: PodReport, reason: str, message: str, *, exit_code: int, at: datetime | None
) -> PodReport:
    """Return the report of a pod that is over; what had ended before keeps its own end."""
    good = exit_code == 0

    def end(entry: ContainerReport) -> ContainerReport:
        return _end(entry, reason, message, exit_code, at)

    return replace(
        before,
        containers=tuple(end(entry) for entry in before.containers),
        inits=tuple(end(entry) for entry in before.inits),
        phase=PodPhase.SUCCEEDED if good else PodPhase.FAILED,
        reason=reason,
        message=message,
    )


def overruled(last: PodReport, reason: str, message: str, *, exit_code: int) -> PodReport:
    """Return the report of a pod that ended well and failed after all, as its outputs did."""
    main, *others = last.containers
    spoiled = replace(main, reason=reason, message=message, exit_code=exit_code)
    return replace(
        last,
        containers=(spoiled, *others),
        phase=PodPhase.FAILED,
        reason=reason,
        message=message,
    )


def next_attempt(last: PodReport, attempt: int) -> PodReport:
    """Return the report of a pod about to be tried again: it shows how the last one ended."""

    def again(entry: ContainerReport) -> ContainerReport:
        return ContainerReport(
            name=entry.name,
            reason=CONTAINER_CREATING,
            message=f"attempt {attempt}",
            restarts=entry.restarts + 1,
            image=entry.image,
            image_id=entry.image_id,
            last=entry if entry.phase is ContainerPhase.TERMINATED else entry.last,
        )

    return replace(
        last,
        containers=tuple(again(entry) for entry in last.containers),
        inits=tuple(again(entry) for entry in last.inits),
        native_id="",
        phase=PodPhase.PENDING,
        attempt=attempt,
        reason=last.reason,
        message=f"attempt {attempt}: the one before ended as {last.reason}",
    )


def _of_keeper(before: PodReport, pod: PodState) -> PodReport:
    carried = {entry.name: entry for entry in (*before.inits, *before.containers)}
    phase = PodPhase(pod.phase)
    containers = tuple(
        _of_status(status, carried.get(status.name), before.attempt) for status in pod.containers
    )
    inits = tuple(
        _of_status(status, carried.get(status.name), before.attempt)
        for status in pod.init_containers
    )
    if phase.final:
        containers = tuple(_end_late(entry, pod.reason) for entry in containers)
    speaker = _speaker((*inits, *containers), failed=phase is PodPhase.FAILED)
    return replace(
        before,
        containers=containers,
        inits=inits,
        phase=phase,
        reason=pod.reason or (speaker.reason if speaker else ""),
        message=pod.message or (speaker.message if speaker else ""),
    )


def _of_status(
    status: ContainerStatus, before: ContainerReport | None, attempt: int
) -> ContainerReport:
    earlier = before.last if before is not None and attempt > 1 else None
    report = ContainerReport(
        name=status.name,
        ready=status.ready,
        restarts=status.restart_count + (attempt - 1),
        image=status.image,
        image_id=status.image_id,
        last=earlier,
    )
    if status.last_terminated is not None:
        report = replace(report, last=_terminated(report, status.last_terminated))
    if status.terminated is not None:
        return _terminated(report, status.terminated)
    if status.running is not None:
        started = _moment(status.running.started_at)
        return replace(report, phase=ContainerPhase.RUNNING, started_at=started)
    if status.waiting is not None:
        return replace(report, reason=status.waiting.reason, message=status.waiting.message)
    return report


def _terminated(report: ContainerReport, end: Terminated) -> ContainerReport:
    return replace(
        report,
        phase=ContainerPhase.TERMINATED,
        ready=False,
        reason=end.reason,
        message=end.message,
        exit_code=end.exit_code,
        started_at=_moment(end.started_at),
        finished_at=_moment(end.finished_at),
    )


def _end_late(entry: ContainerReport, reason: str) -> ContainerReport:
    """End what never started: a reader that only counts terminated containers must not wait on."""
    if entry.phase is ContainerPhase.TERMINATED:
        return entry
    return replace(
        entry,
        phase=ContainerPhase.TERMINATED,
        reason=reason or NOT_STARTED,
        exit_code=KILLED_EXIT_CODE,
        ready=False,
    )


def _waiting(
    asked: Sequence[ContainerRequest], reason: str, message: str
) -> tuple[ContainerReport, ...]:
    return tuple(
        ContainerReport(name=entry.name, image=entry.image, reason=reason, message=message)
        for entry in asked
    )


def _wait(entry: ContainerReport, reason: str, message: str) -> ContainerReport:
    return replace(
        entry,
        phase=ContainerPhase.WAITING,
        reason=reason,
        message=message,
        exit_code=None,
        started_at=None,
        finished_at=None,
        ready=False,
    )


def _end(
    entry: ContainerReport, reason: str, message: str, exit_code: int, at: datetime | None
) -> ContainerReport:
    if entry.phase is ContainerPhase.TERMINATED:
        return entry
    return replace(
        entry,
        phase=ContainerPhase.TERMINATED,
        reason=reason,
        message=message,
        exit_code=exit_code,
        finished_at=at,
        ready=False,
    )


def _speaker(entries: Sequence[ContainerReport], *, failed: bool) -> ContainerReport | None:
    """Return the container whose reason stands for the pod's."""
    if failed:
        return next((entry for entry in entries if entry.exit_code), None)
    return next((entry for entry in entries if entry.phase is ContainerPhase.WAITING), None)


def _moment(spelled: str) -> datetime | None:
    return parse_rfc3339(spelled) if spelled else None
