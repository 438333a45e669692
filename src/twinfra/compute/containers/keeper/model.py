"""What a keeper is told (`PodPlan`) and what it tells (`PodState`, `PodStats`, `Identity`).

Pure: no I/O, no clock. Shared by the keeper and by the Python side, so Python 3.9 and the standard
library only. Its neighbour `journal.py` turns these into files.
"""

from dataclasses import dataclass, field
from typing import Optional

SCHEMA = 1
"""Version of the job directory; a keeper refuses a plan of another one."""

ARGS_FD = "{args_fd}"
"""In a launch's prefix: replaced by the descriptor from which `hidden` can be read."""

MARK = "TWINFRA_JOB"
"""Environment variable by which every process of a job can be found again."""

# Phases of a pod (Kubernetes PodPhase).
PENDING = "Pending"
RUNNING = "Running"
SUCCEEDED = "Succeeded"
FAILED = "Failed"
FINAL_PHASES = frozenset({SUCCEEDED, FAILED})

# Reasons of a terminated container, or of a failed pod.
COMPLETED = "Completed"
ERROR = "Error"
OOM_KILLED = "OOMKilled"
DEADLINE_EXCEEDED = "DeadlineExceeded"
CANCELLED = "Cancelled"
KEEPER_LOST = "KeeperLost"
START_ERROR = "StartError"
POST_START_ERROR = "PostStartHookError"
EVICTED = "Evicted"
# Reasons of a waiting container.
POD_INITIALIZING = "PodInitializing"
CONTAINER_CREATING = "ContainerCreating"
CRASH_LOOP_BACK_OFF = "CrashLoopBackOff"

NEVER = "Never"
ON_FAILURE = "OnFailure"
ALWAYS = "Always"


def job_mark(uid: str, attempt: int) -> str:
    """Return the value of `MARK` for one attempt of one job."""
    return f"{uid}/{attempt}"


@dataclass(frozen=True)
class SubPath:
    """A part of a folder that containers may write to, shown at a place that none can change.

    Looked up at each start of the container, without following any link, so that nobody can point
    it elsewhere. What is not there is made: a folder.
    """

    root: str
    path: str
    """Below `root`."""
    target: str
    """On the host; the sandbox mounts this."""


@dataclass(frozen=True)
class MemoryFolder:
    """A folder of the pod that is kept in memory, shared by its containers."""

    path: str
    size_bytes: int


@dataclass(frozen=True)
class FolderLimit:
    """How much the pod may keep in one of its folders; beyond it the pod is evicted."""

    name: str
    path: str
    limit_bytes: int


@dataclass(frozen=True)
class Launch:
    """How the keeper starts one process on this host; made by a container runtime.

    The argv is `prefix + command`; nothing of it ever passes through a shell.
    """

    prefix: tuple[str, ...]
    """Sandbox command with all its options; `ARGS_FD` in it is replaced."""
    command: tuple[str, ...]
    """The container's own argv."""
    env: dict[str, str] = field(default_factory=dict)
    """Whole environment of the sandbox command."""
    inner_env: dict[str, str] = field(default_factory=dict)
    """Whole environment of the container's process; `exec` uses it."""
    hidden: tuple[str, ...] = ()
    """Options handed over NUL-separated by descriptor: environment stays out of `ps`."""
    cwd: str = "/"
    """Working directory within the container."""
    directories: tuple[str, ...] = ()
    """Host directories that the keeper makes before each start, where missing."""
    fresh: tuple[str, ...] = ()
    """Of these, those that it makes anew before each start, without what a former run left."""
    files: dict[str, str] = field(default_factory=dict)
    """Small host files, path to content, that the keeper writes before each start."""
    links: dict[str, str] = field(default_factory=dict)
    """Symbolic links on the host, path to target, that the keeper makes before each start."""
    sub_paths: tuple[SubPath, ...] = ()
    """To be mounted by the keeper before each start; they need its own mount namespace."""
    enter: str = "launch"
    """How a second process gets in: `namespaces` (joins the first) or `launch` (same prefix)."""
    depth: int = 0
    """Generations between the started process and the container's own (bubblewrap 2, proot 1)."""
    traced: bool = False
    """The sandbox traces its processes and waits for all of them, not only for the container's."""
    failure_prefix: str = ""
    """How the sandbox command's own complaint begins; such an exit is a `StartError`."""
    preamble: str = ""
    """Last line of what the sandbox command says on standard error before it starts anything."""
    noise: str = ""
    """Pattern of the sandbox command's own lines on standard error; they stay out of the log."""
    noise_head: str = ""
    """How each line of the noise begins; what begins so is held back until its line has ended."""
    exit_note: str = ""
    """Pattern among the noise that tells how a process (`pid`) ended (`status` or `signal`), where
    the sandbox command's exit code may be another process's."""


