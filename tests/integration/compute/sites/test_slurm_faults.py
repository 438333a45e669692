"""Slurm away, restarted or forgetful; ourselves killed: no job is lost or run twice."""

import asyncio
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest

from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.containers.logs import LogQuery
from twinfra.compute.containers.machine import Machine, architecture
from twinfra.compute.sites.model import JobState
from twinfra.core.errors import SiteRejected, Unavailable
from twinfra.core.ids import new_uuid
from twinfra.testkit.site_contract import JobWish
from twinfra.testkit.slurm import slurm
from twinfra.testkit.waiting import wait_for

from .slurm_bench import Builder, Opened, clean, ended, until

pytestmark = [pytest.mark.real("slurm"), pytest.mark.slow]

HANG = JobWish(hang=True)
FLAGS = "slurm-job.vk.io/flags"


async def test_says_unavailable_and_goes_on_when_the_controller_was_away(
    opened, make, slurm_cluster
):
    async with opened() as site:
        native_id = await site.submit(make(new_uuid(), HANG))
        await until(site, native_id, JobState.RUNNING)
        late = make(new_uuid(), JobWish())
        await asyncio.to_thread(slurm_cluster.stop_controller)
        try:
            for call in (
                site.ping(), site.submit(late), site.cancel(native_id), site.find(new_uuid()),
            ):  # fmt: skip
                with pytest.raises(Unavailable):
                    await call

            async def down():
                try:
                    await site.status([native_id])
                except Unavailable:
                    return True
                return False

            await wait_for(down, timeout_s=30, what="the outage seen")
        finally:
            await asyncio.to_thread(slurm_cluster.start_controller)
        assert (await until(site, native_id, JobState.RUNNING)).pod.phase == "Running"
        assert (await ended(site, await site.submit(late))).state is JobState.COMPLETED
        await site.cancel(native_id)
        assert (await ended(site, native_id)).state is JobState.CANCELLED


async def test_finds_the_job_when_it_crashed_between_submit_and_note(opened, make, tmp_path):
    spec = make(new_uuid(), HANG)
    async with opened() as site:
        native_id = await site.submit(spec)
        await until(site, native_id, JobState.RUNNING)
    (tmp_path / "slurm.sqlite").unlink()
    async with opened() as site:
        assert await site.find(spec.name) == native_id
        assert await site.submit(spec) == native_id
        assert (await until(site, native_id, JobState.RUNNING)).pod.uid == spec.plan.uid
        await site.cancel(native_id)
        await ended(site, native_id)


async def test_adopts_jobs_when_it_is_opened_again(opened, make):
    spec = make(new_uuid(), HANG)
    async with opened() as site:
        native_id = await site.submit(spec)
        await until(site, native_id, JobState.RUNNING)
        keeper = KeeperHandle(spec.job_dir).identity().pid
    async with opened() as site:
        assert (await until(site, native_id, JobState.RUNNING)).pod is not None
        assert KeeperHandle(spec.job_dir).identity().pid == keeper
        await site.cancel(native_id)
        assert (await ended(site, native_id)).state is JobState.CANCELLED


async def test_knows_the_end_when_slurm_has_forgotten_the_job(shared, busybox_root, tmp_path):
    folder = Path(tempfile.mkdtemp(prefix="twinfra-slurm-"))
    jobs = shared / "forgotten"
    jobs.mkdir()
    with slurm(folder, remember_s=2) as cluster:
        make = Builder(jobs, busybox_root)
        good, bad = make(new_uuid(), JobWish(output=b"kept\n")), make(new_uuid(), HANG)
        async with Opened(tmp_path, cluster) as site:
            ids = [await site.submit(good), await site.submit(bad)]
            await until(site, ids[1], JobState.RUNNING)
        os.kill(KeeperHandle(bad.job_dir).identity().pid, 9)

        def forgotten():
            return not cluster.run("squeue", "--me", "--states=all", "--noheader").strip()

        await wait_for(forgotten, timeout_s=90, what="Slurm's forgetting")
        async with Opened(tmp_path, cluster) as site:
            status = await ended(site, ids[0])
            assert (status.state, status.exit_code) == (JobState.COMPLETED, 0)
            lines = [line async for line in site.logs(ids[0], LogQuery("main"))]
            assert b"".join(lines) == b"kept\n"
            status = await ended(site, ids[1])
            assert (status.state, status.reason) == (JobState.FAILED, "KeeperLost")
        await clean(cluster, jobs)
    shutil.rmtree(folder, ignore_errors=True)


