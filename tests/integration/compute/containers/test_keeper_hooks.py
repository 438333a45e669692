"""Hooks and gRPC probes by each runtime; the probed server speaks HTTP/2 as grpc servers do."""

import sys
import time

import pytest

from twinfra.compute.containers.keeper.model import GrpcCheck, Hook, Probe
from twinfra.testkit.waiting import wait_for

PATIENCE_S = 40
SERVICE = "trap 'echo told; exit 0' TERM; echo up; while :; do sleep 0.05; done"


async def run(bench, runtime, script=SERVICE, *, grace_s=10.0, **fields):
    item = bench.container(runtime, "sh", "-c", script, **fields)
    return await bench.start(bench.plan(runtime, item, termination_grace_s=grace_s))


@pytest.mark.story("preStop/postStart")
async def test_nothing_is_ready_before_the_hook_after_the_start_has_ended(bench, runtime):
    hook = Hook(exec_command=("sh", "-c", "while ! test -e /tmp/go; do sleep 0.05; done"))
    handle = await run(bench, runtime, SERVICE.replace("echo up", "sleep 0.5; touch /tmp/go"),
                       post_start=hook)  # fmt: skip
    await wait_for(lambda: handle.state().phase == "Running", timeout_s=PATIENCE_S)
    assert not handle.state().ready
    await wait_for(lambda: handle.state().ready, timeout_s=PATIENCE_S)


async def test_the_container_ends_when_the_hook_after_its_start_fails(bench, runtime):
    handle = await run(bench, runtime, "exec sleep 1000", post_start=Hook(exec_command=("false",)))
    state = await handle.wait_finished(timeout_s=PATIENCE_S)
    assert (state.phase, state.reason) == ("Failed", "PostStartHookError")


@pytest.mark.story("preStop/postStart")
async def test_the_hook_before_the_end_comes_before_the_signal(bench, runtime):
    hook = Hook(exec_command=("sh", "-c", "sleep 0.3; echo hook >> /tmp/log"))
    script = "trap 'cat /tmp/log; echo told; exit 0' TERM; while :; do sleep 0.05; done"
    handle = await run(bench, runtime, script, pre_stop=hook)
    await wait_for(lambda: handle.state().phase == "Running", timeout_s=PATIENCE_S)
    await asyncio_exec(handle)
    await handle.cancel()
    await handle.wait_finished(timeout_s=PATIENCE_S)
    assert bench.logs().splitlines() == ["hook", "told"]


async def test_the_grace_counts_from_the_hook_that_never_ends(bench, runtime):
    hook = Hook(sleep_s=1000.0)
    handle = await run(bench, runtime, grace_s=0.5, pre_stop=hook)
    await wait_for(lambda: "up" in _logs(bench), timeout_s=PATIENCE_S)
    began = time.monotonic()
    await handle.cancel()
    state = await handle.wait_finished(timeout_s=PATIENCE_S)
    assert time.monotonic() - began >= 0.5
    assert state.containers[0].terminated.exit_code == 137
    assert "told" not in bench.logs()


async def test_a_hook_may_sleep_before_the_signal(bench, bubblewrap):
    handle = await run(bench, bubblewrap, pre_stop=Hook(sleep_s=0.2))
    await wait_for(lambda: "up" in _logs(bench), timeout_s=PATIENCE_S)
    await handle.cancel()
    await handle.wait_finished(timeout_s=PATIENCE_S)
    assert "told" in bench.logs()


async def test_a_probes_own_grace_counts_when_it_ends_the_container(bench, bubblewrap):
    script = "trap '' TERM; while :; do sleep 0.05; done"
    probe = Probe(exec_command=("false",), period_s=0.1, failure_threshold=1, grace_s=0.3)
    handle = await run(bench, bubblewrap, script, grace_s=1000.0, liveness=probe)
    state = await handle.wait_finished(timeout_s=PATIENCE_S)
    assert state.message.endswith("the liveness probe failed")


HEALTH = """
import socket, struct, sys
frame = lambda kind, flags, stream, body: (
    struct.pack(">I", len(body))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + body)
door = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    peer, _ = door.accept()
    peer.settimeout(10)
    read = b""
    while b"Health" not in read and len(read) < 300:
        read += peer.recv(4096)
    wanted = sys.argv[2].encode()
    status = 1 if wanted in read else 2
    peer.sendall(frame(4, 0, 0, b"") + frame(6, 0, 0, b"12345678") + frame(8, 0, 0, bytes(4)))
    peer.sendall(frame(1, 4, 1, b"\\x88"))
    peer.sendall(frame(0, 0, 1, b"\\0\\0\\0\\0\\x02\\x08" + bytes([status])))
    peer.sendall(frame(1, 5, 1, b"\\0\\x0bgrpc-status\\x010"))
    peer.close()
"""


@pytest.mark.story("startup/readiness/liveness probes (http, tcp, exec, grpc)")
@pytest.mark.parametrize(("service", "ready"), [("model", True), ("other", False)])
async def test_a_grpc_probe_passes_when_its_service_serves(bench, service, ready, tmp_path):
    from twinfra.compute.containers.keeper.model import ContainerPlan, Launch

    env = {"PATH": "/usr/bin:/bin"}
    launch = Launch((), (sys.executable, "-c", HEALTH, "18765", "model"), env=env, inner_env=env)
    probe = Probe(grpc=GrpcCheck(18765, service), period_s=0.1, failure_threshold=1, timeout_s=5)
    liveness = (
        None
        if ready
        else Probe(
            grpc=GrpcCheck(18765, service), period_s=0.2, failure_threshold=2, initial_delay_s=1
        )
    )
    item = ContainerPlan("main", launch, readiness=probe, liveness=liveness)
    from twinfra.compute.containers.keeper.model import PodPlan

    plan = PodPlan(bench.uid, (item,), isolated=True, network="none", termination_grace_s=1.0)
    handle = await bench.start(plan)
    if ready:
        await wait_for(lambda: handle.state().ready, timeout_s=PATIENCE_S)
    else:
        state = await handle.wait_finished(timeout_s=PATIENCE_S)
        assert state.message.endswith("the liveness probe failed")


async def asyncio_exec(handle):
    """Wait until commands can run, so that the trap is set."""
    from twinfra.compute.containers.session import Streams, exec_request
    from twinfra.testkit.site_contract import hear

    await hear(await handle.join(exec_request("main", ("sleep", "0.3"), Streams())), PATIENCE_S)


def _logs(bench):
    from twinfra.core.errors import NotFound

    try:
        return bench.logs()
    except NotFound:
        return ""