@dataclass(frozen=True)
class HttpGet:
    """An HTTP request to 127.0.0.1 in the pod's network; 200 to 399 is success."""

    port: int
    path: str = "/"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class GrpcCheck:
    """A question to ``grpc.health.v1.Health`` at 127.0.0.1; SERVING is success."""

    port: int
    service: str = ""


@dataclass(frozen=True)
class Hook:
    """What is done after a start or before an end, exactly one of these (Kubernetes v1.Lifecycle).

    `http` and `tcp_port` as in a probe; failure of the first kind of hook ends the container.
    """

    http: Optional[HttpGet] = None
    tcp_port: Optional[int] = None
    exec_command: Optional[tuple[str, ...]] = None
    sleep_s: Optional[float] = None


@dataclass(frozen=True)
class Probe:
    """One probe with exactly one of its first four fields (Kubernetes v1.Probe)."""

    http: Optional[HttpGet] = None
    tcp_port: Optional[int] = None
    exec_command: Optional[tuple[str, ...]] = None
    grpc: Optional[GrpcCheck] = None
    grace_s: Optional[float] = None
    """Between SIGTERM and SIGKILL where this probe ends the container; None: the pod's own."""
    initial_delay_s: float = 0.0
    period_s: float = 10.0
    timeout_s: float = 1.0
    success_threshold: int = 1
    failure_threshold: int = 3


@dataclass(frozen=True)
class Limits:
    """Upper bounds of one container; None is unlimited."""

    cpu: Optional[float] = None
    """Cores; kept only where a control group can be written."""
    memory_bytes: Optional[int] = None
    """Kept by control group, else the keeper watches the resident memory and kills."""
    pids: Optional[int] = None
    """Processes and threads; kept only where a control group can be written."""


@dataclass(frozen=True)
class ContainerPlan:
    """One container of the pod."""

    name: str
    launch: Launch
    image: str = ""
    """As the pod names it."""
    image_id: str = ""
    """Manifest digest, `sha256:...`."""
    limits: Limits = field(default_factory=Limits)
    startup: Optional[Probe] = None
    readiness: Optional[Probe] = None
    liveness: Optional[Probe] = None
    post_start: Optional[Hook] = None
    """Run beside the process; until it has ended well no probe asks and nothing is ready."""
    pre_stop: Optional[Hook] = None
    """Run before SIGTERM, within the same grace."""
    stdin: bool = False
    """Its process has an input that `attach` reaches; else it reads nothing."""
    stdin_once: bool = False
    """Its input ends with the first session that had joined it."""
    tty: bool = False
    """Its process has a terminal; standard error is part of standard output."""
    sidecar: bool = False
    """Only for init containers: keeps running beside the main ones (restartPolicy Always)."""


