"""What a pod's status must be, from what its site reports."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec import Raw

from twinfra.compute.interlink.client import ContainerPhase, ContainerReport, PodPhase, PodReport
from twinfra.compute.kubelet.kube.model import Meta
from twinfra.compute.kubelet.model.seen import Named, PodFacts, SeenPod, SeenStatus, facts_of
from twinfra.compute.kubelet.model.status import (
    Told,
    after,
    failed_status,
    mark_of,
    status_of,
    told_of,
    waiting_status,
)

NOW = datetime(2026, 7, 20, 10, 0, tzinfo=UTC)
FACTS = PodFacts((Named("main", "python:3.12"),), restart_policy="Never")
ADDRESS = "10.1.2.3"


def report(*containers, inits=(), **more):
    more.setdefault("phase", PodPhase.PENDING)
    return PodReport("u", "train-0", "ml", containers=containers, inits=tuple(inits), **more)


def waiting(name="main", reason="Priority", message="number 3 in the queue"):
    return ContainerReport(name, reason=reason, message=message, image="python:3.12")


def running(name="main", *, ready=True):
    return ContainerReport(name, ContainerPhase.RUNNING, started_at=NOW, ready=ready)


def ended(name="main", code=0, reason="Completed"):
    return ContainerReport(
        name, ContainerPhase.TERMINATED, exit_code=code, reason=reason, started_at=NOW,
        finished_at=NOW,
    )  # fmt: skip


def made(told_report, facts=FACTS, told=None, now=NOW):
    return status_of(told_report, facts, told or Told(), address=ADDRESS, now=now)


def condition(status, kind):
    return next(entry for entry in status["conditions"] if entry["type"] == kind)


@pytest.mark.story("A pod with no container states stays Pending, never Succeeded")
@pytest.mark.parametrize("phase", [PodPhase.PENDING, PodPhase.SUCCEEDED, PodPhase.RUNNING])
def test_is_pending_with_every_container_waiting_when_the_site_lists_none(phase):
    status = made(report(phase=phase))
    assert status["phase"] == "Pending"
    (entry,) = status["containerStatuses"]
    assert entry["name"] == "main"
    assert entry["state"] == {"waiting": {"reason": "ContainerCreating"}}


@pytest.mark.story("Container states with the plug-in's own reasons kept")
def test_keeps_the_queue_reason_when_the_pod_waits():
    status = made(report(waiting()))
    assert status["phase"] == "Pending"
    state = status["containerStatuses"][0]["state"]["waiting"]
    assert state == {"reason": "Priority", "message": "number 3 in the queue"}
    assert condition(status, "Ready")["reason"] == "ContainersNotReady"


def test_is_running_and_ready_when_its_container_is():
    status = made(report(running(), phase=PodPhase.RUNNING))
    assert status["phase"] == "Running"
    assert condition(status, "Ready")["status"] == "True"
    assert condition(status, "ContainersReady")["status"] == "True"
    assert (status["podIP"], status["hostIP"]) == (ADDRESS, ADDRESS)
    assert status["containerStatuses"][0]["state"]["running"]["startedAt"] == "2026-07-20T10:00:00Z"


def test_runs_without_being_ready_when_the_probe_has_not_passed():
    status = made(report(running(ready=False), phase=PodPhase.RUNNING))
    assert status["phase"] == "Running"
    assert condition(status, "Ready")["status"] == "False"
    assert "main" in condition(status, "Ready")["message"]
    assert status["containerStatuses"][0]["ready"] is False


@pytest.mark.story("Exit 42 gives Failed with exitCode 42 and the plug-in's reason (OOMKilled)")
def test_fails_with_code_and_reason_when_the_container_did():
    failed = report(
        ended(code=42, reason="OOMKilled"), phase=PodPhase.FAILED, reason="OOMKilled", message="m"
    )
    status = made(failed)
    assert status["phase"] == "Failed"
    assert (status["reason"], status["message"]) == ("OOMKilled", "m")
    state = status["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (42, "OOMKilled")
    assert condition(status, "Ready")["reason"] == "PodFailed"


def test_is_complete_when_it_succeeded():
    status = made(report(ended(), phase=PodPhase.SUCCEEDED))
    assert status["phase"] == "Succeeded"
    assert condition(status, "Initialized")["reason"] == "PodCompleted"
    assert condition(status, "Ready")["reason"] == "PodCompleted"


@pytest.mark.story("Init:i/n while init containers run; their failure fails the pod")
def test_shows_init_containers_when_they_run_and_fails_with_them():
    facts = FACTS._replace(inits=(Named("one", "a"), Named("two", "b")))
    status = made(report(inits=[ended("one"), running("two")]), facts)
    assert status["phase"] == "Pending"
    first, second = status["initContainerStatuses"]
    assert first["ready"] is True
    assert "running" in second["state"]
    assert condition(status, "Initialized")["status"] == "False"
    assert "two" in condition(status, "Initialized")["message"]
    assert status["containerStatuses"][0]["state"]["waiting"]["reason"] == "PodInitializing"
    broken = made(report(waiting(), inits=[ended("one", 3, "Error"), waiting("two")]), facts)
    assert broken["phase"] == "Failed"


def test_a_sidecar_does_not_hold_a_pod_back_when_it_runs():
    facts = FACTS._replace(inits=(Named("side", "a"),), sidecars=("side",))
    status = made(report(running(), inits=[running("side")], phase=PodPhase.RUNNING), facts)
    assert condition(status, "Initialized")["status"] == "True"
    assert condition(status, "Ready")["status"] == "True"


def test_a_pod_is_not_succeeded_when_one_of_two_containers_is_missing():
    facts = FACTS._replace(containers=(Named("main", "a"), Named("other", "b")))
    status = made(report(ended(), phase=PodPhase.SUCCEEDED), facts)
    assert status["phase"] == "Running"
    assert [entry["name"] for entry in status["containerStatuses"]] == ["main", "other"]


def test_moments_of_conditions_stay_when_nothing_changed():
    first = made(report(running(), phase=PodPhase.RUNNING))
    told = after(Told(), first)
    later = made(
        report(running(), phase=PodPhase.RUNNING), told=told, now=NOW + timedelta(minutes=5)
    )
    assert later["conditions"] == first["conditions"]
    assert later["startTime"] == first["startTime"]
    assert mark_of(later) == told.mark


@pytest.mark.story("A restart adopts the phase Kubernetes has: nothing is patched again")
def test_says_nothing_new_when_the_pod_is_read_back_from_the_api_server():
    status = made(report(running(), phase=PodPhase.RUNNING))
    kept = {**status, "qosClass": "BestEffort", "observedGeneration": 1}
    kept["conditions"] = [
        {"lastProbeTime": None, "observedGeneration": 1, **entry} for entry in status["conditions"]
    ] + [{"type": "DisruptionTarget", "status": "False"}]
    bare = {k: v for k, v in kept.items() if v is not None}
    bare["conditions"] = [{k: v for k, v in c.items() if v is not None} for c in bare["conditions"]]
    seen = SeenPod(
        Meta(name="train-0"),
        Raw(b"{}"),
        msgspec.json.decode(msgspec.json.encode(bare), type=SeenStatus),
    )
    told = told_of(seen)
    assert told.phase == "Running"
    again = made(report(running(), phase=PodPhase.RUNNING), told=told, now=NOW + timedelta(hours=1))
    assert mark_of(again) == told.mark
    assert again["conditions"] == status["conditions"]


@pytest.mark.story("Create failure: pod Failed, reason ProviderFailed, with the site's text")
def test_every_container_is_terminated_when_creation_failed():
    status = failed_status(
        FACTS, Told(), reason="ProviderFailed", message="no such queue", address=ADDRESS, now=NOW
    )
    assert (status["phase"], status["reason"]) == ("Failed", "ProviderFailed")
    assert status["message"] == "no such queue"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 1


def test_names_what_is_missing_when_a_pod_waits_for_it():
    status = waiting_status(
        FACTS, Told(), reason="ContainerCreating", message='configmap "x" not found',
        address=ADDRESS, now=NOW,
    )  # fmt: skip
    assert status["phase"] == "Pending"
    assert "configmap" in status["containerStatuses"][0]["state"]["waiting"]["message"]


def test_facts_are_read_once_when_many_pods_have_the_same():
    spec = Raw(
        b'{"containers":[{"name":"main","image":"i","env":[{"name":"A"}]}],"restartPolicy":"Never",'
        b'"initContainers":[{"name":"s","restartPolicy":"Always"},{"name":"i"}],'
        b'"serviceAccountName":"robot","terminationGracePeriodSeconds":5}'
    )
    facts = facts_of(spec)
    assert facts is facts_of(spec)
    assert facts.sidecars == ("s",)
    assert (facts.restart_policy, facts.service_account, facts.grace_s) == ("Never", "robot", 5)
