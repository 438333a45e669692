"""A pod as the watch tells it: only what a virtual kubelet needs, read straight from the bytes.

The spec stays `Raw` beside it, for ``/create``; whoever keeps a pod for long keeps `PodFacts`.
"""

from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

import msgspec
from msgspec import Raw

from twinfra.compute.kubelet.kube.model import Meta

FINAL = frozenset({"Succeeded", "Failed"})
JOB_ID = "JobID"
"""The annotation that upstream's kubelet writes too: the native id of the pod's job."""


class _Container(msgspec.Struct, rename="camel", gc=False):
    name: str
    image: str = ""
    restart_policy: str | None = None


class _Token(msgspec.Struct, gc=False):
    path: str = ""


class _Source(msgspec.Struct, rename="camel", gc=False):
    service_account_token: _Token | None = None


class _Projected(msgspec.Struct):
    sources: list[_Source] | None = None


class _Volume(msgspec.Struct):
    projected: _Projected | None = None


class _Spec(msgspec.Struct, rename="camel"):
    containers: list[_Container]
    init_containers: list[_Container] | None = None
    restart_policy: str = "Always"
    service_account_name: str = ""
    termination_grace_period_seconds: int = 30
    volumes: list[_Volume] | None = None


class Condition(msgspec.Struct, rename="camel"):
    """One condition of a pod."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: str | None = None


class SeenStatus(msgspec.Struct, rename="camel"):
    """The parts of a pod's status that its kubelet goes on from."""

    phase: str = "Pending"
    reason: str = ""
    message: str = ""
    start_time: str | None = None
    host_ip: str = msgspec.field(default="", name="hostIP")
    pod_ip: str = msgspec.field(default="", name="podIP")
    conditions: list[Condition] | None = None
    container_statuses: Raw = msgspec.field(default_factory=lambda: Raw(b"null"))
    init_container_statuses: Raw = msgspec.field(default_factory=lambda: Raw(b"null"))


class SeenPod(msgspec.Struct):
    """One pod of a watch."""

    metadata: Meta
    spec: Raw = msgspec.field(default_factory=lambda: Raw(b"{}"))
    status: SeenStatus = msgspec.field(default_factory=SeenStatus)


class Named(NamedTuple):
    """A container's name and image."""

    name: str
    image: str


class PodFacts(NamedTuple):
    """What of a pod's spec is needed all its life; equal ones are kept once."""

    containers: tuple[Named, ...]
    inits: tuple[Named, ...] = ()
    sidecars: tuple[str, ...] = ()
    restart_policy: str = "Always"
    service_account: str = ""
    grace_s: int = 30
    has_tokens: bool = False


_SPEC = msgspec.json.Decoder(_Spec)


def facts_of(spec: Raw) -> PodFacts:
    """Return the facts of a pod's spec.

    Raises:
        msgspec.MsgspecError: it is no pod's spec.
    """
    read = _SPEC.decode(spec)
    inits = read.init_containers or []
    return _once(
        PodFacts(
            containers=tuple(Named(entry.name, entry.image) for entry in read.containers),
            inits=tuple(Named(entry.name, entry.image) for entry in inits),
            sidecars=tuple(entry.name for entry in inits if entry.restart_policy == "Always"),
            restart_policy=read.restart_policy,
            service_account=read.service_account_name,
            grace_s=read.termination_grace_period_seconds,
            has_tokens=any(map(_has_token, read.volumes or ())),
        )
    )


def _has_token(volume: _Volume) -> bool:
    sources = (volume.projected.sources if volume.projected else None) or ()
    return any(source.service_account_token is not None for source in sources)


@lru_cache(maxsize=4096)
def _once(facts: PodFacts) -> PodFacts:
    return facts


def moment_of(spelled: str | None) -> datetime | None:
    """Return the moment that a status spells, or none."""
    return datetime.fromisoformat(spelled) if spelled else None
