"""The door under odd, slow, huge and hostile clients."""

import asyncio
import os
import threading
from contextlib import suppress

import psutil
import pytest

from twinfra.data.edge.files.tree import AlreadyServed, Tree
from twinfra.testkit.edges import EdgeUnderTest
from twinfra.testkit.waiting import wait_for


async def connect(edge: EdgeUnderTest):
    return await asyncio.open_connection(
        "localhost", edge.port, ssl=edge.client_tls(), server_hostname="localhost"
    )


async def exchange(edge: EdgeUnderTest, raw: bytes) -> bytes:
    """Send bytes as they are, and return all that comes until the edge closes."""
    reader, writer = await connect(edge)
    writer.write(raw)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def head(edge: EdgeUnderTest, line: str, *fields: str) -> bytes:
    token = f"Authorization: Bearer {edge.token()}"
    return "\r\n".join([line, "Host: localhost", token, *fields, "", ""]).encode()


async def test_requests_sent_ahead_are_answered_in_order(edge):
    (edge.root / "a").write_text("first")
    (edge.root / "b").write_text("second")
    raw = (
        head(edge, "GET /dav/a HTTP/1.1")
        + head(edge, "PUT /dav/c HTTP/1.1", "Content-Length: 5")
        + b"third"
        + head(edge, "PUT /dav/d HTTP/1.1", "Transfer-Encoding: chunked")
        + b"3\r\nfou\r\n3;x=y\r\nrth\r\n0\r\nTrailer: x\r\n\r\n"
        + head(edge, "GET /dav/b HTTP/1.1", "Connection: close")
    )
    answer = await exchange(edge, raw)
    statuses = [part.split()[0] for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"201", b"201", b"200"]
    assert answer.index(b"first") < answer.index(b"second")
    assert (edge.root / "c").read_text() == "third"
    assert (edge.root / "d").read_text() == "fourth"


async def test_ambiguous_requests_are_refused_and_the_connection_shut(edge):
    for raw in (
        head(edge, "PUT /dav/f HTTP/1.1", "Content-Length: 5", "Content-Length: 6") + b"12345",
        head(edge, "PUT /dav/f HTTP/1.1", "Content-Length: 5", "Transfer-Encoding: chunked"),
        head(edge, "PUT /dav/f HTTP/1.1", "Transfer-Encoding: gzip, chunked"),
        head(edge, "PUT /dav/f HTTP/1.1", "Content-Length : 5") + b"12345",
        head(edge, "PUT /dav/f HTTP/1.1", "Content-Length: -5"),
        head(edge, "GET /dav/f HTTP/1.1", "X: a", " folded"),
        head(edge, "PUT /dav/f HTTP/1.1", "Transfer-Encoding: chunked")
        + b"5\r\n123456\r\n0\r\n\r\n",
        head(edge, "PUT /dav/f HTTP/1.1", "Transfer-Encoding: chunked") + b"0x5\r\n12345\r\n0\r\n",
        b"GET /dav/f HTTP/1.1\r\n\r\n",
        b"NONSENSE\r\n\r\n",
        b"GET /dav/f HTTP/1.1\nHost: x\n\n\r\n\r\n",
        head(edge, "BREW /dav/f HTTP/1.1"),
    ):
        answer = await exchange(edge, raw + head(edge, "DELETE /dav/keep HTTP/1.1"))
        assert answer.split()[1] in {b"400", b"501"}, (raw, answer)
        assert answer.count(b"Server: twinfra") == 1, raw
    assert not (edge.root / "f").exists()


async def test_head_that_is_too_long_is_refused(edge):
    answer = await exchange(edge, b"GET /dav/f HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 40_000)
    assert answer.startswith(b"HTTP/1.1 431 ")


async def test_client_is_asked_to_go_on_before_it_sends_a_body(edge):
    reader, writer = await connect(edge)
    fields = ["Content-Length: 5", "Expect: 100-continue"]
    writer.write(head(edge, "PUT /dav/f HTTP/1.1", *fields))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"12345")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")
    writer.write(head(edge, "PUT /dav/.twinfra/f HTTP/1.1", *fields))
    assert (await reader.readuntil(b"\r\n\r\n")).split()[1] in {b"403", b"404", b"409"}
    writer.close()


async def test_silent_and_slow_clients_are_cut(edge):
    await edge.shut()
    await edge.open(head_timeout_s=0.5, keepalive_timeout_s=0.5, body_idle_timeout_s=0.5)
    slow_head, slow_body, idle = [await connect(edge) for _ in range(3)]
    slow_head[1].write(b"GET /dav/f HTT")
    slow_body[1].write(head(edge, "PUT /dav/f HTTP/1.1", "Content-Length: 100") + b"x")
    idle[1].write(b"OPTIONS / HTTP/1.1\r\nHost: x\r\n\r\n")
    for reader, writer in (slow_head, slow_body, idle):
        with suppress(ConnectionError):  # a cut connection may say so
            await asyncio.wait_for(reader.read(), 5)
        writer.close()
    assert not (edge.root / "f").exists()
    incoming = edge.root / ".twinfra/incoming"
    await wait_for(lambda: not list(incoming.iterdir()), timeout_s=5, what="the draft to go")


