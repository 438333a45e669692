"""A keeper is known by pid, start time and boot: a pid alone is somebody else's."""

import asyncio
import subprocess
from dataclasses import replace

import pytest

from twinfra.compute.containers.keeper import journal, procfs
from twinfra.compute.containers.keeper.model import KEEPER_LOST, Identity


@pytest.fixture
def bystander():
    """A process that has nothing to do with the job."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def started(pid):
    return procfs.process(pid).start_ticks


@pytest.mark.story("known by pid + start time + boot id")
@pytest.mark.parametrize("differs", ["boot id", "start time"])
async def test_nobody_is_killed_when_the_pid_is_anothers(bench, runtime, bystander, differs):
    await bench.run(bench.plan(runtime, bench.container(runtime, "true")))
    (handle,) = bench.handles
    await asyncio.to_thread(bystander.poll)
    known = {"pid": bystander.pid, "start_ticks": started(bystander.pid)}
    known |= {"boot_id": procfs.boot_id(), "cgroups": ()}
    same: Identity = replace(handle.identity(), **known)
    journal.write(handle.jobdir / journal.IDENTITY, same)
    assert handle.alive()
    other = {"boot id": {"boot_id": "another-boot"}, "start time": {"start_ticks": 7}}[differs]
    journal.write(handle.jobdir / journal.IDENTITY, replace(same, **other))
    state = replace(handle.state(), phase="Running", reason="", finished_at="")
    journal.write(handle.jobdir / journal.STATE, state)
    assert not handle.alive()
    gone = await handle.prove_gone()
    assert gone.killed == ()
    assert (gone.state.phase, gone.state.reason) == ("Failed", KEEPER_LOST)
    assert bystander.poll() is None