@dataclass(frozen=True)
class PodPlan:
    """One numbered attempt at one pod. A given attempt is run at most once, ever."""

    uid: str
    containers: tuple[ContainerPlan, ...]
    init_containers: tuple[ContainerPlan, ...] = ()
    attempt: int = 1
    name: str = ""
    namespace: str = ""
    hostname: str = ""
    isolated: bool = True
    """The pod gets its own IPC and UTS namespaces, and by `network` its own loopback."""
    network: str = "none"
    """`none`: the pod's own, with loopback only; `private`: its own, with a way out by `uplink`;
    `host`: the host's, where two pods cannot listen on the same port."""
    uplink: tuple[str, ...] = ()
    """For `private`: the program that connects the pod, made by `find_uplink`."""
    memory_folders: tuple[MemoryFolder, ...] = ()
    folder_limits: tuple[FolderLimit, ...] = ()
    restart_policy: str = NEVER
    active_deadline_s: Optional[float] = None
    termination_grace_s: float = 30.0
    backoff_initial_s: float = 10.0
    backoff_limit_s: float = 300.0
    log_limit_bytes: int = 64 * 1024 * 1024
    """Bytes kept of each container's log; older lines are dropped."""
    stats_period_s: float = 1.0
    folders_period_s: float = 10.0
    """Between two looks at the folders that have a limit."""
    schema: int = SCHEMA


@dataclass(frozen=True)
class Waiting:
    """The container has not started."""

    reason: str
    message: str = ""


@dataclass(frozen=True)
class Running:
    """The container runs since `started_at` (RFC 3339)."""

    started_at: str


@dataclass(frozen=True)
class Terminated:
    """The container has ended. A signal also shows as exit code 128 + signal."""

    exit_code: int
    reason: str
    started_at: str
    finished_at: str
    signal: Optional[int] = None
    message: str = ""


@dataclass(frozen=True)
class ContainerStatus:
    """Status of one container; exactly one of waiting, running, terminated is set."""

    name: str
    image: str = ""
    image_id: str = ""
    waiting: Optional[Waiting] = None
    running: Optional[Running] = None
    terminated: Optional[Terminated] = None
    last_terminated: Optional[Terminated] = None
    ready: bool = False
    started: bool = False
    """Its startup probe has passed, or it has none."""
    restart_count: int = 0


@dataclass(frozen=True)
class PodState:
    """What is known of one attempt; `sequence` grows with every change."""

    uid: str
    attempt: int
    sequence: int
    phase: str
    containers: tuple[ContainerStatus, ...]
    init_containers: tuple[ContainerStatus, ...] = ()
    reason: str = ""
    message: str = ""
    started_at: str = ""
    finished_at: str = ""
    ready: bool = False
    """Every main container runs and passes its readiness probe."""
    cancelled: bool = False
    """Somebody asked for the end (SIGTERM or the socket)."""
    limits_kept_by: str = ""
    """`cgroup-v1`, `cgroup-v2` or `watch` (memory only, by sampling)."""
    schema: int = SCHEMA

    @property
    def final(self) -> bool:
        """Whether nothing will change any more."""
        return self.phase in FINAL_PHASES


@dataclass(frozen=True)
class Identity:
    """Which process the keeper is: a pid alone may be somebody else's by now."""

    pid: int
    start_ticks: int
    """Field 22 of /proc/<pid>/stat."""
    boot_id: str
    uid: str
    attempt: int
    cgroups: tuple[str, ...] = ()
    """Control groups made for this attempt."""


@dataclass(frozen=True)
class ContainerStats:
    """Real figures of one container, all its restarts together."""

    name: str
    cpu_time_s: float = 0.0
    wall_time_s: float = 0.0
    memory_bytes: int = 0
    memory_peak_bytes: int = 0
    pids: int = 0


@dataclass(frozen=True)
class PodStats:
    """Real figures of one attempt."""

    uid: str
    attempt: int
    at: str
    cpu_time_s: float
    wall_time_s: float
    memory_bytes: int
    memory_peak_bytes: int
    containers: tuple[ContainerStats, ...] = ()
