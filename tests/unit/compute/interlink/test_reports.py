"""What is told of a pod when its site and its keeper do not say the same."""

import pytest

from twinfra.compute.containers.keeper.model import (
    RUNNING,
    ContainerStatus,
    PodState,
    Running,
)
from twinfra.compute.interlink.model.status import (
    ContainerPhase,
    ContainerReport,
    PodPhase,
    PodReport,
)
from twinfra.compute.interlink.plugin.reports import seen
from twinfra.compute.sites.model import JobState, JobStatus

BEFORE = PodReport("u", "train", "ml", containers=(ContainerReport("main"),))
BEGAN = "2026-11-27T12:00:00Z"
MAIN = ContainerStatus(
    "main", "python:3", "", waiting=None, running=Running(BEGAN), ready=True, started=True
)
ALIVE = PodState("u", 1, 2, RUNNING, containers=(MAIN,), started_at=BEGAN, ready=True)


def test_a_keeper_is_believed_while_its_job_is_not_over():
    told = seen(BEFORE, JobStatus(JobState.RUNNING, pod=ALIVE))
    assert (told.phase, told.containers[0].phase) == (PodPhase.RUNNING, ContainerPhase.RUNNING)


@pytest.mark.parametrize(
    ("status", "phase", "reason", "exit_code"),
    [
        (JobStatus(JobState.COMPLETED, exit_code=0), PodPhase.SUCCEEDED, "Completed", 0),
        (JobStatus(JobState.FAILED, reason="NodeFail"), PodPhase.FAILED, "NodeFail", 1),
        (JobStatus(JobState.FAILED, reason="KeeperLost"), PodPhase.FAILED, "KeeperLost", 137),
        (JobStatus(JobState.CANCELLED, exit_code=143), PodPhase.FAILED, "Cancelled", 143),
    ],
)
@pytest.mark.parametrize("keeper", [ALIVE, None])
def test_a_pod_is_over_when_its_site_says_so_though_its_keeper_did_not(
    status, phase, reason, exit_code, keeper
):
    told = seen(BEFORE, JobStatus(**{**vars(status), "pod": keeper}))
    main = told.containers[0]
    assert (told.phase, told.reason) == (phase, reason)
    assert (main.phase, main.exit_code) == (ContainerPhase.TERMINATED, exit_code)
    assert (main.started_at is not None) == (keeper is not None)
