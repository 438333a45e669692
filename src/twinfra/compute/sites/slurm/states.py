"""Reads what Slurm says; pure.

No text of a user's is among what is asked for, so none can pass for an answer.

Source: squeue(1), JOB STATE CODES and JOB REASON CODES; sinfo(1); sacct(1).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from twinfra.compute.sites.model import JobState, SiteFigures

STATES: Mapping[str, JobState] = {
    "PENDING": JobState.QUEUED,
    "CONFIGURING": JobState.QUEUED,
    "REQUEUED": JobState.QUEUED,
    "REQUEUE_FED": JobState.QUEUED,
    "REQUEUE_HOLD": JobState.QUEUED,
    "SPECIAL_EXIT": JobState.QUEUED,
    "RESV_DEL_HOLD": JobState.QUEUED,
    "RUNNING": JobState.RUNNING,
    "COMPLETING": JobState.RUNNING,
    "SUSPENDED": JobState.RUNNING,
    "STOPPED": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "RESIZING": JobState.RUNNING,
    "STAGE_OUT": JobState.RUNNING,
    "COMPLETED": JobState.COMPLETED,
    "FAILED": JobState.FAILED,
    "BOOT_FAIL": JobState.FAILED,
    "DEADLINE": JobState.FAILED,
    "LAUNCH_FAILED": JobState.FAILED,
    "NODE_FAIL": JobState.FAILED,
    "OUT_OF_MEMORY": JobState.FAILED,
    "PREEMPTED": JobState.FAILED,
    "RECONFIG_FAIL": JobState.FAILED,
    "TIMEOUT": JobState.FAILED,
    "CANCELLED": JobState.CANCELLED,
    "REVOKED": JobState.CANCELLED,
}
"""Ours for each of Slurm's; one that is not listed is ``UNKNOWN``."""

REASONS: Mapping[str, str] = {
    "BOOT_FAIL": "NodeFail",
    "DEADLINE": "DeadlineExceeded",
    "NODE_FAIL": "NodeFail",
    "OUT_OF_MEMORY": "OOMKilled",
    "PREEMPTED": "Preempted",
    "TIMEOUT": "DeadlineExceeded",
}
"""Why Slurm ended a job, in Kubernetes' words where it has one."""

SENTENCES: Mapping[str, str] = {
    "BOOT_FAIL": "its node did not boot",
    "DEADLINE": "Slurm's deadline of the job was reached",
    "NODE_FAIL": "the node failed or was taken out of service",
    "OUT_OF_MEMORY": "the job exceeded the memory that it had asked Slurm for",
    "PREEMPTED": "Slurm gave its place to a job of higher priority",
    "TIMEOUT": "the job reached the time limit that Slurm knows",
    "CANCELLED": "cancelled at the batch system",
}

QUEUE_FORMAT = "%i|%T|%N|%V|%S|%e|%Q|%P|%r"
"""Id, state, nodes, submitted, (expected) start, end, priority, partition, reason."""
WAITING_FORMAT = "%i|%Q|%P|%S"
NODE_FIELDS = ("NodeList", "CPUsState", "Memory", "AllocMem", "Gres", "GresUsed", "StateLong")
NODE_FORMAT = ",".join(f"{name}:256" for name in NODE_FIELDS)
ACCOUNTING_FIELDS = "JobIDRaw,State,NodeList,Submit,Start,End"

_SERVES = ("idle", "mixed", "allocated", "completing", "reserved", "planned")
GUESSED_WAIT_S = 600.0


@dataclass(frozen=True)
class Seen:
    """What Slurm says of one job.

    Attributes:
        native_id: its id.
        native: its state, as Slurm spells it.
        reason: Slurm's word for why it waits, or ended.
        node: where it runs.
        submitted_at: when Slurm took it.
        started_at: when it began, or is expected to.
        finished_at: when it ended, or will have to.
        priority: of those that wait, the highest is next.
        partition: where it waits or runs.
    """

    native_id: str
    native: str
    reason: str = ""
    node: str = ""
    submitted_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    priority: int = 0
    partition: str = ""

    @property
    def state(self) -> JobState:
        """Ours for it."""
        return STATES.get(self.native, JobState.UNKNOWN)

    @property
    def over(self) -> bool:
        """Whether Slurm has seen the last of it."""
        return self.state.final


@dataclass(frozen=True)
class Waiting:
    """A job of anybody's that waits."""

    native_id: str
    priority: int
    partition: str
    expected_at: datetime | None


