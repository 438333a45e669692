"""Deaths of the keeper, of its starter, of everything; attempts and who may make them."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.containers.keeper import journal, procfs
from twinfra.core.errors import Conflict, NotFound, Unavailable
from twinfra.testkit.waiting import wait_for

LOOP = "echo start >> /marks/starts; while :; do sleep 0.1; done"


@pytest.fixture
def marks(bench):
    folder = bench.folder / f"{bench.uid}-marks"
    folder.mkdir()
    return folder


def looping(bench, runtime, marks, script=LOOP):
    from pathlib import PurePosixPath

    from twinfra.compute.containers.model import Mount

    mount = Mount(marks, PurePosixPath("/marks"), read_only=False)
    return bench.plan(
        runtime, bench.container(runtime, "sh", "-c", script, spec={"mounts": (mount,)})
    )


async def running(handle, marks):
    await wait_for(lambda: (marks / "starts").exists() and handle.state().phase == "Running")


def of_job(bench):
    """Return every living process that carries the job's mark."""
    found = []
    for pid in procfs.pids():
        seen = procfs.process(pid)
        marked = procfs.environment_value(pid, "TWINFRA_JOB").startswith(f"{bench.uid}/")
        if marked and seen is not None and not seen.dead:
            found.append(pid)
    return found


async def test_a_keeper_leaves_when_its_job_ends_after_its_folder_was_deleted(
    bench, runtime, marks
):
    handle = await bench.start(replace(looping(bench, runtime, marks), termination_grace_s=0.1))
    await running(handle, marks)
    keeper = handle.identity()
    bench.handles.clear()  # it has no folder any more by which it could be asked
    shutil.rmtree(bench.jobdir)
    os.kill(keeper.pid, signal.SIGTERM)
    try:
        await wait_for(lambda: not procfs.runs(keeper.pid, keeper.start_ticks), timeout_s=20)
    finally:
        if procfs.runs(keeper.pid, keeper.start_ticks):
            os.kill(keeper.pid, signal.SIGKILL)
    assert not of_job(bench)


async def test_containers_die_when_their_keeper_is_killed(bench, runtime, marks):
    handle = await bench.start(looping(bench, runtime, marks))
    await running(handle, marks)
    assert of_job(bench)
    os.kill(handle.identity().pid, signal.SIGKILL)
    if runtime.name == "bubblewrap":
        await wait_for(lambda: not of_job(bench), timeout_s=3, what="all processes have died")
    gone = await handle.prove_gone()
    assert of_job(bench) == []
    ended = gone.state.containers[0].terminated
    assert (gone.state.phase, gone.state.reason) == ("Failed", "KeeperLost")
    assert (ended.reason, ended.exit_code) == ("KeeperLost", 137)
    assert not handle.alive()
    assert handle.state() == gone.state


async def test_a_lost_job_is_noticed_at_once_when_somebody_waits(bench, bubblewrap, marks):
    handle = await bench.start(looping(bench, bubblewrap, marks))
    await running(handle, marks)
    waiting = asyncio.create_task(handle.wait_change(handle.state().sequence, timeout_s=20))
    await asyncio.sleep(0.1)
    os.kill(handle.identity().pid, signal.SIGKILL)
    state = await asyncio.wait_for(waiting, 2)
    assert not state.final
    assert not handle.alive()
    with pytest.raises(Unavailable):
        await handle.cancel()


async def test_gone_kills_all_when_processes_hide(bench, runtime, marks):
    hide = "setsid setsid sh -c 'echo start >> /marks/starts; exec sleep 300' >/dev/null 2>&1 &"
    script = f"{hide} {hide} while :; do sleep 0.1; done"
    handle = await bench.start(looping(bench, runtime, marks, script))
    await running(handle, marks)
    gone = await handle.prove_gone()
    assert handle.identity().pid in gone.killed
    assert of_job(bench) == []
    again = await handle.prove_gone()
    assert again.killed == ()
    assert again.state == gone.state


