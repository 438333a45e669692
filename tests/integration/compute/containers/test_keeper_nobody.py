"""The same for an ordinary user: own user namespace, no control groups, memory watched."""

import os
import signal

from twinfra.compute.containers.keeper import procfs
from twinfra.compute.containers.keeper.model import HttpGet, Limits, Probe
from twinfra.testkit.waiting import wait_for

from .conftest import NOBODY

SERVE = "mkdir -p /tmp/www; echo within > /tmp/www/f; exec httpd -f -p 127.0.0.1:8080 -h /tmp/www"


async def finish(handle):
    state = await handle.wait_finished(timeout_s=20)
    assert state is not None, handle.state()
    return state


async def test_exit_code_and_output_arrive_for_an_ordinary_user(bench, runtime):
    script = "id -u; echo x > /tmp/x && cat /tmp/x; hostname; exit 5"
    item = bench.container(runtime, "sh", "-c", script)
    handle = await bench.start_as_nobody(bench.plan(runtime, item, hostname="mine"))
    state = await finish(handle)
    assert state.containers[0].terminated.exit_code == 5
    lines = bench.logs().splitlines()
    assert lines[1] == "x"
    if runtime.name == "bubblewrap":
        assert (lines[0], lines[2]) == ("0", "mine")
    await wait_for(lambda: not handle.alive(), what="the keeper has left")


async def test_the_network_is_private_and_probes_reach_it_for_an_ordinary_user(bench, bubblewrap):
    item = bench.container(
        bubblewrap, "sh", "-c", SERVE,
        startup=Probe(exec_command=("test", "-e", "/tmp/www/f"), period_s=0.05),
        readiness=Probe(http=HttpGet(8080, "/f"), period_s=0.05),
    )  # fmt: skip
    handle = await bench.start_as_nobody(bench.plan(bubblewrap, item))
    await wait_for(lambda: handle.state().ready, what="the service is ready")
    reader, writer = await handle.connect(8080)
    writer.write(b"GET /f HTTP/1.0\r\n\r\n")
    assert b"within" in await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_memory_is_watched_where_there_are_no_control_groups(bench, runtime):
    item = bench.container(
        runtime, "sh", "-c", "tail /dev/zero", limits=Limits(memory_bytes=64 * 1024 * 1024)
    )
    handle = await bench.start_as_nobody(bench.plan(runtime, item))
    state = await finish(handle)
    if os.geteuid() == 0:  # who is an ordinary user anyway may have groups of systemd's making
        assert state.limits_kept_by == "watch"
    ended = state.containers[0].terminated
    assert (ended.exit_code, ended.reason) == (137, "OOMKilled")


async def test_containers_die_with_the_keeper_of_an_ordinary_user(bench, runtime):
    script = "(setsid sleep 300 &) ; while :; do sleep 0.1; done"
    handle = await bench.start_as_nobody(
        bench.plan(runtime, bench.container(runtime, "sh", "-c", script))
    )
    await wait_for(lambda: handle.state().phase == "Running")
    os.kill(handle.identity().pid, signal.SIGKILL)
    gone = await handle.prove_gone()
    assert gone.state.reason == "KeeperLost"
    mark = f"{bench.uid}/1"
    left = [p for p in procfs.pids() if procfs.environment_value(p, "TWINFRA_JOB") == mark]
    assert [pid for pid in left if not procfs.process(pid).dead] == []


async def test_the_user_within_is_as_asked_and_files_belong_to_the_user_without(bench, bubblewrap):
    spec = {"uid": 1234, "gid": 1234}
    item = bench.container(bubblewrap, "sh", "-c", "id -u; touch /tmp/mine", spec=spec)
    handle = await bench.start_as_nobody(bench.plan(bubblewrap, item))
    await finish(handle)
    assert bench.logs() == "1234\n"
    made = bench.jobdir / "scratch" / "main" / "tmp" / "mine"
    assert made.stat().st_uid == NOBODY
