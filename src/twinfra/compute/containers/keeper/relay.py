"""Joins two sockets so that bytes flow both ways, with bounded buffers and half-close.

It must not look at the bytes. Its neighbour `door.py` opens the two ends.
"""

import contextlib
import socket

from .loop import READ, WRITE, Loop

_CHUNK_BYTES = 64 * 1024


def join(loop: Loop, left: tuple[socket.socket, bytes], right: tuple[socket.socket, bytes]) -> None:
    """Let bytes flow until both ends are done; takes the sockets over.

    Args:
        loop: serves the sockets.
        left: one end, and the first bytes to be sent to it.
        right: the other end, likewise.
    """
    flows = [_Flow(loop, left[0], *right), _Flow(loop, right[0], *left)]
    for flow, other in zip(flows, reversed(flows)):
        flow.begin(other)
    for end, _ in (left, right):
        end.close()


class _Flow:
    """One direction. Each watches duplicates, since the loop knows one watch a descriptor."""

    def __init__(
        self, loop: Loop, source: socket.socket, sink: socket.socket, first: bytes
    ) -> None:
        self._loop = loop
        self._source = source.dup()
        self._sink = sink.dup()
        self._buffer = first
        self._ended = False
        self._other: _Flow = self
        self.done = False
        for end in (self._source, self._sink):
            end.setblocking(False)

    def begin(self, other: "_Flow") -> None:
        """Begin to move bytes; `other` is the direction to be ended along with this one."""
        self._other = other
        self._next()

    def _next(self) -> None:
        if self._buffer:
            self._loop.forget(self._source)
            self._loop.watch(self._sink, WRITE, self._write)
        elif self._ended:
            with contextlib.suppress(OSError):
                self._sink.shutdown(socket.SHUT_WR)
            self.close()
        else:
            self._loop.forget(self._sink)
            self._loop.watch(self._source, READ, self._fill)

    def _fill(self) -> None:
        try:
            self._buffer = self._source.recv(_CHUNK_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self._abort()
            return
        self._ended = not self._buffer
        self._next()

    def _write(self) -> None:
        try:
            sent = self._sink.send(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            self._abort()
            return
        self._buffer = self._buffer[sent:]
        self._next()

    def _abort(self) -> None:
        """One end is broken: end both directions."""
        for end in (self._source, self._sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self.close()
        if not self._other.done:
            self._other.close()

    def close(self) -> None:
        """Let go of both ends."""
        self.done = True
        for end in (self._source, self._sink):
            self._loop.forget(end)
            end.close()
