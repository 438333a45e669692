"""A network of the pod's own with a way out: no port is shared, the host's loopback stays shut."""

import os
import signal
import socket
import threading

import pytest

from twinfra.compute.containers.keeper import procfs
from twinfra.compute.containers.keeper.model import Probe
from twinfra.compute.containers.uplink import find_uplink
from twinfra.core.errors import InvalidRequest
from twinfra.testkit.waiting import wait_for

SERVE = "mkdir -p /tmp/www; echo {} > /tmp/www/f; exec httpd -f -p 8080 -h /tmp/www"

pytestmark = pytest.mark.real("slirp4netns")


@pytest.fixture
def outside():
    """A server at an address of this machine that is not loopback, and its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing; tells our outward address
        address = probe.getsockname()[0]
    listener = socket.create_server((address, 0))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"from outside\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


def private(bench, bubblewrap, script, **fields):
    spec = {"network": "private"}
    item = bench.container(bubblewrap, "sh", "-c", script, spec=spec, **fields)
    return bench.plan(bubblewrap, item, network="private", uplink=find_uplink())


async def test_the_outside_is_reached_and_the_hosts_loopback_is_not(bench, bubblewrap, outside):
    inner = socket.create_server(("127.0.0.1", 0))
    address, port = outside
    script = (
        f"nc -w 3 {address} {port} </dev/null;"
        f"nc -w 1 10.0.2.2 {inner.getsockname()[1]} </dev/null && echo reached;"
        "cat /etc/resolv.conf"
    )
    await bench.run(private(bench, bubblewrap, script))
    inner.close()
    text = bench.logs()
    assert "from outside" in text
    assert "reached" not in text
    assert "nameserver 10.0.2.3" in text


async def test_two_pods_listen_on_the_same_port(open_folder, rootfs, keeper_archive, bubblewrap):
    from .conftest import Bench

    handles = []
    for name in ("one", "two"):
        bench = Bench(open_folder, rootfs, keeper_archive)
        probe = Probe(tcp_port=8080, period_s=0.05)
        plan = private(bench, bubblewrap, SERVE.format(name), readiness=probe)
        handles.append(await bench.start(plan))
    for name, handle in zip(("one", "two"), handles, strict=True):
        await wait_for(lambda handle=handle: handle.state().ready, what=f"{name} is ready")
        reader, writer = await handle.connect(8080)
        writer.write(b"GET /f HTTP/1.0\r\n\r\n")
        assert name.encode() in await reader.read()
        writer.close()
        await writer.wait_closed()
        await handle.prove_gone()


async def test_the_uplink_ends_with_the_pod_and_with_the_keeper(bench, bubblewrap):
    handle = await bench.start(private(bench, bubblewrap, "while :; do sleep 0.1; done"))
    await wait_for(lambda: handle.state().phase == "Running")
    keeper = handle.identity().pid
    assert len(procfs.children(keeper)) == 2
    os.kill(keeper, signal.SIGKILL)
    await handle.prove_gone()
    mark = f"{bench.uid}/1"
    left = [p for p in procfs.pids() if procfs.environment_value(p, "TWINFRA_JOB") == mark]
    assert left == []


async def test_the_pod_ends_normally_though_its_uplink_still_runs(bench, bubblewrap):
    state = await bench.run(private(bench, bubblewrap, "exit 4"))
    assert state.containers[0].terminated.exit_code == 4
    await wait_for(lambda: not bench.handles[0].alive())


async def test_an_uplink_that_fails_is_told(bench, bubblewrap):
    from dataclasses import replace

    plan = replace(private(bench, bubblewrap, "true"), uplink=("/bin/false",))
    state = await bench.run(plan)
    assert (state.phase, state.reason) == ("Failed", "StartError")
    assert "could not be connected" in state.message


async def test_a_private_network_is_refused_without_an_uplink(bench, bubblewrap):
    from dataclasses import replace

    with pytest.raises(InvalidRequest, match="uplink"):
        await bench.start(replace(private(bench, bubblewrap, "true"), uplink=()))
