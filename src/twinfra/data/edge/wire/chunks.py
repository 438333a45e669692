"""Decodes the chunked transfer coding, strictly; extensions are skipped and trailers dropped.

Source: RFC 9112 §7.1. Anything that another parser might read differently ends the connection.
"""

import re

from twinfra.data.edge.wire.errors import HttpRefusal

MAX_LINE_BYTES = 1024
MAX_TRAILER_BYTES = 8192
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")


class ChunkDecoder:
    """Splits a byte stream into the data of its chunks.

    Each call of `step` looks at the front of what has arrived and says how many bytes of it are
    framing to be dropped and how many are data.
    """

    def __init__(self) -> None:
        self.ended = False
        self._left = 0  # data bytes still to come in this chunk
        self._want_crlf = False
        self._in_trailer = False
        self._trailer_bytes = 0

    def step(self, data: memoryview) -> tuple[int, int]:
        """Return (bytes to drop, data bytes after them); (0, 0) when more must arrive first.

        The data bytes must be taken off by `took` before the next step.

        Raises:
            HttpRefusal: 400, this is not chunked.
        """
        if self.ended:
            return 0, 0
        if self._left:
            return 0, min(self._left, len(data))
        line = self._line(data)
        if line is None:
            return 0, 0
        dropped = len(line) + 2
        if self._want_crlf:
            if line:
                raise HttpRefusal(400, "a chunk is longer than it said", close=True)
            self._want_crlf = False
        elif self._in_trailer:
            self._trailer_bytes += dropped
            if self._trailer_bytes > MAX_TRAILER_BYTES:
                raise HttpRefusal(400, "the trailer is too long", close=True)
            self.ended = not line
        else:
            found = _SIZE.fullmatch(line)
            if found is None:
                raise HttpRefusal(400, "a chunk has no proper size", close=True)
            self._left = int(found[1], 16)
            self._in_trailer = self._left == 0
        return dropped, 0

    def took(self, count: int) -> None:
        """Note that `count` data bytes were taken off the front."""
        self._left -= count
        self._want_crlf = self._left == 0

    @staticmethod
    def _line(data: memoryview) -> bytes | None:
        front = bytes(data[: MAX_LINE_BYTES + 2])
        end = front.find(b"\r\n")
        if end < 0 and len(front) > MAX_LINE_BYTES:
            raise HttpRefusal(400, "a chunk's first line is too long", close=True)
        return None if end < 0 else front[:end]
