"""Inputs and outputs of pods through the real neighbours: issuer, datasets, edge, accounting."""

import asyncio
import hashlib
import zlib

import pytest

from twinfra.accounting.client import AccountingClient
from twinfra.compute.interlink.client import LogRequest, PodCreateRequest, PodPhase
from twinfra.core.errors import TwinfraError
from twinfra.data.datasets.client import Did, FileSpec, NewCollection, RuleState
from twinfra.testkit.waiting import wait_for

pytestmark = pytest.mark.slow
OVER = (PodPhase.SUCCEEDED, PodPhase.FAILED)
HERE, ELSEWHERE = "HPC-B", "EDGE-C"


def hints(**named):
    return {f"twinfra.io/{name}": value for name, value in named.items()}


def file_of(dataset, name, body):
    return FileSpec(
        Did("climate", f"{dataset}/{name}"),
        len(body),
        adler32=f"{zlib.adler32(body):08x}",
        md5=hashlib.md5(body).hexdigest(),
    )


async def dataset_of(federation, dataset, files, *, rse=HERE):
    """Put files to the edge (where `rse` has one) and register them in a dataset."""
    did = Did("climate", dataset)
    await federation.datasets.dids_add([NewCollection(did)], exist_ok=True)
    for name, body in files.items():
        if rse in {HERE, ELSEWHERE}:
            await federation.put(f"/datasets/climate/{dataset}/{name}", body, rse.lower())
        await federation.datasets.add_replicas(rse, [file_of(dataset, name, body)])
        await federation.datasets.attach(did, [Did("climate", f"{dataset}/{name}")])
    return did


async def log_of(federation, uid):
    wanted = LogRequest("climate", uid, "job-0")
    return (await federation.pods.logs(wanted)).decode()


async def test_a_pod_waits_for_its_data_and_starts_when_it_has_come(federation, make_pod):
    await dataset_of(federation, "ensemble", {"near.nc": b"near"})
    await dataset_of(federation, "ensemble", {"far.nc": b"far"}, rse="FAR-AWAY")
    read = "cd /data/climate/ensemble && cat near.nc far.nc && ! touch x 2>/dev/null"
    read += " && echo $TWINFRA_INPUTS"
    pod = make_pod(read, annotations=hints(inputs="climate:ensemble", group="climate"))
    uid = await federation.create(pod)

    async def waiting():
        found = await federation.pods.status([pod])
        return found and found[0].containers[0].reason == "WaitingForData" and found[0]

    report = await wait_for(waiting, timeout_s=20, what="the pod held")
    assert "1 of 2 files" in report.containers[0].message
    await federation.put("/datasets/climate/ensemble/far.nc", b"far")
    await federation.datasets.add_replicas(HERE, [file_of("ensemble", "far.nc", b"far")])
    ended = await federation.site.until(pod, *OVER)
    text = await log_of(federation, uid)
    assert (ended.phase, "nearfar" in text) == (PodPhase.SUCCEEDED, True), text
    assert text.endswith("/data/climate/ensemble\n")


@pytest.mark.story(
    "`twinfra.io/inputs`: data that is elsewhere is brought by a rule, for the pod's owner"
)
async def test_a_bare_pod_has_its_data_brought_by_a_rule(federation, make_pod):
    body = b"far" * 100_000
    did = await dataset_of(federation, "ensemble", {"m1": body, "m2": b"2"}, rse=ELSEWHERE)
    pods = [
        make_pod("wc -c < /data/climate/ensemble/m1", annotations=hints(inputs=str(did)))
        for _ in range(2)
    ]
    uids = [await federation.create(pod) for pod in pods]
    for pod, uid in zip(pods, uids, strict=True):
        ended = await federation.site.until(pod, *OVER)
        assert ended.phase is PodPhase.SUCCEEDED, ended
        assert await log_of(federation, uid) == f"{len(body)}\n"
    (rule,) = await federation.datasets.did_rules(did)
    assert (rule.account, rule.copies, rule.rse_expression) == ("alice", 1, HERE)
    assert (rule.state, rule.locks_ok) == (RuleState.OK, 2)
    assert rule.expires_at is not None
    assert rule.meta["pod"] in uids


async def test_a_pod_that_waits_says_how_the_rule_stands_and_why_it_is_stuck(federation, make_pod):
    did = Did("climate", "ensemble")
    lost = file_of("ensemble", "lost.nc", b"registered, and not there")
    await federation.datasets.dids_add([NewCollection(did)])
    await federation.datasets.add_replicas(ELSEWHERE, [lost])
    await federation.datasets.attach(did, [lost.did])
    pod = make_pod("true", annotations=hints(inputs=str(did)))
    await federation.create(pod)

    async def told():
        found = await federation.pods.status([pod])
        main = found[0].containers[0] if found else None
        return main and main.reason == "WaitingForData" and "STUCK" in main.message and main

    main = await wait_for(told, timeout_s=60, what="the reason")
    (rule,) = await federation.datasets.did_rules(did)
    assert main.message.startswith(f"0 of 1 files are at the site; rule {rule.id} on {did}")
    assert rule.error[:40] in main.message


