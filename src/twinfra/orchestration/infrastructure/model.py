"""What is run at a site, where, and how it was seen to be; pure values.

Knows no wire format: ``pod`` spells a workload as Kubernetes does, ``batch`` carries it to a site.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

LABEL_CHARS = 40
_NOT_LABEL = re.compile(r"[^a-z0-9]+")


def label(text: str) -> str:
    """Return `text` as a DNS label: ``climate/ocean`` becomes ``climate-ocean``."""
    return _NOT_LABEL.sub("-", text.lower()).strip("-")[:LABEL_CHARS].strip("-") or "x"


class Phase(StrEnum):
    """How far a workload is; a foreign word that is none of these reads as ``UNKNOWN``."""

    PENDING = "PENDING"
    WAITING_FOR_DATA = "WAITING_FOR_DATA"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in {Phase.SUCCEEDED, Phase.FAILED}


@dataclass(frozen=True, slots=True)
class Target:
    """A site as a driver addresses it."""

    site: str
    endpoint: str
    rse: str | None = None


@dataclass(frozen=True, slots=True)
class Handle:
    """What a site knows a workload by; it follows from the workload, so nobody need be asked."""

    uid: str
    name: str
    namespace: str

    @classmethod
    def of(cls, uid: str, node: str, group: str) -> "Handle":
        """Return the handle of the workload `uid` made for `node` of a deployment of `group`."""
        return cls(uid, f"{label(node)}-{uid[:8]}", label(group))


@dataclass(frozen=True, slots=True)
class Workload:
    """One container to run, once or for ever.

    Attributes:
        uid: minted by who asks, before the first call; what makes ``create`` idempotent.
        node: the node template's name; shows in the pod's name.
        command: replaces the image's entry point when not empty.
        port: where a service listens inside its own network; none for a job.
        readiness_path: answers 2xx once the service can serve.
        mounts: mount path by input DID, where it differs from the site's own choice.
        restart: true: the site starts it again whenever it ends.
        wall_limit_s: the site ends it after this.
    """

    uid: str
    node: str
    image: str
    deployment: str
    group: str
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cpu: float = 1.0
    memory_bytes: int = 512 * 2**20
    gpus: int = 0
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    mounts: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    readiness_path: str | None = None
    restart: bool = False
    wall_limit_s: int | None = None

    @property
    def handle(self) -> Handle:
        """Return what the site knows it by."""
        return Handle.of(self.uid, self.node, self.group)


@dataclass(frozen=True, slots=True)
class Observation:
    """How a workload was seen to be.

    ``lost`` means that the site ended it without its doing (its keeper was killed, it was
    preempted), so that another attempt makes sense; ``by_site`` that the site could not begin or
    complete it (no image, outputs not stored), so that another site may do better. A non-zero
    ``exit_code`` alone is the workload's own matter.
    """

    phase: Phase
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    attempt: int = 1
    ready: bool = False
    restarts: int = 0
    lost: bool = False
    by_site: bool = False
    native_id: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