async def test_tells_slurms_own_words_when_it_refuses(opened, make):
    async with opened(partition="nowhere") as site:
        with pytest.raises(SiteRejected, match="Invalid partition name"):
            await site.submit(make(new_uuid(), JobWish()))
    async with opened() as site:
        options = {FLAGS: "--constraint=mars"}
        with pytest.raises(SiteRejected, match="Invalid feature"):
            await site.submit(make(new_uuid(), JobWish(), native_options=options))


async def test_is_unavailable_when_the_commands_are_not_there(opened, make):
    async with opened(command_prefix=("/nowhere/ssh", "login", "--")) as site:
        with pytest.raises(Unavailable, match="cannot be run"):
            await site.ping()
    async with opened(command_prefix=("env", "PATH=/nowhere")) as site:
        with pytest.raises(Unavailable):
            await site.submit(make(new_uuid(), JobWish()))


@pytest.mark.story("A pod with `$(...)`, newlines, `#SBATCH` in names, env, args, annotations")
async def test_runs_nothing_of_a_pods_words_when_they_look_like_commands(
    opened, make, slurm_cluster, shared
):
    trap = shared / "trapped"
    evil = f"$(touch {trap}); `touch {trap}`\n#SBATCH --comment=trapped\n--wrap=x"
    async with opened() as site:
        spec = make(new_uuid(), HANG, command=("sh", "-c", 'echo "$0"; cat', evil))
        native_id = await site.submit(spec)
        status = await ended(site, native_id)
        assert status.state is JobState.COMPLETED
        lines = [line async for line in site.logs(native_id, LogQuery("main"))]
        assert b"".join(lines).decode().strip() == evil
        assert slurm_cluster.job(native_id).get("Comment") is None
        for flags in (evil, "--time=1\n#SBATCH --uid=0", "--wrap=touch", "--output=/etc/x"):
            with pytest.raises(SiteRejected, match="slurm-job"):
                await site.submit(make(new_uuid(), JobWish(), native_options={FLAGS: flags}))
        odd = make("uid", JobWish(), native_options={"x\n#SBATCH --comment=trapped": evil})
        assert (await ended(site, await site.submit(odd))).state is JobState.COMPLETED
    assert not trap.exists()


@pytest.mark.story(
    "env names BASH_ENV, SLURM_*, LD_PRELOAD are the container's alone, on Slurm too"
)
async def test_a_pods_dangerous_names_reach_its_container_and_nothing_else(opened, make, shared):
    trap = shared / "trap-of-names"
    source = shared / "evil.sh"
    source.write_text(f"touch {trap}\n")
    names = {"BASH_ENV": str(source), "ENV": str(source), "LD_PRELOAD": "/tmp/evil.so",
             "SLURM_CONF": "/nowhere", "SLURM_JOB_ID": "1", "SBATCH_UID": "0"}  # fmt: skip
    script = "pwd -P; " + "; ".join(f'echo "${name}"' for name in names) + "; echo ${#BIG}"
    more = {"env": {**names, "PATH": "/bin", "BIG": "$(id)" * 20_000}, "cwd": "/bin/../../../bin"}
    async with opened() as site:
        spec = make(new_uuid(), JobWish(), command=("sh", "-c", script), container=more)
        native_id = await site.submit(spec)
        assert (await ended(site, native_id)).state is JobState.COMPLETED
        text = b"".join([piece async for piece in site.logs(native_id, LogQuery("main"))])
    assert text.decode().split() == ["/bin", *names.values(), "100000"]
    assert not trap.exists()