async def test_a_service_account_has_its_data_brought_by_a_rule_of_the_site(federation, make_pod):
    did = await dataset_of(federation, "ensemble", {"m1": b"1"}, rse=ELSEWHERE)
    pod = make_pod("cat /data/climate/ensemble/m1", annotations=hints(inputs=str(did)))
    await federation.site.client().create(PodCreateRequest(pod))
    assert (await federation.site.until(pod, *OVER)).phase is PodPhase.SUCCEEDED
    (rule,) = await federation.datasets.did_rules(did)
    assert (rule.state, rule.rse_expression) == (RuleState.OK, HERE)
    assert "hpc-b" in rule.account


async def test_no_rule_is_made_when_the_data_is_here(federation, make_pod):
    did = await dataset_of(federation, "scenarios", {"A1B.nc": b"x"})
    pod = make_pod("true", annotations=hints(inputs=str(did)))
    await federation.create(pod)
    assert (await federation.site.until(pod, *OVER)).phase is PodPhase.SUCCEEDED
    assert await federation.datasets.did_rules(did) == []


async def test_an_input_is_the_stores_own_file_not_a_copy(federation, make_pod):
    await dataset_of(federation, "scenarios", {"A1B.nc": b"x" * 4096})
    pod = make_pod("sleep 1000", annotations=hints(inputs="climate:scenarios"))
    uid = await federation.create(pod)
    linked = federation.site.jobs / uid / "data" / "climate" / "scenarios" / "A1B.nc"
    await wait_for(linked.exists, timeout_s=20, what="the link")
    stored = federation.context.home.site("hpc-b").storage / "datasets/climate/scenarios/A1B.nc"
    assert linked.stat().st_ino == stored.stat().st_ino


async def test_a_pod_is_refused_when_its_input_does_not_exist(federation, make_pod):
    with pytest.raises(TwinfraError, match="climate:nothing"):
        await federation.create(make_pod("true", annotations=hints(inputs="climate:nothing")))
    assert list(federation.site.jobs.iterdir()) == []


async def test_outputs_are_registered_before_the_pod_is_over(federation, make_pod):
    await dataset_of(federation, "scenarios", {"A1B.nc": b"data"})
    write = "mkdir $TWINFRA_OUTPUTS/deep; echo model > /data/climate/model/m.bin"
    write += "; echo plot > $TWINFRA_OUTPUTS/deep/plot.png"
    marks = hints(
        inputs="climate:scenarios", outputs="climate:model", deployment="d1", node="train",
        group="climate",
    )  # fmt: skip
    pod = make_pod(write, annotations=marks)
    uid = await federation.create(pod)
    ended = await federation.site.until(pod, *OVER)
    assert ended.phase is PodPhase.SUCCEEDED, ended
    container = Did("climate", "model")
    version = await federation.datasets.latest_version(container)
    assert str(version.did) == "climate:model.v1"
    info = await federation.datasets.get_did(version.did)
    assert (info.is_open, info.length) == (False, 2)
    assert await federation.get("/datasets/climate/model.v1/m.bin") == b"model\n"
    assert await federation.get("/datasets/climate/model.v1/deep/plot.png") == b"plot\n"
    meta = await federation.datasets.get_meta(version.did)
    assert (meta["job"], meta["deployment"], meta["site"]) == (uid, "d1", "hpc-b")
    assert meta["inputs"] == ["climate:scenarios"]
    assert meta["image"].startswith("sha256:")
    replicas = await federation.datasets.list_replicas([version.did], HERE)
    assert {r.did.name for r in replicas} == {"model.v1/m.bin", "model.v1/deep/plot.png"}
    assert all(replica.adler32 for replica in replicas)


async def test_the_latest_version_is_read_while_the_next_is_written(federation, make_pod):
    marks = hints(outputs="climate:model")
    for number in (1, 2):
        pod = make_pod(f"echo {number} > /outputs/climate/model/m", annotations=marks)
        await federation.create(pod)
        assert (await federation.site.until(pod, *OVER)).phase is PodPhase.SUCCEEDED
    script = "cat /data/climate/model/m; echo 3 > /outputs/climate/model/m"
    both = hints(inputs="climate:model", outputs="climate:model")
    pod = make_pod(script, annotations=both)
    uid = await federation.create(pod)
    assert (await federation.site.until(pod, *OVER)).phase is PodPhase.SUCCEEDED
    assert await log_of(federation, uid) == "2\n"
    latest = await federation.datasets.latest_version(Did("climate", "model"))
    assert latest.number == 3
    assert (await federation.datasets.get_meta(latest.did))["inputs"] == ["climate:model.v2"]


