"""What a site's batch system is given and what it answers; pure.

A job is one numbered attempt at a pod. Its keeper (``compute/containers/keeper``) knows what goes
on within; a back end knows the queue and whether the keeper still has a place to live. Neighbour:
``ports.Site``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from twinfra.compute.containers.keeper.model import PodPlan, PodState
from twinfra.compute.containers.machine import Machine


class JobState(StrEnum):
    """Our own states; each back end maps its system's to these, an unlisted one to ``UNKNOWN``."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    UNKNOWN = "UNKNOWN"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED}


@dataclass(frozen=True)
class JobSpec:
    """One attempt to be placed.

    Attributes:
        plan: what the keeper runs; it holds the pod's UID and the number of the attempt.
        job_dir: of the pod, one for all its attempts; the back end shows it to the keeper.
        cpus: cores that the job may keep busy.
        memory_bytes: that it may use.
        gpus: whole devices.
        wall_limit_s: after which the batch system may end it; none: the site's own limit.
        native_options: options of the back end's own system, by name; a back end without such
            options ignores them.
    """

    plan: PodPlan
    job_dir: Path
    cpus: float = 1.0
    memory_bytes: int = 0
    gpus: int = 0
    wall_limit_s: float | None = None
    native_options: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The job's name at the back end."""
        return job_name(self.plan.uid, self.plan.attempt)


@dataclass(frozen=True)
class JobStatus:
    """How a job is.

    Attributes:
        state: of the job as a whole.
        reason: one word of why, such as ``KeeperLost`` or the queue's reason for waiting.
        message: one sentence for people.
        exit_code: of the pod, where it ended: 0, or the first that is not 0.
        queue_position: 1 is the next; none when unknown or not queued.
        node: the machine that runs it, where the back end says.
        submitted_at: when the back end took it.
        started_at: when its keeper began.
        finished_at: when it ended.
        pod: the keeper's own report, where the back end can read it.
    """

    state: JobState
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    queue_position: int | None = None
    node: str = ""
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    pod: PodState | None = None


@dataclass(frozen=True)
class SiteFigures:
    """How big a site is and how much of it nobody uses; None where the back end cannot tell.

    ``wait_s`` is the wait that a new job of ordinary size would see now; ``machine`` is what all of
    its machines are.
    """

    cpus: float | None = None
    memory_bytes: int | None = None
    slots: int | None = None
    gpus: Mapping[str, int] = field(default_factory=dict)
    free_cpus: float | None = None
    free_memory_bytes: int | None = None
    free_slots: int | None = None
    queue_length: int = 0
    wait_s: float = 0.0
    machine: Machine = field(default_factory=Machine)


def job_name(uid: str, attempt: int) -> str:
    """Return the name of an attempt: the pod's UID, from the second attempt on with its number."""
    return uid if attempt == 1 else f"{uid}.{attempt}"


def exit_code_of(pod: PodState) -> int | None:
    """Return 0 if all of a finished pod succeeded, else the first other exit code; else None."""
    if not pod.final:
        return None
    ends = [
        status.terminated.exit_code
        for status in (*pod.init_containers, *pod.containers)
        if status.terminated is not None
    ]
    return next((code for code in ends if code), 0 if pod.phase == "Succeeded" else 1)
