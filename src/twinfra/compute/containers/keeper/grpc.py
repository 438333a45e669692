"""Asks one gRPC health question over plain HTTP/2, and understands just the answer to it.

A whole HTTP/2 client would be out of place in a probe: one request is written with headers that
need no compression state, and of the answer only the message is read; that there is one which says
SERVING is the success. Pure; its neighbour `probes.py` has the socket. Source: RFC 9113; RFC 7541
§6.2.2; grpc.health.v1.
"""

import struct
from typing import Optional

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM, _ACK, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8
_STREAM = 1
_FRAME_BYTES = 16384
_MESSAGE_BYTES = 1024
_POST, _SCHEME_HTTP, _AUTHORITY, _PATH = 0x83, 0x86, 0x01, 0x04
_SERVING = 1


class HealthCheck:
    """One question to ``grpc.health.v1.Health/Check``."""

    def __init__(self, port: int, service: str) -> None:
        self.request = _PREFACE + _frame(_SETTINGS, 0, 0, b"")
        """What to send first."""
        self.request += _frame(_HEADERS, _END_HEADERS, _STREAM, _headers(port))
        self.request += _frame(_DATA, _END_STREAM, _STREAM, _message(service))
        self._read = b""
        self._message = b""
        self.answer: Optional[bool] = None
        """Whether it serves, once that is known."""

    def feed(self, data: bytes) -> bytes:
        """Take bytes as they come; return what has to be sent in turn."""
        self._read += data
        told = b""
        while self.answer is None and len(self._read) >= 9:
            length = int.from_bytes(self._read[:3], "big")
            kind, flags = self._read[3], self._read[4]
            stream = int.from_bytes(self._read[5:9], "big") & 0x7FFFFFFF
            if length > _FRAME_BYTES:
                self.answer = False
                break
            if len(self._read) < 9 + length:
                break
            body, self._read = self._read[9 : 9 + length], self._read[9 + length :]
            told += self._take(kind, flags, stream, body)
        return told

    def _take(self, kind: int, flags: int, stream: int, body: bytes) -> bytes:
        if kind == _SETTINGS and not flags & _ACK:
            return _frame(_SETTINGS, _ACK, 0, b"")
        if kind == _PING and not flags & _ACK:
            return _frame(_PING, _ACK, 0, body)
        if kind == _GOAWAY or (kind == _RESET and stream == _STREAM):
            self.answer = False
        elif kind == _DATA and stream == _STREAM:
            if flags & _PADDED and body:
                body = body[1 : len(body) - body[0]]
            self._message += body
            self._judge()
        if self.answer is None and kind in {_DATA, _HEADERS} and flags & _END_STREAM:
            self.answer = False  # it ended without a message
        return b""

    def _judge(self) -> None:
        if len(self._message) < 5:
            return
        compressed, length = struct.unpack_from(">BI", self._message)
        if compressed or length > _MESSAGE_BYTES:
            self.answer = False
        elif len(self._message) >= 5 + length:
            self.answer = self._message[5 : 5 + length] == bytes([0x08, _SERVING])


def _frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    return struct.pack(">I", len(body))[1:] + struct.pack(">BBI", kind, flags, stream) + body


def _headers(port: int) -> bytes:
    return b"".join(
        (
            bytes([_POST, _SCHEME_HTTP]),
            bytes([_PATH]) + _text(b"/grpc.health.v1.Health/Check"),
            bytes([_AUTHORITY]) + _text(b"127.0.0.1:%d" % port),
            b"\0" + _text(b"content-type") + _text(b"application/grpc"),
            b"\0" + _text(b"te") + _text(b"trailers"),
            b"\0" + _text(b"user-agent") + _text(b"twinfra-keeper"),
        )
    )


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value  # none of ours needs more than the seven bits


def _message(service: str) -> bytes:
    name = service.encode()
    body = b"\x0a" + _varint(len(name)) + name if name else b""
    return struct.pack(">BI", 0, len(body)) + body


def _varint(number: int) -> bytes:
    found = b""
    while number > 0x7F:
        found += bytes([number & 0x7F | 0x80])
        number >>= 7
    return found + bytes([number])
