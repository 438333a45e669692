"""How a workload is spelled as a ``v1.Pod`` and how its report is read; pure.

The annotations are the federation's own; everything else is what any interLink plug-in understands.
Its neighbour ``batch`` carries the pod to a site.

Source: Kubernetes API reference, Pod v1; Kubernetes documentation, Pod Lifecycle.
"""

from typing import Any

from twinfra.compute.interlink.client import ContainerPhase, ContainerReport, PodPhase, PodReport
from twinfra.orchestration.infrastructure.model import Handle, Observation, Phase, Workload

ANNOTATION = "twinfra.io/"
CONTAINER = "main"
GPU = "nvidia.com/gpu"
GRACE_S = 10
WAITING_FOR_DATA = "WaitingForData"
LOST_REASONS = frozenset(
    {
        "KeeperLost", "Cancelled", "Evicted", "Preempted",
        "NodeLost", "NodeShutdown", "Shutdown", "Terminated",
    }
)  # fmt: skip
SITE_REASONS = frozenset({"OutputsFailed", "InternalError", "SiteRejected"})


def pod_of(workload: Workload) -> dict[str, Any]:
    """Return the pod that makes `workload` run.

    Guarantees: the same workload gives the same pod; its UID is the workload's.
    """
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata_of(workload.handle),
            "annotations": _annotations(workload),
        },
        "spec": {
            "containers": [_container(workload)],
            "restartPolicy": "Always" if workload.restart else "Never",
            "terminationGracePeriodSeconds": GRACE_S,
            **({"activeDeadlineSeconds": workload.wall_limit_s} if workload.wall_limit_s else {}),
        },
        "status": {"phase": "Pending"},
    }


def metadata_of(handle: Handle) -> dict[str, str]:
    """Return the part of a pod's metadata that says which pod is meant."""
    return {"name": handle.name, "namespace": handle.namespace, "uid": handle.uid}


def observe(report: PodReport, *, restarting: bool) -> Observation:
    """Return what a site's report means.

    Args:
        report: as the site gave it.
        restarting: the site starts the workload again when it ends, so an end is only a pause,
            unless the site itself ended it.
    """
    main = _main(report)
    reason, message = report.reason or main.reason, report.message or main.message
    lost = report.phase is PodPhase.FAILED and reason in LOST_REASONS
    return Observation(
        phase=_phase(report, main, reason, paused=restarting and not lost),
        reason=reason,
        message=message,
        exit_code=main.exit_code,
        attempt=report.attempt,
        ready=main.ready,
        restarts=main.restarts,
        lost=lost,
        by_site=report.phase is PodPhase.FAILED and not lost and _by_site(main, reason),
        native_id=report.native_id,
        started_at=main.started_at,
        finished_at=main.finished_at,
    )


def _by_site(main: ContainerReport, reason: str) -> bool:
    """Say whether the container never began, or its site spoiled its end."""
    return main.started_at is None or not main.exit_code or reason in SITE_REASONS


def _main(report: PodReport) -> ContainerReport:
    ours = [entry for entry in report.containers if entry.name == CONTAINER]
    return next(iter(ours or report.containers), ContainerReport(name=CONTAINER))


def _phase(report: PodReport, main: ContainerReport, reason: str, *, paused: bool) -> Phase:
    if report.phase.final and not paused:
        return Phase.SUCCEEDED if report.phase is PodPhase.SUCCEEDED else Phase.FAILED
    if report.phase is PodPhase.UNKNOWN:
        return Phase.UNKNOWN
    if main.phase is ContainerPhase.RUNNING:
        return Phase.RUNNING
    return Phase.WAITING_FOR_DATA if reason == WAITING_FOR_DATA else Phase.PENDING


def _annotations(workload: Workload) -> dict[str, str]:
    found = {
        "inputs": ",".join(workload.inputs),
        "outputs": ",".join(workload.outputs),
        "mounts": ",".join(f"{did}={path}" for did, path in sorted(workload.mounts.items())),
        "deployment": workload.deployment,
        "node": workload.node,
        "group": workload.group,
    }
    return {ANNOTATION + name: value for name, value in found.items() if value}


def _container(workload: Workload) -> dict[str, Any]:
    size: dict[str, str] = {
        "cpu": _cpu(workload.cpu),
        "memory": str(workload.memory_bytes),
        **({GPU: str(workload.gpus)} if workload.gpus else {}),
    }
    body: dict[str, Any] = {
        "name": CONTAINER,
        "image": workload.image,
        "env": [{"name": name, "value": value} for name, value in sorted(workload.env.items())],
        "resources": {"requests": size, "limits": dict(size)},
    }
    if workload.command:
        body["command"] = list(workload.command)
    if workload.args:
        body["args"] = list(workload.args)
    if workload.port is not None:
        body["ports"] = [{"containerPort": workload.port, "protocol": "TCP"}]
        if workload.readiness_path is not None:
            body["readinessProbe"] = {
                "httpGet": {"path": workload.readiness_path, "port": workload.port},
                "periodSeconds": 1,
            }
    return body


def _cpu(cpu: float) -> str:
    return str(int(cpu)) if cpu == int(cpu) else f"{round(cpu * 1000)}m"
