"""The local back end with real keepers passes the suite, and does what only it has."""

import asyncio
import os
import signal
import sys

import pytest

from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.containers.keeper.model import (
    SUCCEEDED,
    ContainerPlan,
    Launch,
    PodPlan,
    job_mark,
)
from twinfra.compute.sites.local import LocalSite
from twinfra.compute.sites.local.store import QueueStore
from twinfra.compute.sites.model import JobSpec, JobState
from twinfra.compute.sites.settings import ComputeSettings
from twinfra.core.database import Database
from twinfra.core.errors import InsufficientCapacity, SiteRejected
from twinfra.core.ids import new_uuid
from twinfra.testkit.site_contract import JobWish, SiteContract, SiteHouse
from twinfra.testkit.waiting import wait_for

ECHO = """
import socket, sys
s = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    c, _ = s.accept()
    while data := c.recv(65536):
        c.sendall(data)
    c.close()
"""


def launch(uid, attempt, *command):
    env = {"PATH": "/usr/bin:/bin", "TWINFRA_JOB": job_mark(uid, attempt)}
    return Launch((), command, env=env, inner_env=env)


def shell(wish):
    words = [f"printf '{line.decode()}\\n'" for line in wish.output.splitlines()]
    words.append("exec sleep 1000" if wish.hang else f"exit {wish.exit_code}")
    return "/bin/sh", "-c", "; ".join(words)


class Builder:
    """Makes jobs of plain processes, without images."""

    def __init__(self, folder):
        self.folder = folder

    def __call__(self, uid, wish, *, attempt=1, cpus=0.5, **more):
        command = shell(wish)
        if wish.echo_port:
            command = (sys.executable, "-c", ECHO, str(wish.echo_port))
        main = ContainerPlan("main", launch(uid, attempt, *command))
        plan = PodPlan(
            uid, (main,), attempt=attempt, isolated=False, network="host", termination_grace_s=1.0
        )
        return JobSpec(plan, self.folder / uid, cpus=cpus, **more)


class Opened:
    """A local site, its loop running."""

    def __init__(self, folder, **settings):
        self.folder = folder
        self.settings = ComputeSettings(**{"cpus": 8, "slots": 8, **settings})

    async def __aenter__(self):
        self.site = LocalSite(Database(f"sqlite:///{self.folder}/local.sqlite"), self.settings)
        await self.site.open()
        self.loop = asyncio.create_task(self.site.run())
        return self.site

    async def __aexit__(self, *_):
        self.loop.cancel()
        await asyncio.gather(self.loop, return_exceptions=True)
        await self.site.close()


async def prove_all_gone(jobs):
    for folder in jobs.iterdir():
        if (folder / "attempts").exists():
            await KeeperHandle(folder).prove_gone()


@pytest.fixture
async def jobs(tmp_path):
    folder = tmp_path / "jobs"
    folder.mkdir()
    yield folder
    await prove_all_gone(folder)


class TestLocalSite(SiteContract):
    @pytest.fixture
    async def house(self, tmp_path, jobs):
        make = Builder(jobs)
        made = {}

        def job(uid, wish):
            if wish.echo_port:
                wish = JobWish(echo_port=wish.echo_port)
            spec = make(uid, wish)
            made[spec.name] = spec
            return spec

        async def lose(native_id):
            for name, spec in made.items():
                if await site.find(name) == native_id:
                    os.kill(KeeperHandle(spec.job_dir).identity().pid, signal.SIGKILL)

        async with Opened(tmp_path) as site:
            yield SiteHouse(site, job, lose)


async def until(site, native_id, *states):
    async def reached():
        status = (await site.status([native_id]))[native_id]
        return [status] if status.state in states else []

    return (await wait_for(reached, timeout_s=20, what=f"job {native_id} {states}"))[0]


async def test_waits_its_turn_when_all_slots_are_taken(tmp_path, jobs):
    make = Builder(jobs)
    async with Opened(tmp_path, slots=1) as site:
        first = await site.submit(make(new_uuid(), JobWish(hang=True)))
        await until(site, first, JobState.RUNNING)
        second = await site.submit(make(new_uuid(), JobWish()))
        third = await site.submit(make(new_uuid(), JobWish()))
        status = await site.status([second, third])
        assert [status[key].state for key in (second, third)] == [JobState.QUEUED] * 2
        assert [status[key].queue_position for key in (second, third)] == [1, 2]
        figures = await site.ping()
        assert (figures.free_slots, figures.queue_length) == (0, 2)
        assert figures.wait_s > 0
        await site.cancel(first)
        await until(site, third, JobState.COMPLETED)
        ended = await site.status([second, third])
        assert ended[second].started_at <= ended[third].started_at


