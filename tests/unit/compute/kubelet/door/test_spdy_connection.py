"""Streams of a SPDY connection: both ends, windows, resets and limits, without a socket."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from twinfra.compute.kubelet.door.spdy.connection import SpdyConnection, SpdyLimits
from twinfra.compute.kubelet.door.spdy.errors import SpdyError, StreamResetError
from twinfra.compute.kubelet.door.spdy.frames import (
    Data,
    FrameReader,
    FrameWriter,
    GoAway,
    Ping,
    RstStream,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
)
from twinfra.testkit.waiting import wait_for


class Wire:
    """Bytes in memory; the test plays the other side."""

    def __init__(self):
        self.inbound, self.sent, self.closed = asyncio.Queue(), [], False
        self.writer = FrameWriter()
        self.reader = FrameReader(max_frame_bytes=2**20, max_header_bytes=2**16, max_headers=100)

    async def receive(self):
        return await self.inbound.get()

    async def send(self, data):
        self.sent += self.reader.feed(data)

    async def close(self):
        self.closed = True

    def says(self, *frames):
        for frame in frames:
            self.inbound.put_nowait(self.writer.encode(frame))

    def hangs_up(self):
        self.inbound.put_nowait(b"")

    async def heard(self, wanted):
        await wait_for(lambda: wanted in self.sent, timeout_s=30)

    def data(self, stream_id):
        return b"".join(
            f.data for f in self.sent if isinstance(f, Data) and f.stream_id == stream_id
        )


@asynccontextmanager
async def connection(**limits):
    wire = Wire()
    made = SpdyConnection(wire, SpdyLimits(**limits))
    running = asyncio.create_task(made.run())
    yield wire, made, running
    wire.hangs_up()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_stream_carries_both_ways_and_each_ends_by_itself():
    async with connection() as (wire, made, _):
        wire.says(SynStream(1, (("streamtype", "data"),)), Data(1, b"ping"), Data(1, fin=True))
        stream = await made.accepted()
        assert stream.headers == {"streamtype": "data"}
        await stream.accept()
        assert [await stream.read(), await stream.read()] == [b"ping", b""]
        await stream.write(b"pong")
        await stream.finish()
        assert wire.sent == [SynReply(1), Data(1, b"pong"), Data(1, fin=True)]


async def test_a_ping_is_answered_and_an_answer_is_not():
    async with connection() as (wire, made, _):
        wire.says(Ping(2), Ping(3))
        await wire.heard(Ping(3))
        await made.ping()
        assert wire.sent == [Ping(3), Ping(2)]


async def test_a_peer_without_windows_gets_all():
    async with connection() as (wire, made, _):
        wire.says(SynStream(1))
        stream = await made.accepted()
        await stream.write(b"x" * 300_000)
        assert wire.data(1) == b"x" * 300_000


@pytest.mark.parametrize("strict", [True, False])
async def test_a_peer_with_windows_gets_what_fits(strict):
    async with connection(strict_windows=strict) as (wire, made, _):
        if not strict:
            wire.says(Settings(((7, 64 * 1024),)))
        wire.says(SynStream(1))
        stream = await made.accepted()
        writing = asyncio.create_task(stream.write(b"x" * 100_000))
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(wire.data(1)) == 64 * 1024
        wire.says(WindowUpdate(1, 50_000))  # the connection's own window is still shut
        for _ in range(100):
            await asyncio.sleep(0)
        assert len(wire.data(1)) == 64 * 1024
        wire.says(WindowUpdate(0, 50_000))
        async with asyncio.timeout(30):
            await writing
        assert wire.data(1) == b"x" * 100_000


async def test_what_was_read_opens_the_windows_again():
    async with connection() as (wire, made, _):
        wire.says(SynStream(1), Data(1, b"x" * 40_000))
        stream = await made.accepted()
        await stream.read()
        await wire.heard(WindowUpdate(1, 40_000))
        assert WindowUpdate(0, 40_000) in wire.sent


async def test_a_slow_reader_stops_the_connection_and_a_reset_frees_it():
    async with connection(buffer_bytes=10) as (wire, made, _):
        wire.says(SynStream(1), Data(1, b"x" * 11), Ping(5))
        stream = await made.accepted()
        for _ in range(100):
            await asyncio.sleep(0)
        assert Ping(5) not in wire.sent
        await stream.reset()
        await wire.heard(Ping(5))


async def test_a_reset_stream_says_so_to_reader_and_writer():
    async with connection() as (wire, made, _):
        wire.says(SynStream(1))
        stream = await made.accepted()
        wire.says(RstStream(1, 5), Ping(1))
        await wire.heard(Ping(1))
        with pytest.raises(StreamResetError):
            await stream.read()
        with pytest.raises(StreamResetError):
            await stream.write(b"x")


async def test_late_data_of_a_finished_stream_is_harmless():
    async with connection() as (wire, made, _):
        wire.says(SynStream(1))
        stream = await made.accepted()
        await stream.reset()
        wire.says(Data(1, b"late"), Ping(1))
        await wire.heard(Ping(1))


async def test_streams_over_the_limit_are_refused_and_the_rest_goes_on():
    async with connection(max_streams=1) as (wire, made, _):
        wire.says(SynStream(1), SynStream(3))
        stream = await made.accepted()
        await wire.heard(RstStream(3, 3))
        await stream.write(b"still here")
        assert wire.data(1) == b"still here"


@pytest.mark.parametrize(
    "frames",
    [
        (SynStream(2),),
        (SynStream(3), SynStream(1)),
        (Data(9, b"x"),),
        (SynStream(1), WindowUpdate(1, 2**31 - 1)),
    ],
)
async def test_a_peer_that_breaks_the_protocol_is_left(frames):
    async with connection() as (wire, _, running):
        wire.says(*frames)
        with pytest.raises(SpdyError):
            await asyncio.wait_for(running, 30)


async def test_nobody_waits_for_ever_when_the_peer_is_gone():
    async with connection(strict_windows=True) as (wire, made, running):
        wire.says(SynStream(1))
        stream = await made.accepted()
        writing = asyncio.create_task(stream.write(b"x" * 100_000))
        reading = asyncio.create_task(stream.read())
        wire.hangs_up()
        await asyncio.wait_for(running, 30)
        with pytest.raises(StreamResetError):
            await asyncio.wait_for(writing, 30)
        with pytest.raises(StreamResetError):
            await asyncio.wait_for(reading, 30)
        assert await made.accepted() is None


async def test_a_close_says_goodbye():
    async with connection() as (wire, made, _):
        wire.says(SynStream(1))
        await made.accepted()
        await made.close()
        assert wire.sent == [GoAway(1)]
        assert wire.closed