async def test_a_pod_that_writes_nothing_of_what_it_promised_fails(federation, make_pod):
    pod = make_pod("true", annotations=hints(outputs="climate:model"))
    await federation.create(pod)
    ended = await federation.site.until(pod, *OVER)
    assert (ended.phase, ended.containers[0].reason) == (PodPhase.FAILED, "OutputsFailed")
    assert "nothing was written" in ended.containers[0].message


async def test_nothing_is_published_when_the_job_failed(federation, make_pod):
    pod = make_pod(
        "echo x > /outputs/climate/model/m; exit 3", annotations=hints(outputs="climate:model")
    )
    await federation.create(pod)
    assert (await federation.site.until(pod, *OVER)).containers[0].exit_code == 3
    assert await federation.datasets.list_versions(Did("climate", "model")) == []


@pytest.mark.parametrize("pause_s", [0.05, 0.3, 1.0])
async def test_outputs_are_published_once_when_the_plugin_is_killed(federation, make_pod, pause_s):
    write = "for i in $(seq 20); do head -c 300000 /dev/zero > /outputs/climate/model/$i; done"
    pod = make_pod(f"{write}; echo written", annotations=hints(outputs="climate:model"))
    uid = await federation.create(pod)
    site = federation.site
    await wait_for(lambda: b"written" in site.output(uid), timeout_s=30, what="the job's end")
    await asyncio.sleep(pause_s)
    site.kill()
    await site.start()
    assert (await site.until(pod, *OVER)).phase is PodPhase.SUCCEEDED
    versions = await federation.datasets.list_versions(Did("climate", "model"))
    assert [version.number for version in versions] == [1]
    files = await federation.datasets.list_files(versions[0].did)
    assert sorted(file.did.name for file in files) == sorted(f"model.v1/{i}" for i in range(1, 21))
    assert site.output(uid).count(b"written") == 1


async def test_a_running_service_sees_files_as_they_arrive(federation, make_pod):
    did = await dataset_of(federation, "ensemble", {"m1": b"1"})
    script = "while true; do echo have $(ls /data/climate/ensemble | sort | xargs); sleep 0.2; done"
    pod = make_pod(script, restart="Always", annotations=hints(inputs=str(did)))
    uid = await federation.create(pod)
    site = federation.site
    await wait_for(lambda: b"have m1\n" in site.output(uid), timeout_s=30, what="the first file")
    await dataset_of(federation, "ensemble", {"m2": b"2"})
    await wait_for(lambda: b"have m1 m2\n" in site.output(uid), timeout_s=20, what="the second")
    await federation.pods.delete(pod)


async def test_one_usage_record_names_person_group_and_deployment(federation, make_pod):
    marks = hints(group="climate", deployment="d7", node="train")
    pod = make_pod("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; exit 3", annotations=marks)
    uid = await federation.create(pod)
    await federation.site.until(pod, *OVER)
    accounting = AccountingClient(federation.http("accounting"))

    async def posted():
        page = await accounting.records()
        return [record for record in page.records if uid in record.id]

    (record,) = await wait_for(posted, timeout_s=20, what="the record")
    assert (record.person.sub, record.group, record.deployment) == ("alice", "climate", "d7")
    assert (record.site, record.exit_code, record.attempt) == ("hpc-b", 3, 1)
    assert record.wall_s >= record.cpu_s >= 0
    assert record.image.startswith("sha256:")


async def test_each_state_of_a_job_is_told_on_the_bus(federation, make_pod):
    told = []

    async def note(event):
        told.append(event)

    bus = federation.context.bus("watcher")
    await bus.connect()
    listening = asyncio.create_task(
        bus.consume("watch-jobs", ["org.twinfra.job.state"], note, from_now=False)
    )
    pod = make_pod("exit 4", annotations=hints(group="climate", deployment="d9"))
    uid = await federation.create(pod)
    await federation.site.until(pod, *OVER)
    await wait_for(lambda: told and told[-1].data["phase"] == "Failed", timeout_s=20, what="events")
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await bus.close()
    own = [event for event in told if event.subject == uid]
    assert own[0].data["phase"] == "Pending"
    assert own[-1].data["exit_code"] == 4
    assert {(e.site, e.group, e.data["deployment"]) for e in own} == {("hpc-b", "climate", "d9")}
    assert len({event.id for event in own}) == len(own)
