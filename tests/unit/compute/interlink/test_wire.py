"""The published structures, every spelling of them, read and written."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.compute.interlink.model.create import (
    CreateAnswer,
    PodCreateRequest,
    RetrievedPodData,
    retrieve,
)
from twinfra.compute.interlink.model.logs import LogRequest
from twinfra.compute.interlink.model.ping import Ping
from twinfra.compute.interlink.model.pod import pod_refs
from twinfra.compute.interlink.model.status import (
    ContainerPhase,
    ContainerReport,
    PodPhase,
    PodReport,
    phase_of,
    statuses,
)
from twinfra.compute.interlink.sse import Frame, encode, frames
from twinfra.core.errors import InvalidRequest, TwinfraError

UID = "7c1f0d52-6f2e-4b7e-9f0e-2f4f6a8d1c11"
POD = {"metadata": {"name": "p", "namespace": "ml", "uid": UID}, "spec": {}, "status": {}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=12,
)


@pytest.mark.parametrize("spelling", ["projectedvolumesmaps", "projectedvolumemaps"])
def test_create_reads_both_spellings_of_projected_maps(spelling):
    maps = [{"metadata": {"name": "tok"}, "data": {"token": "x"}}]
    assert PodCreateRequest.from_wire({"pod": POD, spelling: maps}).projected_maps == tuple(maps)


@pytest.mark.parametrize("spelling", ["projectedvolumemaps", "projectedvolumesmaps"])
def test_plugin_reads_both_spellings_of_projected_maps(spelling):
    maps = [{"metadata": {"name": "tok"}}]
    body = {"pod": POD, "container": [{"name": "c", spelling: maps}]}
    assert RetrievedPodData.from_wire(body).containers[0].projected_maps == tuple(maps)


@pytest.mark.parametrize("field", ["configmaps", "secrets", "projectedvolumesmaps"])
def test_null_is_an_empty_list(field):
    PodCreateRequest.from_wire({"pod": POD, field: None})


def test_create_is_written_as_it_was_read():
    body = {
        "pod": POD,
        "configmaps": [{"metadata": {"name": "a"}}],
        "secrets": None,
        "projectedvolumesmaps": None,
        "jobscriptURL": "",
    }
    assert PodCreateRequest.from_wire(body).to_wire() == body


def test_job_script_is_written_only_when_there_is_one():
    assert "jobScript" not in RetrievedPodData(POD).to_wire()
    assert RetrievedPodData(POD, job_script="#!").to_wire()["jobScript"] == "#!"
    assert RetrievedPodData(POD).to_wire()["jobConfig"]["Volumes"]["fuse_sleep_seconds"] == 0


def test_a_list_of_two_is_refused():
    with pytest.raises(InvalidRequest, match="exactly one"):
        RetrievedPodData.from_wire([{"pod": POD}, {"pod": POD}])


def test_objects_are_sorted_by_the_container_that_mounts_them():
    pod = {
        **POD,
        "spec": {
            "volumes": [
                {"name": "c", "configMap": {"name": "maps"}},
                {"name": "s", "secret": {"secretName": "keys"}},
                {"name": "t", "projected": {"sources": []}},
            ],
            "initContainers": [
                {"name": "i", "image": "x", "volumeMounts": [{"name": "s", "mountPath": "/s"}]}
            ],
            "containers": [
                {
                    "name": "m",
                    "image": "x",
                    "volumeMounts": [
                        {"name": "c", "mountPath": "/c"},
                        {"name": "c", "mountPath": "/again"},
                        {"name": "t", "mountPath": "/t"},
                    ],
                }
            ],
        },
    }
    named = {name: {"metadata": {"name": name}} for name in ("maps", "keys", "t", "unmounted")}
    request = PodCreateRequest(
        pod,
        config_maps=(named["maps"], named["unmounted"]),
        secrets=(named["keys"], named["unmounted"]),
        projected_maps=(named["t"], named["unmounted"]),
    )
    init, main = retrieve(request).containers
    assert (init.config_maps, init.secrets, init.projected_maps) == ((), (named["keys"],), ())
    assert (main.config_maps, main.projected_maps) == ((named["maps"],), (named["t"],))


def test_log_requests_read_both_names_of_the_byte_limit():
    base = {"Namespace": "ml", "PodUID": UID, "PodName": "p", "ContainerName": ""}
    for name in ("Bytes", "LimitBytes"):
        assert LogRequest.from_wire({**base, "Opts": {name: 7}}).limit_bytes == 7
    zero = {"SinceTime": "0001-01-01T00:00:00Z"}
    assert LogRequest.from_wire({**base, "Opts": zero}).since_at is None
    since = LogRequest.from_wire({**base, "Opts": {"SinceTime": "2026-07-20T10:00:00+02:00"}})
    assert since.since_at == datetime(2026, 7, 20, 8, tzinfo=UTC)
    assert LogRequest.from_wire(since.to_wire()) == since


def test_status_survives_the_wire():
    began, over = datetime(2026, 7, 20, 10, tzinfo=UTC), datetime(2026, 7, 20, 11, tzinfo=UTC)
    past = ContainerReport(
        "m", ContainerPhase.TERMINATED, "KeeperLost", exit_code=137, finished_at=began
    )
    report = PodReport(
        UID, "p", "ml", "17",
        containers=(
            ContainerReport("m", ContainerPhase.RUNNING, started_at=began, ready=True, restarts=1),
            ContainerReport("n", reason="ContainerCreating", message="soon"),
        ),
        inits=(
            ContainerReport(
                "i", ContainerPhase.TERMINATED, "Completed", "", 0, began, over, image="x"
            ),
        ),
        phase=PodPhase.RUNNING,
    )  # fmt: skip
    again = statuses(json.loads(json.dumps([report.to_wire()])))[0]
    assert (again.containers[0], again.inits) == (report.containers[0], report.inits)
    assert again.phase is PodPhase.RUNNING
    event = PodReport.from_event(json.loads(json.dumps(report.to_event())))
    assert event == report
    assert statuses(None) == ()
    assert past.to_wire()["state"]["terminated"]["exitCode"] == 137


def test_an_upstream_status_is_read_though_it_lacks_fields():
    wire = {
        "name": "p",
        "UID": UID,
        "namespace": "ml",
        "containers": [{"name": "m", "state": {"terminated": {"exitCode": 42, "reason": "OOM"}}}],
        "initContainers": None,
    }
    report = PodReport.from_wire(wire)
    assert (report.phase, report.reason, report.containers[0].exit_code) == ("Failed", "OOM", 42)


def container(phase, code=None):
    return ContainerReport("m", ContainerPhase(phase), exit_code=code)


@pytest.mark.parametrize(
    ("containers", "phase"),
    [
        ([], "Pending"),
        ([container("waiting")], "Pending"),
        ([container("running"), container("waiting")], "Running"),
        ([container("terminated", 0), container("running")], "Running"),
        ([container("terminated", 0)], "Succeeded"),
        ([container("terminated", 0), container("terminated", 3)], "Failed"),
    ],
)
def test_the_phase_follows_from_the_containers(containers, phase):
    assert phase_of(containers) == phase


def test_a_ping_survives_the_wire():
    ping = Ping(
        cpus=1.5, memory_bytes=1 << 30, pods=7, accelerators={"nvidia.com/gpu": 2},
        extensions=("events",), free_cpus=0.5, free_memory_bytes=5, free_slots=1, queue_length=3,
        queue_wait_s=12.5, runtime={"isolated": True},
    )  # fmt: skip
    again = Ping.from_wire(json.loads(json.dumps(ping.to_wire())))
    assert (again.cpus, again.memory_bytes, again.accelerators) == (1.5, 1 << 30, ping.accelerators)
    assert (again.free_cpus, again.queue_wait_s, again.runtime) == (0.5, 12.5, {"isolated": True})


@given(JSON)
def test_any_answer_of_a_ping_is_read(value):
    Ping.from_wire(value)
    Ping.from_wire({"resources": value, "taints": value, "extensions": value, "free": value})


@given(JSON)
def test_malformed_bodies_are_refused_not_crashed_on(value):
    for read in (
        PodCreateRequest.from_wire,
        RetrievedPodData.from_wire,
        CreateAnswer.from_wire,
        LogRequest.from_wire,
        statuses,
        pod_refs,
    ):
        for body in (value, [value], {"pod": value}, {"metadata": value}, {"Opts": value}):
            try:
                read(body)
            except TwinfraError:
                continue


async def test_events_are_read_in_whatever_pieces_they_come():
    body = encode({"a": 1}, event="pod", event_id="7") + b": quiet\n\n" + encode({"b": "x\ny"})

    async def pieces(size):
        for start in range(0, len(body), size):
            yield body[start : start + size]

    for size in (1, 3, 1000):
        found = [frame async for frame in frames(pieces(size))]
        assert found == [
            Frame('{"a":1}', "pod", "7"),
            Frame('{"b":"x\\ny"}', "message", "7"),
        ]
