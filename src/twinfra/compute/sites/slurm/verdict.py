"""How a job ended, from what its keeper wrote and what Slurm says; pure.

The keeper knows what went on within, Slurm why it was ended from outside. A pod that succeeded has
succeeded, whatever Slurm did afterwards.
"""

from dataclasses import dataclass, replace

from twinfra.compute.containers.keeper.model import (
    CANCELLED,
    KEEPER_LOST,
    START_ERROR,
    SUCCEEDED,
    ContainerStatus,
    PodState,
)
from twinfra.compute.sites.model import JobState, exit_code_of
from twinfra.compute.sites.slurm.states import REASONS, SENTENCES, Seen

KILLED = 137
SIGNALLED = frozenset({137, 143})
"""Exit codes of what was ended by SIGKILL or SIGTERM."""
VANISHED = "Vanished"


@dataclass(frozen=True)
class Verdict:
    """How a job ended; ``pod`` is the keeper's report, its reasons replaced where Slurm knows."""

    state: JobState
    reason: str
    message: str = ""
    exit_code: int | None = None
    pod: PodState | None = None


def judge(pod: PodState | None, seen: Seen | None, *, asked: bool, last_words: str) -> Verdict:
    """Return how a job ended of which nothing is left.

    Args:
        pod: the keeper's settled report of this attempt; none where no keeper ever began.
        seen: Slurm's last word; none where it has forgotten the job.
        asked: we were asked to cancel it.
        last_words: what the script or the keeper wrote last.
    """
    if pod is not None and pod.phase == SUCCEEDED:
        return Verdict(JobState.COMPLETED, "Completed", "", 0, pod)
    native = seen.native if seen is not None else ""
    sentence = SENTENCES.get(native, "")
    if native in REASONS and not asked and _from_outside(pod):
        told = None if pod is None else _retold(pod, REASONS[native], sentence)
        return Verdict(JobState.FAILED, REASONS[native], sentence, _code(told, KILLED), told)
    if pod is None:
        return _never_began(seen, asked=asked, last_words=last_words)
    if asked or pod.cancelled or (native == "CANCELLED" and _from_outside(pod)):
        message = pod.message if asked else sentence or pod.message
        if pod.reason == KEEPER_LOST or not pod.cancelled:
            pod = _retold(pod, CANCELLED, message)
        return Verdict(
            JobState.CANCELLED, pod.reason or CANCELLED, message, _code(pod, KILLED), pod
        )
    return Verdict(JobState.FAILED, pod.reason or "Error", pod.message, _code(pod, 1), pod)


def _never_began(seen: Seen | None, *, asked: bool, last_words: str) -> Verdict:
    if asked or (seen is not None and seen.state is JobState.CANCELLED):
        message = "" if asked else SENTENCES["CANCELLED"]
        return Verdict(JobState.CANCELLED, CANCELLED, message)
    if seen is None:
        message = last_words or "Slurm does not know the job any more, and it never began"
        return Verdict(JobState.FAILED, VANISHED, message, 1)
    message = last_words or f"the keeper did not begin; Slurm says {seen.native}"
    return Verdict(JobState.FAILED, START_ERROR, message, 1)


def _from_outside(pod: PodState | None) -> bool:
    """Say whether the end may be Slurm's doing and not the pod's own: Slurm ends by signals."""
    if pod is None or pod.cancelled or pod.reason == KEEPER_LOST:
        return True
    ends = [status.terminated for status in (*pod.init_containers, *pod.containers)]
    return any(end is not None and end.exit_code in SIGNALLED for end in ends)


def _retold(pod: PodState, reason: str, message: str) -> PodState:
    """Return the report with Slurm's reason in the place of the keeper's guess."""

    def of(status: ContainerStatus) -> ContainerStatus:
        end = status.terminated
        if end is None or end.reason not in {KEEPER_LOST, CANCELLED, "Error"} or not end.exit_code:
            return status
        return replace(status, terminated=replace(end, reason=reason, message=message))

    return replace(
        pod,
        reason=reason,
        message=message,
        containers=tuple(of(status) for status in pod.containers),
        init_containers=tuple(of(status) for status in pod.init_containers),
    )


def _code(pod: PodState | None, otherwise: int) -> int:
    code = None if pod is None else exit_code_of(pod)
    return code or otherwise
