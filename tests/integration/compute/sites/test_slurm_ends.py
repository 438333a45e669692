"""What only Slurm does to a job, done by the real Slurm: each end has its own name."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.containers.keeper.model import Limits
from twinfra.compute.sites.model import JobState
from twinfra.core.ids import new_uuid
from twinfra.testkit.site_contract import JobWish
from twinfra.testkit.waiting import wait_for

from .slurm_bench import MIB, ended, until

pytestmark = [pytest.mark.real("slurm"), pytest.mark.slow]

HANG = JobWish(hang=True)


async def slurm(cluster, *words, **more):
    return await asyncio.to_thread(cluster.run, *words, **more)


def left(folder):
    """Return the processes of a job that still run."""
    mark = f"TWINFRA_JOB={folder.name}/".encode()
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if mark in environment.read_bytes():
                found.append(environment.parent.name)
    return found


async def test_says_cancelled_when_an_operator_cancels(opened, make, slurm_cluster):
    async with opened() as site:
        spec = make(new_uuid(), HANG)
        native_id = await site.submit(spec)
        await until(site, native_id, JobState.RUNNING)
        await slurm(slurm_cluster, "scancel", native_id)
        status = await ended(site, native_id)
        assert (status.state, status.reason) == (JobState.CANCELLED, "Cancelled")
        assert "batch system" in status.message
        assert left(spec.job_dir) == []


async def test_says_cancelled_when_an_operator_cancels_before_it_began(opened, make, slurm_cluster):
    async with opened() as site:
        spec = make(new_uuid(), HANG, native_options={"slurm-job.vk.io/flags": "--begin=now+1hour"})
        native_id = await site.submit(spec)
        status = await until(site, native_id, JobState.QUEUED)
        await slurm(slurm_cluster, "scancel", native_id)
        status = await ended(site, native_id)
        assert (status.state, status.pod) == (JobState.CANCELLED, None)


async def test_ends_at_once_when_it_is_cancelled_in_the_queue(opened, make):
    async with opened() as site:
        spec = make(new_uuid(), HANG, native_options={"slurm-job.vk.io/flags": "--begin=now+1hour"})
        native_id = await site.submit(spec)
        await site.cancel(native_id)
        assert (await ended(site, native_id)).state is JobState.CANCELLED
        assert not (spec.job_dir / "attempts").exists()


@pytest.mark.story("reasons kept (OOMKilled, Preempted, DeadlineExceeded, queue reason")
async def test_says_node_fail_when_its_node_is_taken_down(opened, make, slurm_cluster):
    async with opened() as site:
        spec = make(new_uuid(), HANG)
        native_id = await site.submit(spec)
        node = (await until(site, native_id, JobState.RUNNING)).node or slurm_cluster.job(
            native_id
        )["NodeList"]
        await slurm(
            slurm_cluster, "scontrol", "update", f"nodename={node}", "state=down", "reason=test"
        )
        try:
            status = await ended(site, native_id)
        finally:
            await asyncio.to_thread(slurm_cluster.resume)
        assert (status.state, status.reason) == (JobState.FAILED, "NodeFail")
        assert status.pod.reason == "NodeFail"
        assert status.node == node
        assert left(spec.job_dir) == []


async def test_says_preempted_when_a_job_of_higher_priority_needs_its_node(
    opened, make, slurm_cluster
):
    async with opened() as site:
        spec = make(new_uuid(), HANG)
        native_id = await site.submit(spec)
        await until(site, native_id, JobState.RUNNING)
        node = slurm_cluster.job(native_id)["NodeList"]
        await slurm(
            slurm_cluster, "sbatch", "--partition=urgent", f"--nodelist={node}", "--exclusive",
            "--mem=10M", "--output=/dev/null", stdin="#!/bin/sh\nexec sleep 1\n",
        )  # fmt: skip
        status = await ended(site, native_id)
        assert (status.state, status.reason) == (JobState.FAILED, "Preempted")
        assert "priority" in status.pod.message


async def test_says_deadline_exceeded_when_slurms_own_limit_comes_first(opened, make):
    async with opened(partition="short") as site:
        native_id = await site.submit(make(new_uuid(), HANG))
        await until(site, native_id, JobState.RUNNING)

        async def over():
            status = (await site.status([native_id]))[native_id]
            return [status] if status.state.final else []

        status = (await wait_for(over, timeout_s=110, what="the time limit"))[0]
        assert (status.state, status.reason) == (JobState.FAILED, "DeadlineExceeded")


async def test_says_deadline_exceeded_when_the_pods_limit_comes(opened, make, slurm_cluster):
    async with opened() as site:
        native_id = await site.submit(make(new_uuid(), HANG, wall_limit_s=1.0))
        assert slurm_cluster.job(native_id)["TimeLimit"] == "00:02:00"
        status = await ended(site, native_id)
        assert (status.state, status.reason) == (JobState.FAILED, "DeadlineExceeded")


async def test_says_oom_killed_when_a_container_takes_more_than_its_limit(opened, make):
    async with opened() as site:
        eat = ("sh", "-c", "x=$(head -c 200000000 /dev/zero | tr '\\0' x); sleep 1000")
        limits = Limits(memory_bytes=32 * MIB)
        spec = make(new_uuid(), HANG, command=eat, limits=limits, memory_bytes=512 * MIB)
        status = await ended(site, await site.submit(spec))
        assert status.state is JobState.FAILED
        assert status.pod.containers[0].terminated.reason == "OOMKilled"


@pytest.mark.story("`kill -9` of kubelet, interLink API, plug-in and keeper")
async def test_says_keeper_lost_and_proves_it_gone_when_its_keeper_is_killed(opened, make):
    async with opened() as site:
        uid = new_uuid()
        spec = make(uid, HANG)
        native_id = await site.submit(spec)
        await until(site, native_id, JobState.RUNNING)
        os.kill(KeeperHandle(spec.job_dir).identity().pid, signal.SIGKILL)
        status = await ended(site, native_id)
        assert (status.state, status.reason) == (JobState.FAILED, "KeeperLost")
        assert left(spec.job_dir) == []
        again = await site.submit(make(uid, JobWish(), attempt=2))
        assert again != native_id
        assert (await ended(site, again)).pod.attempt == 2


async def test_kills_when_the_pod_ignores_its_grace(opened, make):
    async with opened() as site:
        stubborn = ("sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done")
        spec = make(new_uuid(), HANG, command=stubborn, grace_s=0.5)
        native_id = await site.submit(spec)
        await until(site, native_id, JobState.RUNNING)
        await site.cancel(native_id)
        assert (await ended(site, native_id)).state is JobState.CANCELLED
        assert left(spec.job_dir) == []


async def test_says_why_when_the_keeper_cannot_begin(opened, make):
    async with opened(python="/nowhere/python3") as site:
        status = await ended(site, await site.submit(make(new_uuid(), JobWish())))
        assert (status.state, status.reason) == (JobState.FAILED, "StartError")
        assert "/nowhere/python3" in status.message


async def test_never_runs_an_attempt_twice_when_slurm_starts_it_again(opened, make, slurm_cluster):
    async with opened() as site:
        spec = make(new_uuid(), JobWish(output=b"once\n"))
        status = await ended(site, await site.submit(spec))
        assert status.state is JobState.COMPLETED
        text = f"#!/bin/sh\nexec /usr/bin/python3 {spec.job_dir}/keeper.pyz --foreground "
        native_id = (
            await slurm(
                slurm_cluster, "sbatch", "--parsable", "--mem=10M", "--output=/dev/null",
                stdin=f"{text}{spec.job_dir}\n",
            )
        ).strip()  # fmt: skip
        await wait_for(
            lambda: slurm_cluster.job(native_id)["JobState"] == "FAILED",
            timeout_s=30,
            what="the refusal",
        )
        assert slurm_cluster.job(native_id)["ExitCode"] == "4:0"
