"""Messages of a running command: a channel and its bytes, as frames on the keeper's socket. Pure.

A frame is one byte of channel, four bytes of length (big-endian), the bytes. The channels are those
of Kubernetes' remote command protocol, so a WebSocket message is a frame without its length.
Source: Kubernetes, k8s.io/apimachinery/pkg/util/remotecommand, ``v5.channel.k8s.io``.
"""

import json
import struct
from typing import Any

STDIN = 0
STDOUT = 1
STDERR = 2
ERROR = 3
"""One message, the last: a metav1.Status that says how it ended."""
RESIZE = 4
"""``{"Width": 80, "Height": 24}``, for a terminal."""
CLOSE = 255
"""The channel that its one byte names has ended."""

PIECE_BYTES = 32 * 1024
"""Longer messages are cut into several frames."""
MOST_BYTES = 1024 * 1024
"""A frame that claims more is none of ours."""

_HEAD = struct.Struct(">BI")


class FrameError(ValueError):
    """What came is no frame."""


def frame(channel: int, data: bytes) -> bytes:
    """Return one message as it goes over the socket."""
    return _HEAD.pack(channel, len(data)) + data


class Decoder:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> "list[tuple[int, bytes]]":
        """Take bytes as they come and return the messages that are whole by now.

        Raises:
            FrameError: a message claims to be longer than any of ours.
        """
        self._rest += data
        found = []
        at = 0
        while len(self._rest) - at >= _HEAD.size:
            channel, length = _HEAD.unpack_from(self._rest, at)
            if length > MOST_BYTES:
                raise FrameError("a frame is too long")
            if len(self._rest) - at - _HEAD.size < length:
                break
            at += _HEAD.size
            found.append((channel, self._rest[at : at + length]))
            at += length
        self._rest = self._rest[at:]
        return found


def ended(code: int) -> bytes:
    """Return the Status of a command that ended with this exit code."""
    if code == 0:
        return _status({"status": "Success"})
    return _status(
        {
            "status": "Failure",
            "reason": "NonZeroExitCode",
            "message": f"command terminated with non-zero exit code {code}",
            "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
        }
    )


def broken(message: str) -> bytes:
    """Return the Status of a command of which nobody knows how it ended."""
    return _status(
        {"status": "Failure", "reason": "InternalError", "message": message, "code": 500}
    )


def _status(body: "dict[str, Any]") -> bytes:
    return json.dumps({"metadata": {}, **body}).encode()
