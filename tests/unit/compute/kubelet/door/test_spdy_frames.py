"""The SPDY codec: what is written is read back, in whatever pieces; what is wrong is refused."""

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.compute.kubelet.door.spdy.errors import SpdyError
from twinfra.compute.kubelet.door.spdy.frames import (
    Data,
    FrameReader,
    FrameWriter,
    GoAway,
    Headers,
    Ping,
    RstStream,
    Settings,
    SynReply,
    SynStream,
    WindowUpdate,
)
from twinfra.compute.kubelet.door.spdy.headers import DICTIONARY, HeaderReader, HeaderWriter

IDS = st.integers(1, 2**31 - 1)
WORDS = st.integers(0, 2**32 - 1)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-:0123456789", min_size=1, max_size=20)
PAIRS = st.dictionaries(NAMES, st.text(max_size=60), max_size=8).map(lambda d: tuple(d.items()))
FRAMES = st.one_of(
    st.builds(
        SynStream,
        IDS,
        PAIRS,
        fin=st.booleans(),
        unidirectional=st.booleans(),
        priority=st.integers(0, 7),
        associated_id=st.integers(0, 2**31 - 1),
    ),
    st.builds(SynReply, IDS, PAIRS, fin=st.booleans()),
    st.builds(Headers, IDS, PAIRS, fin=st.booleans()),
    st.builds(RstStream, IDS, WORDS),
    st.builds(
        Settings,
        st.lists(st.tuples(st.integers(0, 2**24 - 1), WORDS), max_size=5).map(tuple),
    ),
    st.builds(Ping, WORDS),
    st.builds(GoAway, IDS, WORDS),
    st.builds(WindowUpdate, st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1)),
    st.builds(Data, IDS, st.binary(max_size=2000), fin=st.booleans()),
)


def reader(**limits):
    wanted = {"max_frame_bytes": 2**20, "max_header_bytes": 2**16, "max_headers": 100} | limits
    return FrameReader(**wanted)


@given(st.lists(FRAMES, max_size=12), st.integers(1, 50))
def test_frames_come_back_when_they_arrive_in_pieces(frames, size):
    writer, reading, found = FrameWriter(), reader(), []
    wire = b"".join(writer.encode(frame) for frame in frames)
    for at in range(0, len(wire), size):
        found += reading.feed(wire[at : at + size])
    assert found == frames


@given(st.binary(max_size=300))
def test_garbage_is_refused_or_waits_for_more(garbage):
    try:
        for _ in reader().feed(garbage):
            pass
    except SpdyError:
        pass


@given(st.lists(PAIRS, max_size=10))
def test_header_blocks_share_one_compression_context(blocks):
    writer, reading = HeaderWriter(), HeaderReader(max_bytes=2**16, max_pairs=100)
    assert [reading.decode(writer.encode(block)) for block in blocks] == blocks


def test_the_dictionary_is_the_protocols():
    digest = hashlib.sha256(DICTIONARY).hexdigest()
    assert digest == "51d27341373f923f3cd88e1eb7162aeaa3723d7585ff2399201dc06498407f02"


def test_bytes_of_known_frames():
    writer = FrameWriter()
    assert writer.encode(Ping(1)).hex() == "800300060000000400000001"
    assert writer.encode(RstStream(5, 3)).hex() == "80030003000000080000000500000003"
    assert writer.encode(WindowUpdate(1, 65536)).hex() == "80030009000000080000000100010000"
    assert writer.encode(Data(3, b"hi", fin=True)).hex() == "00000003010000026869"


def test_an_unknown_control_frame_is_passed_over():
    unknown = bytes.fromhex("8003000a") + (2).to_bytes(4, "big") + b"??"
    assert list(reader().feed(unknown + FrameWriter().encode(Ping(7)))) == [Ping(7)]


@pytest.mark.parametrize(
    ("wire", "limits"),
    [
        (bytes.fromhex("80020006000000040000000 1".replace(" ", "")), {}),  # version 2
        (bytes.fromhex("8003000600000002") + b"\0\0", {}),  # too short a ping
        (bytes.fromhex("0000000100ffffff"), {}),  # larger than allowed
        (bytes.fromhex("80030004000000040000000f"), {}),  # settings that are not there
        (bytes.fromhex("8003000100000012") + bytes(18), {}),  # headers that are no zlib
        (FrameWriter().encode(SynReply(1, (("a", "b" * 9000),))), {"max_header_bytes": 1000}),
        (FrameWriter().encode(SynReply(1, (("a", "b"), ("c", "d")))), {"max_headers": 1}),
    ],
)
def test_what_breaks_the_protocol_or_a_limit_is_refused(wire, limits):
    with pytest.raises(SpdyError):
        list(reader(**limits).feed(wire))


@pytest.mark.parametrize(
    "plain",
    [
        b"\0\0",
        b"\0\0\0\1\0\0\0\0\0\0\0\1x",  # no name
        b"\0\0\0\1\0\0\0\1A\0\0\0\1x",  # not in lower case
        b"\0\0\0\2\0\0\0\1a\0\0\0\1x\0\0\0\1a\0\0\0\1y",  # twice
        b"\0\0\0\1\0\0\0\1a\0\0\0\xffx",  # a value that is not there
        b"\0\0\0\0more",
    ],
)
def test_a_bad_header_block_is_refused(plain):
    packed = zlib.compressobj(zdict=DICTIONARY)
    block = packed.compress(plain) + packed.flush(zlib.Z_SYNC_FLUSH)
    with pytest.raises(SpdyError):
        HeaderReader(max_bytes=1000, max_pairs=10).decode(block)
