"""One client's connection that carries frames, with bounded buffers both ways.

It must not know what runs at the other end: its neighbour `sessions.py` does.
"""

import select
import socket
from collections.abc import Callable
from typing import Optional

from .channels import Decoder, FrameError, frame
from .loop import READ, WRITE, Loop, Timer

_READ_BYTES = 64 * 1024
_FULL_BYTES = 256 * 1024
_STUCK_S = 30.0
_LOOK_S = 1.0


class Link:
    """The connection; `gone` is called once, when it has ended in whatever way."""

    def __init__(self, loop: Loop, connection: socket.socket) -> None:
        """Take the connection over; nothing is read before `listen`."""
        self._loop = loop
        self._connection = connection
        self._decoder = Decoder()
        self._buffer = bytearray()
        self._reading = self._finishing = self._closed = False
        self._received: Callable[[int, bytes], None] = lambda _channel, _data: None
        self._gone: Callable[[], None] = lambda: None
        self._timer: Optional[Timer] = None
        self.room: Callable[[], None] = lambda: None
        """Called when there is room again."""
        connection.setblocking(False)

    @property
    def full(self) -> bool:
        """Whether whoever sends should wait."""
        return len(self._buffer) > _FULL_BYTES

    @property
    def waiting_bytes(self) -> int:
        """How much the client has not taken yet."""
        return len(self._buffer)

    def listen(
        self, received: Callable[[int, bytes], None], gone: Callable[[], None], first: bytes
    ) -> None:
        """Begin to read; `first` was read already."""
        self._received, self._gone, self._reading = received, gone, True
        self._decode(first)
        self._watch()

    def pause(self) -> None:
        """Read no more for now; a client that leaves meanwhile is still noticed."""
        if self._reading and not self._closed:
            self._reading = False
            self._watch()
            self._timer = self._loop.after(_LOOK_S, self._look)

    def go_on(self) -> None:
        """Read on after a pause."""
        if not self._closed and not self._reading:
            self._reading = True
            self._watch()

    def raw(self, data: bytes) -> None:
        """Send bytes that are no frame."""
        if not self._closed and not self._finishing:
            self._buffer += data
            self._flush()

    def send(self, channel: int, data: bytes) -> None:
        """Send one message."""
        self.raw(frame(channel, data))

    def finish(self) -> None:
        """Close once the client has taken all, or does not take it in time."""
        self._finishing = True
        self._loop.after(_STUCK_S, self.close)
        self._flush()

    def close(self) -> None:
        """Close now."""
        if self._closed:
            return
        self._closed = True
        self._loop.forget(self._connection)
        self._connection.close()
        if self._timer is not None:
            self._timer.cancel()
        self._gone()

    def _watch(self) -> None:
        if self._closed:
            return
        events = (READ if self._reading else 0) | (WRITE if self._buffer else 0)
        if events:
            self._loop.watch(self._connection, events, self._ready)
        else:
            self._loop.forget(self._connection)

    def _ready(self) -> None:
        self._flush()
        if self._reading and not self._closed:
            self._fill()

    def _fill(self) -> None:
        try:
            data = self._connection.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._decode(data)
        else:
            self.close()

    def _decode(self, data: bytes) -> None:
        try:
            for channel, body in self._decoder.feed(data):
                self._received(channel, body)
        except FrameError:
            self.close()

    def _flush(self) -> None:
        if self._closed:
            return
        was_full = self.full
        try:
            while self._buffer:
                del self._buffer[: self._connection.send(self._buffer)]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if self._finishing and not self._buffer:
            self.close()
            return
        self._watch()
        if was_full and not self.full:
            self.room()

    def _look(self) -> None:
        """See whether the client has left while nothing is read from it."""
        if self._closed or self._reading:
            return
        poll = select.poll()
        poll.register(self._connection, 0)
        if any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll(0)):
            self.close()
            return
        self._timer = self._loop.after(_LOOK_S, self._look)
