"""The few words of state, and which change may follow which.

Deployment statuses, tasks and node states are the INDIGO orchestrator's own words; runs, attempts
and their failures are ours.

Source: INDIGO PaaS Orchestrator REST API (Status, Task, NodeStates).
"""

from enum import StrEnum

from twinfra.core.errors import Conflict


class Status(StrEnum):
    """How a deployment is."""

    CREATE_IN_PROGRESS = "CREATE_IN_PROGRESS"
    CREATE_COMPLETE = "CREATE_COMPLETE"
    CREATE_FAILED = "CREATE_FAILED"
    UPDATE_IN_PROGRESS = "UPDATE_IN_PROGRESS"
    UPDATE_COMPLETE = "UPDATE_COMPLETE"
    UPDATE_FAILED = "UPDATE_FAILED"
    DELETE_IN_PROGRESS = "DELETE_IN_PROGRESS"
    DELETE_COMPLETE = "DELETE_COMPLETE"
    DELETE_FAILED = "DELETE_FAILED"
    UNKNOWN = "UNKNOWN"

    @property
    def settled(self) -> bool:
        """Whether nothing is under way."""
        return not self.endswith("_IN_PROGRESS")

    @property
    def standing(self) -> bool:
        """Whether the deployment works: its events are heard and its services are kept."""
        return self in STANDING


STANDING = frozenset(
    {
        Status.CREATE_COMPLETE,
        Status.UPDATE_IN_PROGRESS,
        Status.UPDATE_COMPLETE,
        Status.UPDATE_FAILED,
    }
)
BUILDING = frozenset({Status.CREATE_IN_PROGRESS, Status.UPDATE_IN_PROGRESS})
UPDATABLE = frozenset({Status.CREATE_COMPLETE, Status.UPDATE_COMPLETE, Status.UPDATE_FAILED})
LEAVING = frozenset({Status.DELETE_IN_PROGRESS, Status.DELETE_COMPLETE})


class Task(StrEnum):
    """What part of the work a deployment is in."""

    NONE = "NONE"
    MONITORING = "MONITORING"
    QOS = "QOS"
    BROKERING = "BROKERING"
    DMS = "DMS"
    DEPLOYER = "DEPLOYER"
    UNKNOWN = "UNKNOWN"


class NodeState(StrEnum):
    """How a node of a deployment is."""

    INITIAL = "INITIAL"
    CREATING = "CREATING"
    CREATED = "CREATED"
    CONFIGURING = "CONFIGURING"
    CONFIGURED = "CONFIGURED"
    STARTING = "STARTING"
    STARTED = "STARTED"
    STOPPING = "STOPPING"
    STOPPED = "STOPPED"
    DELETING = "DELETING"
    ERROR = "ERROR"


class Role(StrEnum):
    """What a node asks of the driver: to run to its end, or to stay and serve."""

    JOB = "job"
    SERVICE = "service"


class Trigger(StrEnum):
    """Why a run was begun."""

    DEPLOY = "deploy"
    UPDATE = "update"
    EVENT = "event"
    FOLLOW = "follow"


class RunState(StrEnum):
    """How far one run of a node is; a job ends, a service serves until it is replaced."""

    QUEUED = "QUEUED"
    PLACING = "PLACING"
    STAGING = "STAGING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    SERVING = "SERVING"
    DRAINING = "DRAINING"
    SUCCEEDED = "SUCCEEDED"
    RETIRED = "RETIRED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in FINAL_RUNS


FINAL_RUNS = frozenset({RunState.SUCCEEDED, RunState.RETIRED, RunState.FAILED, RunState.CANCELLED})


class AttemptState(StrEnum):
    """How one try at one site is."""

    OPEN = "OPEN"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Failure(StrEnum):
    """Why an attempt failed; decides what is tried next."""

    REJECTED = "provider_rejected"
    UNREACHABLE = "provider_unreachable"
    TIMEOUT = "provider_timeout"
    PROVIDER = "provider_error"
    DATA = "data_stuck"
    NOT_READY = "not_ready"
    LOST = "job_lost"
    JOB = "job_failed"

    @property
    def of_provider(self) -> bool:
        """Whether another provider may do better."""
        return self not in {Failure.LOST, Failure.JOB}


NODE_OF_RUN = {
    RunState.QUEUED: NodeState.CREATING,
    RunState.PLACING: NodeState.CREATING,
    RunState.STAGING: NodeState.CONFIGURING,
    RunState.STARTING: NodeState.STARTING,
    RunState.RUNNING: NodeState.STARTED,
    RunState.SERVING: NodeState.STARTED,
    RunState.DRAINING: NodeState.STOPPING,
    RunState.SUCCEEDED: NodeState.STARTED,
    RunState.RETIRED: NodeState.STOPPED,
    RunState.FAILED: NodeState.ERROR,
    RunState.CANCELLED: NodeState.STOPPED,
}
TASK_OF_RUN = {
    RunState.PLACING: Task.BROKERING,
    RunState.STAGING: Task.DMS,
    RunState.STARTING: Task.DEPLOYER,
    RunState.RUNNING: Task.DEPLOYER,
}


def check_update(status: Status) -> None:
    """Return if a deployment in `status` may be updated.

    Raises:
        Conflict: it may not now.
    """
    if status not in UPDATABLE:
        raise Conflict(f"a deployment in {status} cannot be updated", retry_after_s=0)


def check_delete(status: Status) -> None:
    """Return if a deployment in `status` may be deleted.

    Raises:
        Conflict: that is already under way or done.
    """
    if status in LEAVING:
        raise Conflict(f"the deployment is already in {status}", retry_after_s=0)


def after(status: Status, *, good: bool) -> Status:
    """Return what `status`, which must be in progress, becomes when its work ends.

    Raises:
        Conflict: nothing is in progress.
    """
    if status.settled:
        raise Conflict(f"nothing is in progress in {status}")
    return Status(status.replace("IN_PROGRESS", "COMPLETE" if good else "FAILED"))