async def test_waits_when_the_cores_are_reserved_for_others(tmp_path, jobs):
    make = Builder(jobs)
    async with Opened(tmp_path, cpus=2, reserved_cpus=1) as site:
        first = await site.submit(make(new_uuid(), JobWish(hang=True), cpus=1))
        await until(site, first, JobState.RUNNING)
        assert (await site.ping()).free_cpus == 0
        second = await site.submit(make(new_uuid(), JobWish(), cpus=1))
        assert (await site.status([second]))[second].state is JobState.QUEUED
        await site.cancel(first)
        await until(site, second, JobState.COMPLETED)


async def test_refuses_for_ever_when_a_job_is_larger_than_the_site(tmp_path, jobs):
    make = Builder(jobs)
    async with Opened(tmp_path, cpus=2, memory_bytes=1000, gpus={"nvidia.com/gpu": 1}) as site:
        for size in ({"cpus": 3}, {"memory_bytes": 2000}, {"gpus": 2}):
            with pytest.raises(SiteRejected, match=next(iter(size))):
                await site.submit(make(new_uuid(), JobWish(), **size))


async def test_refuses_for_now_when_it_does_not_queue(tmp_path, jobs):
    make = Builder(jobs)
    async with Opened(tmp_path, slots=1, queue=False) as site:
        first = await site.submit(make(new_uuid(), JobWish(hang=True)))
        with pytest.raises(InsufficientCapacity):
            await site.submit(make(new_uuid(), JobWish()))
        await until(site, first, JobState.RUNNING)
        await site.cancel(first)


async def test_ends_at_once_when_a_queued_job_is_cancelled(tmp_path, jobs):
    make = Builder(jobs)
    async with Opened(tmp_path, slots=1) as site:
        first = await site.submit(make(new_uuid(), JobWish(hang=True)))
        second = await site.submit(make(new_uuid(), JobWish()))
        await until(site, first, JobState.RUNNING)
        await site.cancel(second)
        assert (await site.status([second]))[second].state is JobState.CANCELLED
        await site.cancel(first)
        await until(site, first, JobState.CANCELLED)


async def test_ends_a_job_when_the_sites_own_limit_is_shorter(tmp_path, jobs):
    make = Builder(jobs)
    async with Opened(tmp_path) as site:
        native_id = await site.submit(make(new_uuid(), JobWish(hang=True), wall_limit_s=0.5))
        status = await until(site, native_id, JobState.FAILED)
        assert status.reason == "DeadlineExceeded"


async def test_keeps_the_queue_when_it_is_opened_again(tmp_path, jobs):
    make = Builder(jobs)
    uid = new_uuid()
    async with Opened(tmp_path, slots=1) as site:
        first = await site.submit(make(new_uuid(), JobWish(hang=True)))
        await until(site, first, JobState.RUNNING)
        second = await site.submit(make(uid, JobWish(output=b"once\n")))
    async with Opened(tmp_path, slots=1) as site:
        assert await site.find(uid) == second
        assert (await site.status([first]))[first].state is JobState.RUNNING
        await site.cancel(first)
        await until(site, second, JobState.COMPLETED)


async def test_adopts_a_living_keeper_when_it_is_opened_again(tmp_path, jobs):
    make = Builder(jobs)
    uid = new_uuid()
    async with Opened(tmp_path) as site:
        native_id = await site.submit(make(uid, JobWish(output=b"begun\n", hang=True)))
        await until(site, native_id, JobState.RUNNING)
        handle = KeeperHandle(jobs / uid)
        keeper = handle.identity().pid
    async with Opened(tmp_path) as site:
        assert (await site.status([native_id]))[native_id].state is JobState.RUNNING
        assert handle.identity().pid == keeper
        await site.cancel(native_id)
        await until(site, native_id, JobState.CANCELLED)


async def test_the_end_has_the_keepers_last_word_when_asked_at_once(tmp_path, jobs, monkeypatch):
    make = Builder(jobs)
    end, heard = QueueStore.end, []

    async def end_and_ask(store, job_id, *rest, **more):
        await end(store, job_id, *rest, **more)
        heard.append((await site.status([str(job_id)]))[str(job_id)])

    monkeypatch.setattr(QueueStore, "end", end_and_ask)
    async with Opened(tmp_path) as site:
        await site.submit(make(new_uuid(), JobWish(output=b"seen running\n")))
        await wait_for(lambda: heard, timeout_s=20, what="the end")
    assert heard[0].state is JobState.COMPLETED
    assert heard[0].pod.phase == SUCCEEDED


async def test_says_keeper_lost_when_it_died_while_nobody_looked(tmp_path, jobs):
    make = Builder(jobs)
    uid = new_uuid()
    async with Opened(tmp_path) as site:
        native_id = await site.submit(make(uid, JobWish(hang=True)))
        await until(site, native_id, JobState.RUNNING)
    os.kill(KeeperHandle(jobs / uid).identity().pid, signal.SIGKILL)
    async with Opened(tmp_path) as site:
        status = await until(site, native_id, JobState.FAILED)
        assert status.reason == "KeeperLost"
        again = await site.submit(make(uid, JobWish(), attempt=2))
        assert again != native_id
        assert (await until(site, again, JobState.COMPLETED)).pod.attempt == 2
