"""What a pod's status must be, from what its site reports; pure.

The site's words stay: reasons, messages, exit codes and times are its own. Kubernetes' conventions
are ours: phase, conditions, the order of containers, one entry for every container from the start.

Source: Kubernetes documentation, "Pod Lifecycle"; API reference, PodStatus.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec

from twinfra.compute.interlink.model.status import (
    ContainerPhase,
    ContainerReport,
    PodPhase,
    PodReport,
)
from twinfra.compute.kubelet.model.seen import Named, PodFacts, SeenPod
from twinfra.core.time import rfc3339

Json = dict[str, Any]
CREATING = "ContainerCreating"
INITIALIZING = "PodInitializing"
COMPLETED = "PodCompleted"
CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)


@dataclass(frozen=True)
class Told:
    """What Kubernetes was last told of a pod: a status goes on from there.

    Attributes:
        phase: of the pod.
        started_at: spelled as in the status; empty before.
        conditions: status and moment of the last change of those that are ours, by type.
        mark: `mark_of` the status.
    """

    phase: str = "Pending"
    started_at: str = ""
    conditions: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    mark: int = 0


def told_of(pod: SeenPod) -> Told:
    """Return what Kubernetes was told of a pod, read from the pod."""
    status = pod.status
    ours = {
        entry.type: (entry.status, entry.last_transition_time or "")
        for entry in status.conditions or ()
        if entry.type in CONDITIONS
    }
    body: Json = {
        "phase": status.phase,
        "reason": status.reason,
        "message": status.message,
        "hostIP": status.host_ip,
        "podIP": status.pod_ip,
        "startTime": status.start_time,
        "conditions": [
            {
                "type": entry.type,
                "status": entry.status,
                "reason": entry.reason,
                "message": entry.message,
            }
            for entry in status.conditions or ()
            if entry.type in CONDITIONS
        ],
        "containerStatuses": msgspec.json.decode(status.container_statuses),
        "initContainerStatuses": msgspec.json.decode(status.init_container_statuses),
    }
    return Told(status.phase, status.start_time or "", ours, mark_of(body))


def mark_of(status: Json) -> int:
    """Return a number that differs where two statuses say different things.

    Moments of conditions and what is empty say nothing.
    """
    return hash(msgspec.json.encode(_significant(status), order="deterministic"))


def status_of(
    report: PodReport, facts: PodFacts, told: Told, *, address: str, now: datetime
) -> Json:
    """Return the status of a pod whose site gave `report`.

    A phase that is over stays as it is; a pod without container states is pending, never succeeded.

    Args:
        report: of the site.
        facts: of the pod's spec.
        told: what Kubernetes was told before.
        address: of the node; the pod's too.
        now: the moment of what changes.
    """
    mains = _ordered(report.containers, facts.containers, _idle_reason(report, facts))
    inits = _ordered(report.inits, facts.inits, INITIALIZING if facts.inits else CREATING)
    phase = _phase(report, mains, inits, facts)
    spelled = _spell(now)
    body: Json = {
        "phase": phase.value,
        "reason": report.reason if phase is PodPhase.FAILED else None,
        "message": report.message if phase is PodPhase.FAILED else None,
        "hostIP": address,
        "hostIPs": [{"ip": address}],
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": told.started_at or spelled,
        "conditions": _conditions(phase, mains, inits, facts, told, spelled),
        "containerStatuses": [_wire(entry, phase) for entry in mains],
    }
    if inits:
        body["initContainerStatuses"] = [
            _wire(entry, phase, init=entry.name not in facts.sidecars) for entry in inits
        ]
    return body


def failed_status(
    facts: PodFacts, told: Told, *, reason: str, message: str, address: str, now: datetime
) -> Json:
    """Return the status of a pod that failed before any container of it could run."""
    report = PodReport(
        uid="",
        name="",
        namespace="",
        containers=tuple(_dead(entry, reason, message) for entry in facts.containers),
        inits=tuple(_dead(entry, reason, message) for entry in facts.inits),
        phase=PodPhase.FAILED,
        reason=reason,
        message=message,
    )
    return status_of(report, facts, told, address=address, now=now)


def waiting_status(
    facts: PodFacts, told: Told, *, reason: str, message: str, address: str, now: datetime
) -> Json:
    """Return the status of a pod that waits for something before its site is asked."""
    report = PodReport(
        uid="",
        name="",
        namespace="",
        containers=tuple(
            ContainerReport(entry.name, reason=reason, message=message, image=entry.image)
            for entry in facts.containers
        ),
    )
    return status_of(report, facts, told, address=address, now=now)


def after(told: Told, status: Json) -> Told:
    """Return what Kubernetes has been told once `status` is written."""
    return Told(
        phase=status["phase"],
        started_at=status.get("startTime") or told.started_at,
        conditions={
            entry["type"]: (entry["status"], entry["lastTransitionTime"])
            for entry in status["conditions"]
        },
        mark=mark_of(status),
    )


def _phase(
    report: PodReport,
    mains: Sequence[ContainerReport],
    inits: Sequence[ContainerReport],
    facts: PodFacts,
) -> PodPhase:
    """Return the phase; a plug-in that only fills in containers is understood as Kubernetes would.

    A failed init container fails a pod that is never restarted.
    """
    if not report.containers:
        return PodPhase.FAILED if report.phase is PodPhase.FAILED else PodPhase.PENDING
    broken = any(
        entry.exit_code and entry.name not in facts.sidecars
        for entry in inits
        if entry.phase is ContainerPhase.TERMINATED
    )
    if broken and facts.restart_policy == "Never":
        return PodPhase.FAILED
    if report.phase is PodPhase.SUCCEEDED and any(
        entry.phase is not ContainerPhase.TERMINATED for entry in mains
    ):
        return PodPhase.RUNNING
    return PodPhase.PENDING if report.phase is PodPhase.UNKNOWN else report.phase


def _idle_reason(report: PodReport, facts: PodFacts) -> str:
    busy = any(
        entry.phase is not ContainerPhase.TERMINATED and entry.name not in facts.sidecars
        for entry in report.inits
    )
    return INITIALIZING if busy else CREATING


def _ordered(
    reports: Sequence[ContainerReport], names: Sequence[Named], idle: str
) -> list[ContainerReport]:
    """Return one report for each container of the spec, in its order."""
    known = {entry.name: entry for entry in reports}
    return [
        known.get(entry.name) or ContainerReport(entry.name, reason=idle, image=entry.image)
        for entry in names
    ]


def _dead(entry: Named, reason: str, message: str) -> ContainerReport:
    return ContainerReport(
        entry.name,
        ContainerPhase.TERMINATED,
        reason=reason,
        message=message,
        exit_code=1,
        image=entry.image,
    )


def _conditions(
    phase: PodPhase,
    mains: Sequence[ContainerReport],
    inits: Sequence[ContainerReport],
    facts: PodFacts,
    told: Told,
    now: str,
) -> list[Json]:
    lacking = [entry.name for entry in inits if not _has_done(entry, facts)]
    initialized = phase in {PodPhase.RUNNING, PodPhase.SUCCEEDED} or not lacking
    unready = [entry.name for entry in mains if not _ready(entry, phase)]
    unready += [
        entry.name for entry in inits if entry.name in facts.sidecars and not _ready(entry, phase)
    ]
    why, text = "", ""
    if phase is PodPhase.SUCCEEDED:
        why = COMPLETED
    elif phase is PodPhase.FAILED:
        why = "PodFailed"
    elif unready:
        why, text = "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]"
    ready = phase is PodPhase.RUNNING and not unready
    waits = f"containers with incomplete status: [{' '.join(lacking)}]"
    begun = any(entry.phase is not ContainerPhase.WAITING for entry in (*mains, *inits))
    found = {
        "PodReadyToStartContainers": (begun and not phase.final, "", ""),
        "Initialized": (
            initialized,
            COMPLETED if phase is PodPhase.SUCCEEDED else "",
            "",
        )
        if initialized
        else (False, "ContainersNotInitialized", waits),
        "Ready": (ready, "" if ready else why, text),
        "ContainersReady": (ready, "" if ready else why, text),
        "PodScheduled": (True, "", ""),
    }
    return [
        _condition(kind, "True" if value else "False", reason, message, told, now)
        for kind, (value, reason, message) in found.items()
    ]


def _condition(kind: str, value: str, reason: str, message: str, told: Told, now: str) -> Json:
    before, since = told.conditions.get(kind, ("", ""))
    return {
        "type": kind,
        "status": value,
        "reason": reason or None,
        "message": message or None,
        "lastTransitionTime": since if before == value and since else now,
    }


def _has_done(entry: ContainerReport, facts: PodFacts) -> bool:
    if entry.name in facts.sidecars:
        return entry.phase is not ContainerPhase.WAITING
    return entry.phase is ContainerPhase.TERMINATED and not entry.exit_code


def _ready(entry: ContainerReport, phase: PodPhase) -> bool:
    return entry.ready and entry.phase is ContainerPhase.RUNNING and not phase.final


def _wire(entry: ContainerReport, phase: PodPhase, *, init: bool = False) -> Json:
    """Return a ``v1.ContainerStatus`` as the API server keeps it."""
    body = entry.to_wire()
    body["ready"] = (
        (entry.phase is ContainerPhase.TERMINATED and not entry.exit_code)
        if init
        else _ready(entry, phase)
    )
    for state in (body["state"], body["lastState"]):
        ended = state.get("terminated")
        if ended is not None:
            for name in ("startedAt", "finishedAt"):
                if ended.get(name) is None:
                    del ended[name]
        running = state.get("running")
        if running is not None and running.get("startedAt") is None:
            del running["startedAt"]
    return body


def _significant(value: Any) -> Any:
    """Drop what is empty, and what differs without saying anything."""
    if isinstance(value, dict):
        kept = {
            key: _significant(entry)
            for key, entry in value.items()
            if key not in {"lastTransitionTime", "lastProbeTime", "hostIPs", "podIPs"}
        }
        return {key: entry for key, entry in kept.items() if entry not in (None, "", [], {})}
    if isinstance(value, list):
        return [_significant(entry) for entry in value]
    return value


def _spell(moment: datetime) -> str:
    """Spell a moment as ``metav1.Time``: whole seconds."""
    return rfc3339(moment)[:19] + "Z"
