"""What a pod asks for, in our own words; pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from twinfra.compute.containers.images.names import Credential
from twinfra.compute.containers.keeper.model import Hook, Limits, Probe
from twinfra.compute.containers.model import HostAlias
from twinfra.compute.interlink.model.pod import PodRef

DATA_ROOT = PurePosixPath("/data")
OUTPUT_ROOT = PurePosixPath("/outputs")


@dataclass(frozen=True)
class VolumeMount:
    """One ``volumeMounts`` entry."""

    volume: str
    target: PurePosixPath
    read_only: bool = False
    sub_path: str = ""


@dataclass(frozen=True)
class ContainerRequest:
    """One container as it was asked for; ``command`` and ``args`` None keep the image's."""

    name: str
    image: str
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    mounts: tuple[VolumeMount, ...] = ()
    cpus: float = 0.0
    limits: Limits = field(default_factory=Limits)
    memory_bytes: int = 0
    gpus: Mapping[str, int] = field(default_factory=dict)
    startup: Probe | None = None
    readiness: Probe | None = None
    liveness: Probe | None = None
    post_start: Hook | None = None
    pre_stop: Hook | None = None
    sidecar: bool = False
    stdin: bool = False
    stdin_once: bool = False
    tty: bool = False
    uid: int | None = None
    gid: int | None = None
    non_root: bool = False
    read_only_root: bool = False
    pull_policy: str = ""


@dataclass(frozen=True)
class FileEntry:
    """One file of a volume, below the volume's root."""

    path: str
    content: bytes
    mode: int


@dataclass(frozen=True)
class HostPath:
    """A file or folder of the site, within one that the site gives out."""

    root: str
    path: str
    kind: str = ""
    writable: bool = False


@dataclass(frozen=True)
class Claim:
    """A folder of the site that outlives the pod."""

    name: str
    root: str
    writable: bool = True


@dataclass(frozen=True)
class Volume:
    """One volume: a writable folder that starts empty, given files, or what the site has."""

    name: str
    files: tuple[FileEntry, ...] = ()
    scratch: bool = False
    memory: bool = False
    limit_bytes: int | None = None
    host: HostPath | None = None
    claim: Claim | None = None

    @property
    def given(self) -> bool:
        """Whether it shows files that came with the pod."""
        return not (self.scratch or self.host or self.claim)

    @property
    def writable(self) -> bool:
        """Whether containers may write there."""
        if self.host is not None:
            return self.host.writable
        return self.claim.writable if self.claim is not None else self.scratch


@dataclass(frozen=True)
class DataMount:
    """A dataset as input or output, and where the containers see it."""

    scope: str
    name: str
    target: PurePosixPath
    also: PurePosixPath | None = None

    @property
    def did(self) -> str:
        """``scope:name``."""
        return f"{self.scope}:{self.name}"


@dataclass(frozen=True)
class PodRequest:
    """A pod as it was asked for, all of it understood."""

    ref: PodRef
    containers: tuple[ContainerRequest, ...]
    inits: tuple[ContainerRequest, ...] = ()
    volumes: tuple[Volume, ...] = ()
    inputs: tuple[DataMount, ...] = ()
    outputs: tuple[DataMount, ...] = ()
    restart_policy: str = "Always"
    active_deadline_s: float | None = None
    termination_grace_s: float = 30.0
    hostname: str = ""
    aliases: tuple[HostAlias, ...] = ()
    accounts: Mapping[str, Credential] = field(default_factory=dict, repr=False)
    """At registries, that the pod brought."""
    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: Mapping[str, int] = field(default_factory=dict)

    @property
    def live(self) -> bool:
        """Whether the pod runs for ever: then newly available inputs are linked in as they come."""
        return self.restart_policy == "Always"
