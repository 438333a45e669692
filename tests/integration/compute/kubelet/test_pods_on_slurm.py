"""kubectl on a virtual node whose site is a real Slurm: every program as it is typed."""

import asyncio

import pytest

from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.waiting import wait_for

WITHIN_S = 120.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.real("kubernetes"),
    pytest.mark.real("slurm"),
    pytest.mark.timeout(400),
]


@pytest.fixture
def house(slurm_house):
    return slurm_house


def shell(script):
    limits = {"limits": {"cpu": "1", "memory": "64Mi"}}
    return {"image": BUSYBOX, "command": ["sh", "-c", script], "resources": limits}


def native_id(cluster, uid):
    """Return the job that has a pod's UID as its name."""
    return cluster.run("squeue", "--me", "--states=all", "--noheader", f"-n{uid}", "-o%i").strip()


@pytest.mark.story("work on a `local` and on a Slurm-backed virtual node of the real control plane")
async def test_a_pod_of_kubectl_is_a_slurm_job_and_its_end_comes_back(pods, node, house):
    uid = await pods.create("good", container=shell("echo here; sleep 3"))
    await pods.until_phase("good", "Running")
    assert house.job(native_id(house, uid))["JobState"] == "RUNNING"
    await pods.until_phase("good", "Succeeded")
    await pods.create("bad", container=shell("exit 42"))
    failed = await pods.until_phase("bad", "Failed")
    state = failed["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["exitCode"] == 42


async def test_slurms_queue_is_told_and_deleting_a_pod_cancels_its_job(pods, node, house):
    manifest = pods.manifest("later", container=shell("sleep 1000"))
    manifest["metadata"]["annotations"] = {"slurm-job.vk.io/flags": "--begin=now+1hour"}
    await pods.apply(manifest)
    waiting = await pods.until(
        "later",
        lambda pod: "BeginTime" in str(pod["status"].get("containerStatuses")),
        "Slurm's reason",
    )
    assert waiting["status"]["phase"] == "Pending"
    uid = waiting["metadata"]["uid"]
    await pods.kubectl("delete", "pod", "later", "--wait=false")
    await pods.until_gone("later")

    def cancelled():
        told = house.run("squeue", "--me", "--states=all", "--noheader", f"--name={uid}", "-o%T")
        return told.strip() == "CANCELLED"

    await wait_for(cancelled, timeout_s=WITHIN_S, what="the job's end")


async def test_an_operator_of_slurm_ends_a_pod_with_a_reason(pods, node, house):
    await pods.create("taken", container=shell("sleep 1000"))
    running = await pods.until_phase("taken", "Running")
    place = house.job(native_id(house, running["metadata"]["uid"]))["NodeList"]
    house.run("scontrol", "update", f"nodename={place}", "state=down", "reason=test")
    try:
        failed = await pods.until_phase("taken", "Failed")
    finally:
        await asyncio.to_thread(house.resume)
    state = failed["status"]["containerStatuses"][0]["state"]["terminated"]
    assert state["reason"] == "NodeFail"
