"""Frames as values, and their coding; unknown kinds of control frames are passed over."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct

from twinfra.compute.kubelet.door.spdy.errors import SpdyError
from twinfra.compute.kubelet.door.spdy.headers import HeaderReader, HeaderWriter, Pairs

VERSION = 3
CONTROL = 0x8000
FIN, UNIDIRECTIONAL = 0x01, 0x02
HEAD_BYTES = 8
LARGEST_BYTES = 2**24 - 1
ID_MASK = 0x7FFFFFFF
WORD, TWO_WORDS = Struct(">I"), Struct(">II")
SYN = Struct(">IIBB")


class Kind(IntEnum):
    """Types of control frames."""

    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Reset(IntEnum):
    """Why a stream is reset."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    CANCEL = 5
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9


@dataclass(frozen=True)
class SynStream:
    """Opens a stream."""

    stream_id: int
    headers: Pairs = ()
    fin: bool = False
    unidirectional: bool = False
    priority: int = 0
    associated_id: int = 0


@dataclass(frozen=True)
class SynReply:
    """Accepts a stream."""

    stream_id: int
    headers: Pairs = ()
    fin: bool = False


@dataclass(frozen=True)
class Headers:
    """More headers of a stream."""

    stream_id: int
    headers: Pairs = ()
    fin: bool = False


@dataclass(frozen=True)
class RstStream:
    """Ends a stream at once, both ways."""

    stream_id: int
    status: int


@dataclass(frozen=True)
class Settings:
    """What the sender lets the other side know; ids and values."""

    entries: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Ping:
    """Wants the same back from whoever did not send it first."""

    ping_id: int


@dataclass(frozen=True)
class GoAway:
    """No more new streams."""

    last_stream_id: int = 0
    status: int = 0


@dataclass(frozen=True)
class WindowUpdate:
    """The sender can take so many more bytes; stream 0 is the connection."""

    stream_id: int
    delta_bytes: int


@dataclass(frozen=True)
class Data:
    """Bytes of a stream."""

    stream_id: int
    data: bytes = b""
    fin: bool = False


Frame = SynStream | SynReply | Headers | RstStream | Settings | Ping | GoAway | WindowUpdate | Data


class FrameWriter:
    """Codes the frames of one direction; the result must go out in the order of the calls."""

    def __init__(self) -> None:
        self._headers = HeaderWriter()

    def encode(self, frame: Frame) -> bytes:
        """Return a frame's bytes."""
        if isinstance(frame, Data):
            return _head(frame.stream_id, FIN if frame.fin else 0, frame.data)
        kind, flags, body = self._control(frame)
        return _head(((CONTROL | VERSION) << 16) | kind, flags, body)

    def _control(self, frame: Frame) -> tuple[Kind, int, bytes]:
        if isinstance(frame, SynStream | SynReply | Headers):
            return self._with_headers(frame)
        flags = 0
        match frame:
            case RstStream(stream_id, status):
                kind, body = Kind.RST_STREAM, TWO_WORDS.pack(stream_id, status)
            case WindowUpdate(stream_id, delta):
                kind, body = Kind.WINDOW_UPDATE, TWO_WORDS.pack(stream_id, delta)
            case GoAway(last, status):
                kind, body = Kind.GOAWAY, TWO_WORDS.pack(last, status)
            case Ping(ping_id):
                kind, body = Kind.PING, WORD.pack(ping_id)
            case Settings(entries):
                pairs = b"".join(TWO_WORDS.pack(key & 0xFFFFFF, value) for key, value in entries)
                kind, body = Kind.SETTINGS, WORD.pack(len(entries)) + pairs
            case _:
                raise TypeError(frame)
        return kind, flags, body

    def _with_headers(self, frame: SynStream | SynReply | Headers) -> tuple[Kind, int, bytes]:
        flags = FIN if frame.fin else 0
        block = self._headers.encode(frame.headers)
        if isinstance(frame, SynStream):
            flags |= UNIDIRECTIONAL if frame.unidirectional else 0
            front = SYN.pack(frame.stream_id, frame.associated_id, frame.priority << 5, 0)
            return Kind.SYN_STREAM, flags, front + block
        kind = Kind.SYN_REPLY if isinstance(frame, SynReply) else Kind.HEADERS
        return kind, flags, WORD.pack(frame.stream_id) + block