@pytest.mark.story("`slurm`: one `squeue` for all jobs")
async def test_one_squeue_serves_all_jobs(opened, make, tmp_path):
    counter, calls = tmp_path / "counted", tmp_path / "calls"
    counter.write_text(f'#!/bin/sh\necho "$1" >> {calls}\nexec "$@"\n')
    counter.chmod(0o755)

    def asked():
        return calls.read_text().split().count("squeue")

    async def looks(site, ids, seconds):
        """Count the calls while the jobs are looked at for so long."""
        before, until_at = asked(), time.monotonic() + seconds

        async def over():
            found = await site.status(ids)
            assert len(found) == len(ids)
            return time.monotonic() >= until_at

        await wait_for(over, timeout_s=60, what="the looks")
        return asked() - before

    async with opened(command_prefix=(str(counter),), poll_s=0.5) as site:
        ids = [await site.submit(make(new_uuid(), HANG, cpus=0.25))]
        await until(site, ids[0], JobState.RUNNING)
        one = await looks(site, ids, 4)
        ids += [await site.submit(make(new_uuid(), HANG, cpus=0.25)) for _ in range(19)]
        twenty = await looks(site, ids, 4)
        for native_id in ids:
            await site.cancel(native_id)
        for native_id in ids:
            await ended(site, native_id)
    assert twenty <= max(one, 8) + 2, (one, twenty)


@pytest.mark.story("Slurm: flags annotation forms `--time=1`, `--time 1`, `-p gpu`")
async def test_asks_slurm_for_what_the_pod_needs(opened, make, slurm_cluster):
    async with opened() as site:
        options = {FLAGS: "--time 7 -p urgent --nice=3"}
        spec = make(
            new_uuid(), HANG, cpus=1.5, memory_bytes=100 * 2**20, gpus=1, native_options=options
        )
        native_id = await site.submit(spec)
        await until(site, native_id, JobState.RUNNING)
        job = slurm_cluster.job(native_id)
        assert job["JobName"] == spec.plan.uid
        assert (job["CPUs/Task"], job["MinMemoryNode"]) == ("2", "164M")
        assert job["TresPerNode"] == "gres:gpu:1"
        assert (job["TimeLimit"], job["Partition"], job["Nice"]) == ("00:07:00", "urgent", "3")
        assert job["Requeue"] == "0"
        figures = await site.ping()
        assert (figures.cpus, figures.free_cpus) == (12, 10)
        assert figures.gpus == {"nvidia.com/gpu": 2}
        assert figures.machine == Machine("linux", architecture())
        assert figures.free_memory_bytes < figures.memory_bytes == 12000 * 2**20
        await site.cancel(native_id)
        await ended(site, native_id)


async def test_tells_place_and_reason_when_a_job_waits(opened, make):
    async with opened() as site:
        big = [await site.submit(make(new_uuid(), HANG, cpus=4)) for _ in range(3)]
        for native_id in big:
            await until(site, native_id, JobState.RUNNING)
        later = [await site.submit(make(new_uuid(), HANG, cpus=4)) for _ in range(2)]

        async def placed():
            found = await site.status(later)
            places = [found[native_id].queue_position for native_id in later]
            first = found[later[0]]
            known = first.reason in {"Resources", "Priority"}
            return [first] if known and places == [1, 2] else []

        first = (await wait_for(placed, timeout_s=30, what="places"))[0]
        assert first.state is JobState.QUEUED
        assert first.message.startswith("number 1 in the queue")
        figures = await site.ping()
        assert (figures.free_cpus, figures.queue_length) == (0, 2)
        assert figures.wait_s > 0
        for native_id in (*later, *big):
            await site.cancel(native_id)
        for native_id in (*later, *big):
            await ended(site, native_id)


async def test_reaches_a_keeper_of_this_machine_without_slurm(opened, make):
    async with opened() as site:
        native_id = await site.submit(make(new_uuid(), JobWish(echo_port=8081)))
        await until(site, native_id, JobState.RUNNING)

        async def joined():
            try:
                return await site.connect(native_id, 8081)
            except Unavailable:
                return None

        reader, writer = await wait_for(joined, timeout_s=30, what="the port")
        writer.write(b"here")
        assert await asyncio.wait_for(reader.readexactly(4), 10) == b"here"
        writer.close()
        await site.cancel(native_id)
        await ended(site, native_id)