async def test_a_keeper_outlives_its_starter_and_is_adopted(bench, bubblewrap, marks, tmp_path):
    """A stranger process starts the job and is killed; we find the job and end it."""
    plan = looping(bench, bubblewrap, marks)
    (tmp_path / "plan.json").write_text(journal.encode(plan))
    program = (
        "import asyncio, os, signal, sys; from pathlib import Path;"
        "from twinfra.compute.containers.handle import KeeperHandle as K;"
        "from twinfra.compute.containers.keeper import journal as j, model as m;"
        "plan = j.decode(m.PodPlan, Path(sys.argv[2]).read_text());"
        "asyncio.run(K.start(Path(sys.argv[1]), plan)); os.killpg(0, signal.SIGKILL)"
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-c", program, bench.jobdir, tmp_path / "plan.json"],
        check=False, stdin=subprocess.DEVNULL, start_new_session=True, timeout=60,
        env={"PYTHONPATH": str(Path(__file__).parents[4] / "src")},
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL
    handle = KeeperHandle.adopt(bench.jobdir)
    bench.handles.append(handle)
    await running(handle, marks)
    assert handle.alive()
    session = procfs.process(handle.identity().pid).session
    assert session != os.getsid(0)
    await handle.cancel(0)
    assert (await handle.wait_finished(timeout_s=5)).reason == "Cancelled"
    assert (marks / "starts").read_text() == "start\n"


async def test_one_runs_when_two_start_at_once(bench, bubblewrap, marks):
    plan = looping(bench, bubblewrap, marks)
    starts = (KeeperHandle.start(bench.jobdir, plan, keeper=bench.archive) for _ in range(5))
    handles = await asyncio.gather(*starts)
    bench.handles += handles
    await running(handles[0], marks)
    assert len({handle.identity().pid for handle in handles}) == 1
    await handles[0].cancel(0)
    await handles[0].wait_finished(timeout_s=5)
    assert (marks / "starts").read_text() == "start\n"


async def test_an_attempt_is_not_run_again_when_asked_twice(bench, bubblewrap, marks):
    plan = looping(bench, bubblewrap, marks, "echo start >> /marks/starts")
    first = await bench.run(plan)
    again = await bench.start(plan)
    assert again.state() == first
    assert (marks / "starts").read_text() == "start\n"


async def test_a_second_attempt_is_numbered_and_visible_after_the_first_is_settled(
    bench, bubblewrap, marks
):
    plan = looping(bench, bubblewrap, marks)
    handle = await bench.start(plan)
    await running(handle, marks)
    with pytest.raises(Conflict):
        await KeeperHandle.start(bench.jobdir, replace(plan, attempt=2), keeper=bench.archive)
    os.kill(handle.identity().pid, signal.SIGKILL)
    await wait_for(lambda: not handle.alive())
    with pytest.raises(Conflict, match="not settled"):
        await KeeperHandle.start(bench.jobdir, replace(plan, attempt=2), keeper=bench.archive)
    lost = (await handle.prove_gone()).state
    second = await bench.start(replace(plan, attempt=2))
    state = second.state()
    assert (state.attempt, state.final) == (2, False)
    assert state.sequence > lost.sequence
    assert sorted(path.name for path in (bench.jobdir / "attempts").iterdir()) == ["1", "2"]
    with pytest.raises(Conflict):
        await KeeperHandle.start(bench.jobdir, replace(plan, attempt=0 + 3), keeper=bench.archive)


async def test_nothing_is_adopted_where_nothing_was_started(tmp_path):
    with pytest.raises(NotFound):
        KeeperHandle.adopt(tmp_path)


async def test_an_attempt_is_settled_when_its_keeper_died_before_its_first_state(
    bench, bubblewrap, marks
):
    plan = looping(bench, bubblewrap, marks)
    handle = KeeperHandle(bench.jobdir)
    handle._prepare(plan)
    journal.attempt_dir(bench.jobdir, 1).mkdir(parents=True)
    gone = await handle.prove_gone()
    assert (gone.state.phase, gone.state.reason, gone.killed) == ("Failed", "KeeperLost", ())
