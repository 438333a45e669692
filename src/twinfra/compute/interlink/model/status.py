"""The answers of ``/status`` and the events: how a pod and its containers are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from twinfra.compute.interlink.model.reading import Json, as_object, fault_of, objects, text
from twinfra.core.errors import InvalidRequest
from twinfra.core.time import parse_rfc3339, rfc3339


class PodPhase(StrEnum):
    """A pod's phase, as Kubernetes spells it."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    UNKNOWN = "Unknown"

    @property
    def final(self) -> bool:
        """Whether nothing follows."""
        return self in {PodPhase.SUCCEEDED, PodPhase.FAILED}


class ContainerPhase(StrEnum):
    """Which of a container's three states holds."""

    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"


@dataclass(frozen=True)
class ContainerReport:
    """One container: its state, why, and when; ``exit_code`` only where it is terminated."""

    name: str
    phase: ContainerPhase = ContainerPhase.WAITING
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    ready: bool = False
    restarts: int = 0
    image: str = ""
    image_id: str = ""
    last: "ContainerReport | None" = None

    def to_wire(self) -> Json:
        """Return a ``v1.ContainerStatus``."""
        return {
            "name": self.name,
            "state": _state(self),
            "lastState": {} if self.last is None else _state(self.last),
            "ready": self.ready,
            "restartCount": self.restarts,
            "image": self.image,
            "imageID": self.image_id,
            "started": self.phase is ContainerPhase.RUNNING,
        }

    @classmethod
    def from_wire(cls, value: Any) -> "ContainerReport":
        """Read a ``v1.ContainerStatus``; an empty state reads as waiting.

        Raises:
            InvalidRequest: a field has the wrong type; the text names it.
        """
        body = as_object(value, "containerStatus")
        last = as_object(body.get("lastState") or {}, "lastState")
        report = cls(
            name=text(body.get("name"), "name"),
            ready=bool(body.get("ready")),
            restarts=int(body.get("restartCount") or 0),
            image=text(body.get("image"), "image"),
            image_id=text(body.get("imageID"), "imageID"),
        )
        past = report._with_state(last) if last else None
        state = as_object(body.get("state") or {}, "state")
        return replace(report._with_state(state), last=past)

    def _with_state(self, state: Json) -> "ContainerReport":
        for phase in (ContainerPhase.TERMINATED, ContainerPhase.RUNNING, ContainerPhase.WAITING):
            if state.get(phase.value) is not None:
                break
        body = as_object(state.get(phase.value) or {}, phase.value)
        code = body.get("exitCode")
        return replace(
            self,
            phase=phase,
            reason=text(body.get("reason"), "reason"),
            message=text(body.get("message"), "message"),
            exit_code=int(code or 0) if phase is ContainerPhase.TERMINATED else None,
            started_at=_read(body.get("startedAt")),
            finished_at=_read(body.get("finishedAt")),
        )


