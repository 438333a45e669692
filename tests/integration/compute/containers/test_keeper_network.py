"""The pod's own network: loopback within, nothing without, a way in through the keeper."""

import asyncio
import json
import os
import socket

import pytest

from twinfra.compute.containers import door
from twinfra.compute.containers.keeper.model import Probe
from twinfra.core.errors import InvalidRequest, Unavailable, UpstreamFault
from twinfra.testkit.ports import free_port
from twinfra.testkit.waiting import wait_for

SERVE = "mkdir -p /tmp/www; echo within > /tmp/www/f; exec httpd -f -p 127.0.0.1:8080 -h /tmp/www"


async def fetch(reader, writer, path="/f"):
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    await writer.drain()
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer.decode()


async def serving(bench, runtime, script=SERVE, port=8080):
    item = bench.container(
        runtime, "sh", "-c", script, readiness=Probe(tcp_port=port, period_s=0.05)
    )
    handle = await bench.start(bench.plan(runtime, item))
    await wait_for(lambda: handle.state().ready, what="the service listens")
    return handle


async def test_loopback_works_and_nothing_else_when_the_network_is_none(bench, bubblewrap):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    script = (
        "ip -o addr | grep -c inet.*lo; ip -o link | wc -l;"
        f"nc -w 1 127.0.0.1 {port} </dev/null && echo reached;"
        "nc -w 1 192.0.2.1 80 </dev/null 2>&1;"
        f"({SERVE}) & until wget -q -O - http://127.0.0.1:8080/f; do sleep 0.05; done"
    )
    _, text = await bench.shell(bubblewrap, script)
    listener.close()
    assert "reached" not in text
    assert "unreachable" in text
    assert text.splitlines()[1] == "1"
    assert "within" in text


async def test_the_service_is_reached_through_the_keeper(bench, bubblewrap):
    port = free_port()
    handle = await serving(bench, bubblewrap, SERVE.replace("8080", str(port)), port)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    assert "within" in await fetch(*await handle.connect(port))


async def test_the_service_is_reached_through_the_keeper_when_the_network_is_shared(bench):
    from twinfra.compute.containers.proot import ProotRuntime

    port = free_port()
    handle = await serving(bench, ProotRuntime(), SERVE.replace("8080", str(port)), port)
    assert "within" in await fetch(*await handle.connect(port))


ECHO = (
    "mkdir -p /tmp/www/cgi-bin; cd /tmp/www/cgi-bin;"
    "printf '#!/bin/sh\\necho; exec cat\\n' > echo; chmod 755 echo;"
    "exec httpd -f -p 127.0.0.1:8080 -h /tmp/www"
)


async def test_bytes_flow_both_ways_when_the_keeper_relays(bench, bubblewrap):
    """Without the descriptor: as a batch node is reached, or by `socat` and a pair of eyes."""
    handle = await serving(bench, bubblewrap, ECHO)
    folder = os.open(handle.jobdir, os.O_PATH)
    reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/keeper.sock")
    os.close(folder)
    payload = os.urandom(3_000_000)
    head = f"POST /cgi-bin/echo HTTP/1.0\r\nContent-Length: {len(payload)}\r\n\r\n".encode()
    # The first bytes come along with the request: nothing that follows it may be lost.
    writer.write(json.dumps({"do": "connect", "port": 8080}).encode() + b"\n" + head)
    assert json.loads(await reader.readline()) == {"ok": True}

    async def send():
        writer.write(payload)
        await writer.drain()

    task = asyncio.create_task(send())
    answer = await reader.read()
    await task
    assert answer.endswith(payload)
    writer.close()
    await writer.wait_closed()


async def test_many_connections_at_once_are_served(bench, bubblewrap):
    handle = await serving(bench, bubblewrap)

    async def once():
        return await fetch(*await handle.connect(8080))

    answers = await asyncio.gather(*(once() for _ in range(40)))
    assert all("within" in answer for answer in answers)


async def test_connect_says_so_when_nothing_listens(bench, bubblewrap):
    handle = await serving(bench, bubblewrap)
    with pytest.raises(Unavailable, match="refused"):
        await handle.connect(9999)
    await handle.cancel(0)
    await handle.wait_finished(timeout_s=5)
    with pytest.raises(Unavailable):
        await handle.connect(8080)


async def test_containers_of_a_pod_share_their_loopback(bench, bubblewrap):
    server = bench.container(bubblewrap, "sh", "-c", SERVE, name="server")
    script = "until wget -q -O - http://127.0.0.1:8080/f; do sleep 0.05; done"
    client = bench.container(bubblewrap, "sh", "-c", script, name="client")
    handle = await bench.start(bench.plan(bubblewrap, server, client))
    await wait_for(lambda: handle.state().containers[1].terminated, what="the client is done")
    assert bench.logs("client") == "within\n"


@pytest.mark.parametrize(
    "request_line",
    [
        {"do": "connect", "port": 0},
        {"do": "connect", "port": "8080"},
        {"do": "connect"},
        {"do": "wait"},
        {"do": "nonsense"},
        {},
        [],
        "x",
    ],
)
async def test_nonsense_is_refused_and_the_keeper_lives(bench, bubblewrap, request_line):
    handle = await bench.start(bench.plan(bubblewrap, bench.container(bubblewrap, "sleep", "60")))
    with pytest.raises(UpstreamFault, match="refused"):
        await door.ask(handle.jobdir, request_line)
    assert (await door.ask(handle.jobdir, {"do": "ping"}))["uid"] == bench.uid


async def test_nobody_else_may_open_the_socket(bench, bubblewrap):
    handle = await bench.start(bench.plan(bubblewrap, bench.container(bubblewrap, "sleep", "60")))
    assert (handle.jobdir / "keeper.sock").stat().st_mode & 0o777 == 0o600
    assert (handle.jobdir / "plan.json").stat().st_mode & 0o777 == 0o600
    assert handle.jobdir.stat().st_mode & 0o777 == 0o700


async def test_the_socket_works_where_its_path_is_longer_than_an_address(bench, bubblewrap):
    bench.jobdir = bench.folder / ("long" * 30) / bench.uid
    handle = await serving(bench, bubblewrap)
    assert "within" in await fetch(*await handle.connect(8080))
    assert (await handle.stats()).uid == bench.uid


async def test_no_network_is_refused_without_isolation(bench):
    from twinfra.compute.containers.proot import ProotRuntime

    runtime = ProotRuntime()
    with pytest.raises(InvalidRequest, match="isolation"):
        await bench.start(bench.plan(runtime, bench.container(runtime, "true"), network="none"))