def read_queue(text: str) -> dict[str, Seen]:
    """Return what squeue says with `QUEUE_FORMAT`, by native id."""
    found = {}
    for fields in _rows(text, 9):
        native_id, native, node, submitted, started, ended, priority, partition, reason = fields
        if native_id.isdigit():
            found[native_id] = Seen(
                native_id,
                native,
                "" if reason in {"None", "(null)"} else reason,
                "" if node == "(null)" else node,
                _moment(submitted),
                _moment(started),
                _moment(ended),
                int(priority) if priority.isdigit() else 0,
                partition,
            )
    return found


def read_accounting(text: str) -> dict[str, Seen]:
    """Return what sacct says with `ACCOUNTING_FIELDS`, parsable, of whole jobs."""
    found = {}
    for native_id, state, node, submitted, started, ended in _rows(text, 6):
        if native_id.isdigit() and state:
            native = state.split()[0]
            moments = (_moment(submitted), _moment(started), _moment(ended))
            found[native_id] = Seen(native_id, native, "", node, *moments)
    return found


def read_waiting(text: str) -> list[Waiting]:
    """Return who waits, next one first, from squeue with `WAITING_FORMAT`."""
    found = [
        Waiting(native_id, int(priority) if priority.isdigit() else 0, partition, _moment(start))
        for native_id, priority, partition, start in _rows(text, 4)
    ]
    return sorted(found, key=lambda job: (-job.priority, _number(job.native_id)))


def position(waiting: Sequence[Waiting], native_id: str) -> int | None:
    """Return a job's place among those that wait for the same partition; 1 is the next."""
    mine = next((job for job in waiting if job.native_id == native_id), None)
    if mine is None:
        return None
    wanted = set(mine.partition.split(","))
    rivals = [job.native_id for job in waiting if wanted & set(job.partition.split(","))]
    return rivals.index(native_id) + 1


def read_nodes(
    text: str, waiting: Sequence[Waiting], now: datetime, *, gpu_resource: str
) -> SiteFigures:
    """Return how big and how full the nodes are that serve, from sinfo with `NODE_FORMAT`."""
    cpus = free_cpus = memory_mib = free_mib = gpus = 0
    seen = set()
    for line in text.splitlines():
        fields = line.split()
        if not _is_node(fields) or fields[0] in seen:
            continue
        seen.add(fields[0])
        _, cpu_states, memory, allocated, gres, _, state = fields
        _, idle, other, total = (int(part) for part in cpu_states.split("/"))
        if not state.rstrip("*~#%$@^-").startswith(_SERVES):
            continue
        cpus += total - other
        free_cpus += idle
        memory_mib += int(memory)
        free_mib += max(0, int(memory) - int(allocated)) if idle else 0
        gpus += count_gpus(gres)
    return SiteFigures(
        cpus=float(cpus),
        memory_bytes=memory_mib * 1024**2,
        slots=cpus,
        gpus={gpu_resource: gpus} if gpus else {},
        free_cpus=float(free_cpus),
        free_memory_bytes=free_mib * 1024**2,
        free_slots=free_cpus,
        queue_length=len(waiting),
        wait_s=_wait_s(waiting, free_cpus, now),
    )


def _is_node(fields: list[str]) -> bool:
    if len(fields) != len(NODE_FIELDS):
        return False
    numbers = [*fields[1].split("/"), fields[2], fields[3]]
    return len(numbers) == 6 and all(number.isdigit() for number in numbers)


def _wait_s(waiting: Sequence[Waiting], free_cpus: int, now: datetime) -> float:
    """Guess the wait of a new job: what Slurm expects of the last of those that wait."""
    expected = [job.expected_at for job in waiting if job.expected_at is not None]
    if expected:
        return max(0.0, (max(expected) - now).total_seconds())
    return 0.0 if free_cpus else GUESSED_WAIT_S


def count_gpus(gres: str) -> int:
    """Return how many GPUs a node's resources hold: ``gpu:a100:4(S:0-1)`` are four."""
    total = 0
    for entry in gres.split(","):
        name, *rest = entry.partition("(")[0].split(":")
        if name == "gpu" and rest and rest[-1].isdigit():
            total += int(rest[-1])
    return total


def _rows(text: str, count: int) -> Iterator[list[str]]:
    for line in text.splitlines():
        fields = line.split("|", count - 1)
        if len(fields) == count:
            yield fields


def _number(native_id: str) -> int:
    digits = native_id.partition("_")[0]
    return int(digits) if digits.isdigit() else 0


def _moment(spelled: str) -> datetime | None:
    """Return a moment of Slurm's, whose commands we run in UTC."""
    try:
        return datetime.fromisoformat(spelled).replace(tzinfo=UTC)
    except ValueError:
        return None