@dataclass(frozen=True)
class PodReport:
    """One pod: what the wire carries, and beside it our phase, attempt and reason.

    ``origin`` is the cluster and virtual node that made it, as it said; others ignore it.
    """

    uid: str
    name: str
    namespace: str
    native_id: str = ""
    containers: tuple[ContainerReport, ...] = ()
    inits: tuple[ContainerReport, ...] = ()
    phase: PodPhase = PodPhase.PENDING
    attempt: int = 1
    reason: str = ""
    message: str = ""
    origin: str = ""

    def to_wire(self) -> Json:
        """Return the published ``PodStatus``."""
        return {
            "name": self.name,
            "UID": self.uid,
            "namespace": self.namespace,
            "JID": self.native_id,
            "containers": [entry.to_wire() for entry in self.containers],
            "initContainers": [entry.to_wire() for entry in self.inits] or None,
            **({"origin": self.origin} if self.origin else {}),
        }

    def to_event(self) -> Json:
        """Return the body of one event of ``/ext/events``."""
        return {
            "uid": self.uid,
            "phase": self.phase.value,
            "attempt": self.attempt,
            "reason": self.reason,
            "message": self.message,
            "status": self.to_wire(),
        }

    @classmethod
    def from_wire(cls, value: Any) -> "PodReport":
        """Read a ``PodStatus``; the phase is derived as Kubernetes derives it.

        Raises:
            InvalidRequest: a field has the wrong type; the text names it.
        """
        body = as_object(value, "status")
        containers = _reports(body.get("containers"), "containers")
        inits = _reports(body.get("initContainers"), "initContainers")
        failed = next((c for c in (*inits, *containers) if c.exit_code), None)
        waiting = next((c for c in (*inits, *containers) if c.reason), None)
        speaker = failed or waiting
        return cls(
            uid=text(body.get("UID"), "UID"),
            name=text(body.get("name"), "name"),
            namespace=text(body.get("namespace"), "namespace"),
            native_id=text(body.get("JID"), "JID"),
            origin=text(body.get("origin"), "origin"),
            containers=containers,
            inits=inits,
            phase=phase_of(containers, inits),
            reason="" if speaker is None else speaker.reason,
            message="" if speaker is None else speaker.message,
        )

    @classmethod
    def from_event(cls, value: Any) -> "PodReport":
        """Read the body of one event of ``/ext/events``.

        Raises:
            InvalidRequest: a field has the wrong type or the phase is unknown.
        """
        body = as_object(value, "event")
        report = cls.from_wire(body.get("status"))
        try:
            phase = PodPhase(text(body.get("phase"), "phase"))
        except ValueError as error:
            raise InvalidRequest("phase must be a pod's phase") from error
        return replace(
            report,
            phase=phase,
            attempt=int(body.get("attempt") or 1),
            reason=text(body.get("reason"), "reason"),
            message=text(body.get("message"), "message"),
        )


def phase_of(
    containers: Sequence[ContainerReport], inits: Sequence[ContainerReport] = ()
) -> PodPhase:
    """Return the phase that these container states mean; a pod without any is pending.

    Source: Kubernetes documentation, Pod Lifecycle, "Pod phase".
    """
    if not containers:
        return PodPhase.PENDING
    if all(entry.phase is ContainerPhase.TERMINATED for entry in containers):
        good = all(not entry.exit_code for entry in (*containers, *inits))
        return PodPhase.SUCCEEDED if good else PodPhase.FAILED
    if any(entry.phase is not ContainerPhase.WAITING or entry.restarts for entry in containers):
        return PodPhase.RUNNING
    return PodPhase.PENDING


def statuses(value: Any) -> tuple[PodReport, ...]:
    """Read the answer of ``/status``; ``null`` is none.

    Raises:
        InvalidRequest: it is no list of statuses.
    """
    return tuple(PodReport.from_wire(entry) for entry in status_entries(value))


def status_entries(value: Any) -> tuple[Json, ...]:
    """Return the entries of an answer of ``/status``, unread; ``null`` is none.

    Raises:
        InvalidRequest: it is no list of objects, or one is an error: who is absent then may be
            there all the same.
    """
    entries = objects(value, "statuses")
    fault = next((told for entry in entries if (told := fault_of(entry))), "")
    if fault:
        raise InvalidRequest(f"error: {fault}")
    return entries


def _state(report: ContainerReport) -> Json:
    if report.phase is ContainerPhase.RUNNING:
        return {"running": {"startedAt": _spell(report.started_at)}}
    if report.phase is ContainerPhase.WAITING:
        return {"waiting": _sparse(reason=report.reason, message=report.message)}
    return {
        "terminated": {
            "exitCode": 0 if report.exit_code is None else report.exit_code,
            **_sparse(reason=report.reason, message=report.message),
            "startedAt": _spell(report.started_at),
            "finishedAt": _spell(report.finished_at),
        }
    }


def _reports(value: Any, field: str) -> tuple[ContainerReport, ...]:
    return tuple(ContainerReport.from_wire(entry) for entry in objects(value, field))


def _spell(moment: datetime | None) -> str | None:
    """Spell a moment as ``metav1.Time`` does: RFC 3339, whole seconds."""
    return None if moment is None else rfc3339(moment)[:19] + "Z"


def _read(value: Any) -> datetime | None:
    spelled = text(value, "time")
    if not spelled or spelled.startswith("0001-01-01"):
        return None
    try:
        return parse_rfc3339(spelled)
    except ValueError as error:
        raise InvalidRequest(f"{spelled!r} is no time") from error


def _sparse(**fields: str) -> Json:
    return {name: value for name, value in fields.items() if value}