class FrameReader:
    """Reads the frames of one direction from pieces of any size.

    Args:
        max_frame_bytes: a longer frame ends the connection.
        max_header_bytes: of one header block, no longer compressed.
        max_headers: in one block.
    """

    def __init__(self, *, max_frame_bytes: int, max_header_bytes: int, max_headers: int) -> None:
        self._headers = HeaderReader(max_bytes=max_header_bytes, max_pairs=max_headers)
        self._max_bytes = max_frame_bytes
        self._buffer = bytearray()

    def feed(self, piece: bytes) -> Iterator[Frame]:
        """Yield the frames that `piece` completes.

        Raises:
            SpdyError: what arrived is no SPDY/3, or breaks a limit.
        """
        self._buffer += piece
        while len(self._buffer) >= HEAD_BYTES:
            first, second = TWO_WORDS.unpack_from(self._buffer)
            size = second & LARGEST_BYTES
            if size > self._max_bytes:
                raise SpdyError("a frame is too large")
            if len(self._buffer) < HEAD_BYTES + size:
                return
            body = bytes(self._buffer[HEAD_BYTES : HEAD_BYTES + size])
            del self._buffer[: HEAD_BYTES + size]
            frame = self._frame(first, second >> 24, body)
            if frame is not None:
                yield frame

    def _frame(self, first: int, flags: int, body: bytes) -> Frame | None:
        if not first >> 31:
            return Data(first, body, bool(flags & FIN))
        if (first >> 16) & ID_MASK & 0x7FFF != VERSION:
            raise SpdyError("a frame is of another version")
        read = _READERS.get(first & 0xFFFF)
        if read is None:
            return None
        try:
            return read(self._headers, flags, body)
        except (ValueError, IndexError) as error:
            raise SpdyError("a control frame is too short") from error


def _head(first: int, flags: int, body: bytes) -> bytes:
    if len(body) > LARGEST_BYTES:
        raise ValueError("a frame holds less than 16 MiB")
    return TWO_WORDS.pack(first, (flags << 24) | len(body)) + body


def _word(body: bytes, at: int) -> int:
    if len(body) < at + 4:
        raise ValueError(at)
    return int.from_bytes(body[at : at + 4], "big")


def _syn_stream(headers: HeaderReader, flags: int, body: bytes) -> Frame:
    if len(body) < SYN.size:
        raise ValueError(len(body))
    stream_id, associated, priority, _ = SYN.unpack_from(body)
    return SynStream(
        stream_id & ID_MASK,
        headers.decode(body[SYN.size :]),
        fin=bool(flags & FIN),
        unidirectional=bool(flags & UNIDIRECTIONAL),
        priority=priority >> 5,
        associated_id=associated & ID_MASK,
    )


def _settings(_: HeaderReader, flags: int, body: bytes) -> Frame:
    del flags
    count = _word(body, 0)
    if len(body) != 4 + 8 * count:
        raise SpdyError("settings are not as many as they say")
    places = range(4, len(body), 8)
    return Settings(tuple((_word(body, at) & 0xFFFFFF, _word(body, at + 4)) for at in places))


_READERS: Mapping[int, Callable[[HeaderReader, int, bytes], Frame]] = {
    Kind.SYN_STREAM: _syn_stream,
    Kind.SYN_REPLY: lambda headers, flags, body: SynReply(
        _word(body, 0) & ID_MASK, headers.decode(body[4:]), fin=bool(flags & FIN)
    ),
    Kind.HEADERS: lambda headers, flags, body: Headers(
        _word(body, 0) & ID_MASK, headers.decode(body[4:]), fin=bool(flags & FIN)
    ),
    Kind.RST_STREAM: lambda _, __, body: RstStream(_word(body, 0) & ID_MASK, _word(body, 4)),
    Kind.SETTINGS: _settings,
    Kind.PING: lambda _, __, body: Ping(_word(body, 0)),
    Kind.GOAWAY: lambda _, __, body: GoAway(_word(body, 0) & ID_MASK, _word(body, 4)),
    Kind.WINDOW_UPDATE: lambda _, __, body: WindowUpdate(
        _word(body, 0) & ID_MASK, _word(body, 4) & ID_MASK
    ),
}