async def test_deaf_client_is_cut_and_costs_no_memory(edge):
    await edge.shut()
    await edge.open(body_idle_timeout_s=1.0)
    with (edge.root / "big").open("wb") as file:
        file.truncate(1 << 30)
    before = psutil.Process().memory_info().rss
    reader, writer = await connect(edge)
    writer.transport.pause_reading()
    writer.write(head(edge, "GET /dav/big HTTP/1.1"))
    door = edge.running._door
    await wait_for(lambda: door.connections == 1, timeout_s=5, what="the connection")
    await wait_for(lambda: door.connections == 0, timeout_s=15, what="the cut")
    assert psutil.Process().memory_info().rss - before < 60 * 1024 * 1024
    writer.transport.abort()
    del reader


async def test_memory_stays_flat_when_files_are_huge(edge, http):
    """100 GB, sparse: its middle and its end, 128 MiB of it in one go; 64 MiB in."""
    with (edge.root / "huge").open("wb") as file:
        file.truncate(100 * 10**9)
    got = await http("GET", "/huge", Range="bytes=50000000000-50000000009")
    assert got.body == bytes(10)
    process, peak, stop = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    before = process.memory_info().rss
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        headers = {"Authorization": f"Bearer {http.token}", "Range": "bytes=0-134217727"}
        async with http.session.get(f"{edge.dav}/huge", headers=headers) as answer:
            count = 0
            async for block in answer.content.iter_any():
                count += len(block)
        assert count == 1 << 27

        async def zeros():
            for _ in range(64):
                yield bytes(1 << 20)

        assert (await http("PUT", "/big", data=zeros())).status == 201
    finally:
        stop.set()
        watcher.join()
    assert (edge.root / "big").stat().st_size == 1 << 26
    assert peak[0] - before < 50 * 1024 * 1024


async def test_connections_are_counted(edge):
    await edge.shut()
    await edge.open(max_connections=3)
    held = [await connect(edge) for _ in range(3)]
    await wait_for(lambda: edge.running._door.connections == 3, timeout_s=5, what="three")
    for _ in range(2):
        try:
            reader, writer = await connect(edge)
            assert await reader.read() == b""
            writer.close()
        except OSError:
            pass  # the handshake itself was refused
    held[0][1].close()
    await wait_for(lambda: edge.running._door.connections == 2, timeout_s=5, what="a free place")
    reader, writer = await connect(edge)
    writer.write(b"OPTIONS / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    for _, other in [*held[1:], (reader, writer)]:
        other.close()


async def test_upload_under_way_is_finished_when_the_edge_stops(edge):
    await edge.shut()
    await edge.open(shutdown_grace_s=5.0)
    reader, writer = await connect(edge)
    body = os.urandom(300_000)
    writer.write(head(edge, "PUT /dav/f HTTP/1.1", f"Content-Length: {len(body)}") + body[:1000])
    door = edge.running._door
    await wait_for(lambda: door._working, timeout_s=5, what="the upload to begin")
    stopping = asyncio.create_task(edge.shut())
    await asyncio.sleep(0.2)
    writer.write(body[1000:])
    answer = await reader.read()
    await stopping
    assert answer.startswith(b"HTTP/1.1 201")
    assert b"Connection: close" in answer or answer.endswith(b"\r\n\r\n")
    assert (edge.root / "f").read_bytes() == body
    writer.close()


async def test_draft_of_a_crash_is_cleared_at_the_next_start(edge):
    await edge.shut()
    (edge.root / ".twinfra/incoming/left-over").write_text("half a file")
    await edge.open()
    assert not list((edge.root / ".twinfra/incoming").iterdir())


async def test_folder_is_served_by_one_process_only(edge, tmp_path):
    second = Tree(edge.root)
    with pytest.raises(AlreadyServed):
        second.prepare()
    second.close()


async def test_xml_with_a_document_type_is_refused(http):
    ask = b'<propfind xmlns="DAV:"><allprop/></propfind>'
    bomb = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]>' + ask
    assert (await http("PROPFIND", "/", data=bomb, Depth="0")).status == 400
    assert (await http("PROPFIND", "/", data=b"x" * 70_000, Depth="0")).status == 413
    assert (await http("PROPFIND", "/", data=b"<x/>", Depth="0")).status == 400
    assert (await http("PROPFIND", "/", Depth="infinity")).status == 403
    ok = b'<propfind xmlns="DAV:"><prop><getetag/><quota-used-bytes/><nothing/></prop></propfind>'
    got = await http("PROPFIND", "/", data=ok, Depth="0")
    assert got.status == 207
    assert "<D:quota-used-bytes>" in got.text
    assert "404 Not Found" in got.text
