"""Heads, chunks and bodies: what is read, what is refused, how memory is bounded."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.data.edge.wire.body import Body
from twinfra.data.edge.wire.chunks import ChunkDecoder
from twinfra.data.edge.wire.errors import ClientGone, HttpRefusal
from twinfra.data.edge.wire.head import parse_head


def head(*lines: str):
    return parse_head("\r\n".join([*lines, "", ""]).encode("latin-1"))


def test_head_tells_what_was_sent():
    found = head("PROPFIND /dav/%20x?y HTTP/1.1", "Host: h", "Depth: 1", "X-A: 1", "x-a: 2")
    assert (found.method, found.target) == ("PROPFIND", b"/dav/%20x?y")
    assert found.headers == {"host": "h", "depth": "1", "x-a": "1, 2"}
    assert (found.length, found.chunked, found.keep_alive) == (0, False, True)


def test_connection_is_kept_as_both_versions_of_http_say():
    assert head("GET / HTTP/1.1", "Host: h").keep_alive
    assert not head("GET / HTTP/1.1", "Host: h", "Connection: TE, close").keep_alive
    assert not head("GET / HTTP/1.0").keep_alive
    assert head("GET / HTTP/1.0", "Connection: keep-alive").keep_alive


def test_upgrade_is_ignored_when_offered():
    assert head("GET / HTTP/1.1", "Host: h", "Connection: upgrade", "Upgrade: h2c").method == "GET"


@pytest.mark.parametrize(
    "lines",
    [
        ("GET / HTTP/1.1",),
        ("GET / HTTP/1.1", "Host: a", "Host: b"),
        ("GET / HTTP/1.1", "Host: a", "Authorization: x", "Authorization: y"),
        ("PUT / HTTP/1.1", "Host: a", "Content-Length: 1, 1"),
        ("PUT / HTTP/1.0", "Transfer-Encoding: chunked"),
        ("GET / HTTP/9.9", "Host: a"),
        ("", "GET / HTTP/1.1"),
    ],
)
def test_head_is_refused_when_it_could_be_read_in_two_ways(lines):
    with pytest.raises(HttpRefusal) as refused:
        head(*lines)
    assert refused.value.status in {400, 501}
    assert refused.value.close


@given(st.binary(max_size=300))
def test_head_is_parsed_or_refused_whatever_it_is(raw):
    status = 200
    try:
        parse_head(raw + b"\r\n\r\n")
    except HttpRefusal as refused:
        status = refused.status
    assert status in {200, 400, 501}


def decode(raw: bytes, step: int) -> bytes:
    """Feed `raw` in pieces of `step` bytes; returns the data."""
    decoder, buffer, data = ChunkDecoder(), bytearray(), bytearray()
    for start in range(0, len(raw), step):
        buffer += raw[start : start + step]
        while not decoder.ended:
            drop, count = decoder.step(memoryview(bytes(buffer)))
            data += buffer[drop : drop + count]
            del buffer[: drop + count]
            if count:
                decoder.took(count)
            if not drop and not count:
                break
    assert decoder.ended
    return bytes(data)


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=8), st.integers(1, 40))
def test_chunks_give_their_data_however_they_arrive(chunks, step):
    raw = b"".join(b"%X;a=b\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)
    assert decode(raw + b"0\r\nTrailer: x\r\n\r\n", step) == b"".join(chunks)


@pytest.mark.parametrize(
    "raw",
    [b"g\r\n", b"\r\n", b"-1\r\n", b"0x1\r\n", b"1\r\nab\r\n", b"f" * 16 + b"\r\n", b"1" * 2000],
)
def test_chunks_are_refused_when_they_are_not_of_their_form(raw):
    with pytest.raises((HttpRefusal, AssertionError)) as refused:
        decode(raw, 1)
    assert isinstance(refused.value, HttpRefusal)


def make_body(length, block_bytes=8192, calls=None):
    calls = [] if calls is None else calls
    return Body(
        length,
        block_bytes,
        start=lambda: calls.append("start"),
        resume=lambda: calls.append("resume"),
    )


async def test_body_holds_two_blocks_at_most():
    calls = []
    body = make_body(None, calls=calls)
    assert body.put(memoryview(bytes(100_000))) == 2 * 8192
    assert body.room() is None
    blocks = body.blocks()
    first = await anext(blocks)
    assert len(first) == 8192
    await anext(blocks)
    assert calls == ["start", "resume"]
    assert body.put(memoryview(b"rest")) == 4
    body.end()
    assert bytes(await anext(blocks)) == b"rest"
    with pytest.raises(StopAsyncIteration):
        await anext(blocks)


async def test_body_never_takes_more_than_its_length():
    body = make_body(10)
    assert body.put(memoryview(b"0123456789GET /")) == 10
    assert body.ended
    assert await body.read(100) == b"0123456789"


async def test_reader_of_a_body_is_told_when_the_client_goes():
    body = make_body(10)
    body.put(memoryview(b"012"))
    reading = asyncio.ensure_future(body.read(100))
    await asyncio.sleep(0)
    body.fail(ClientGone("gone"))
    with pytest.raises(ClientGone):
        await reading


async def test_body_is_413_when_it_is_longer_than_asked_for():
    with pytest.raises(HttpRefusal, match="over 5"):
        await make_body(10).read(5)
    body = make_body(None)
    body.put(memoryview(b"0123456789"))
    body.end()
    with pytest.raises(HttpRefusal, match="over 5"):
        await body.read(5)
