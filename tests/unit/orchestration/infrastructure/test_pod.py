"""A workload as a pod, and a site's report as an observation."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from twinfra.compute.interlink.client import ContainerPhase, ContainerReport, PodPhase, PodReport
from twinfra.orchestration.infrastructure.model import Handle, Phase, Workload, label
from twinfra.orchestration.infrastructure.pod import observe, pod_of

UID = "11111111-2222-4333-8444-555555555555"
JOB = Workload(
    uid=UID,
    node="Train_It",
    image="climate:1",
    deployment="d1",
    group="climate/ocean",
    command=("python",),
    args=("train.py", "$(rm -rf /)\n#SBATCH"),
    env={"B": "2", "A": "1"},
    cpu=0.5,
    memory_bytes=512 << 20,
    gpus=2,
    inputs=("climate:scenarios", "climate:model.v2"),
    outputs=("climate:model",),
    mounts={"climate:model.v2": "/data/climate/model"},
)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def test_job_is_a_pod_that_never_restarts_when_it_has_no_port():
    pod = pod_of(JOB)
    assert pod["metadata"]["uid"] == UID
    assert pod["metadata"]["name"] == "train-it-11111111"
    assert pod["metadata"]["namespace"] == "climate-ocean"
    assert pod["metadata"]["annotations"] == {
        "twinfra.io/inputs": "climate:scenarios,climate:model.v2",
        "twinfra.io/outputs": "climate:model",
        "twinfra.io/mounts": "climate:model.v2=/data/climate/model",
        "twinfra.io/deployment": "d1",
        "twinfra.io/node": "Train_It",
        "twinfra.io/group": "climate/ocean",
    }
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["restartPolicy"] == "Never"
    assert container["command"] == ["python"]
    assert container["args"] == ["train.py", "$(rm -rf /)\n#SBATCH"]
    assert container["env"] == [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]
    size = {"cpu": "500m", "memory": str(512 << 20), "nvidia.com/gpu": "2"}
    assert container["resources"] == {"requests": size, "limits": size}
    assert "ports" not in container


def test_service_is_a_pod_that_restarts_and_says_how_it_is_ready():
    service = replace(JOB, port=8080, readiness_path="/ready", restart=True, gpus=0, inputs=())
    pod = pod_of(service)
    (container,) = pod["spec"]["containers"]
    assert pod["spec"]["restartPolicy"] == "Always"
    assert container["ports"] == [{"containerPort": 8080, "protocol": "TCP"}]
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8080}
    assert "twinfra.io/inputs" not in pod["metadata"]["annotations"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("climate/ocean", "climate-ocean"), ("--", "x"), ("A" * 60, "a" * 40), ("é", "x")],
)
def test_label_fits_kubernetes_whatever_the_text(text, expected):
    assert label(text) == expected


def test_handle_follows_from_the_workload_alone():
    assert JOB.handle == Handle.of(UID, "Train_It", "climate/ocean")


def report(phase=PodPhase.RUNNING, **changes):
    main = ContainerReport(name="main", **changes)
    return PodReport(uid=UID, name="n", namespace="ns", containers=(main,), phase=phase)


@pytest.mark.parametrize(
    ("given", "phase", "lost", "by_site"),
    [
        (report(phase=PodPhase.PENDING, reason="Queued"), Phase.PENDING, False, False),
        (
            report(phase=PodPhase.PENDING, reason="WaitingForData"),
            Phase.WAITING_FOR_DATA, False, False,
        ),
        (report(started_at=BEGAN), Phase.PENDING, False, False),
        (
            replace(report(), containers=(ContainerReport("main", ContainerPhase.RUNNING),)),
            Phase.RUNNING, False, False,
        ),
        (
            report(PodPhase.SUCCEEDED, exit_code=0, reason="Completed", started_at=BEGAN),
            Phase.SUCCEEDED, False, False,
        ),
        (
            report(PodPhase.FAILED, exit_code=3, reason="Error", started_at=BEGAN),
            Phase.FAILED, False, False,
        ),
        (
            report(PodPhase.FAILED, exit_code=137, reason="KeeperLost", started_at=BEGAN),
            Phase.FAILED, True, False,
        ),
        (
            report(PodPhase.FAILED, exit_code=1, reason="SiteRejected"),
            Phase.FAILED, False, True,
        ),
        (
            report(PodPhase.FAILED, exit_code=1, reason="OutputsFailed", started_at=BEGAN),
            Phase.FAILED, False, True,
        ),
        (report(PodPhase.UNKNOWN), Phase.UNKNOWN, False, False),
        (PodReport(uid=UID, name="n", namespace="ns"), Phase.PENDING, False, False),
    ],
)  # fmt: skip
def test_report_is_read_as_what_it_means_for_a_job(given, phase, lost, by_site):
    seen = observe(given, restarting=False)
    assert (seen.phase, seen.lost, seen.by_site) == (phase, lost, by_site)


def test_end_is_a_pause_when_the_site_restarts_it_unless_it_lost_it():
    ended = report(PodPhase.FAILED, exit_code=1, reason="Error", started_at=BEGAN)
    assert observe(ended, restarting=True).phase is Phase.PENDING
    lost = report(PodPhase.FAILED, exit_code=137, reason="KeeperLost", started_at=BEGAN)
    assert observe(lost, restarting=True).phase is Phase.FAILED
