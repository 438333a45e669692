"""The keeper's ends of a process's streams, with bounded buffers.

It must not know what the bytes mean: its neighbours `container.py` and `sessions.py` do.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Optional

from .loop import READ, WRITE, Loop

_READ_BYTES = 32 * 1024
_FULL_BYTES = 256 * 1024


class Inlet:
    """Writes to a process's input; what it does not take yet waits here."""

    def __init__(self, loop: Loop, descriptor: int) -> None:
        """Take over the writing end."""
        self._loop = loop
        self._descriptor = descriptor
        self._buffer = b""
        self._ending = False
        self.room: Optional[Callable[[], None]] = None
        """Called when there is room again."""
        os.set_blocking(descriptor, False)

    @property
    def full(self) -> bool:
        """Whether the writer should wait."""
        return len(self._buffer) > _FULL_BYTES

    def write(self, data: bytes) -> None:
        """Write, now or as soon as the process reads; nothing after the end."""
        if self._descriptor < 0 or self._ending:
            return
        self._buffer += data
        self._flush()

    def end(self) -> None:
        """Let the process see the end of its input once it has read all."""
        self._ending = True
        self._flush()

    def close(self) -> None:
        """Let go of it at once."""
        if self._descriptor >= 0:
            self._loop.forget(self._descriptor)
            os.close(self._descriptor)
            self._descriptor, self._buffer = -1, b""

    def _flush(self) -> None:
        if self._descriptor < 0:
            return
        was_full = self.full
        try:
            while self._buffer:
                self._buffer = self._buffer[os.write(self._descriptor, self._buffer) :]
        except BlockingIOError:
            self._loop.watch(self._descriptor, WRITE, self._flush)
        except OSError:
            self.close()  # nobody reads any more
        else:
            self._loop.forget(self._descriptor)
            if self._ending:
                self.close()
        if was_full and not self.full and self.room is not None:
            self.room()


class Outlet:
    """Reads a process's output as long as whoever takes it has room."""

    def __init__(
        self,
        loop: Loop,
        descriptor: int,
        take: Callable[[bytes], None],
        has_room: Callable[[], bool],
    ) -> None:
        """Take over the reading end."""
        self._loop = loop
        self._descriptor = descriptor
        self._take = take
        self._has_room = has_room
        os.set_blocking(descriptor, False)
        self.go_on()

    def go_on(self) -> None:
        """Read on, if it had paused."""
        if self._descriptor >= 0:
            self._loop.watch(self._descriptor, READ, self._readable)

    def drain(self) -> None:
        """Take what is there by now, room or not: a pipe holds little."""
        while self._descriptor >= 0 and self._read():
            pass

    def close(self) -> None:
        """Let go of it."""
        if self._descriptor >= 0:
            self._loop.forget(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _readable(self) -> None:
        self._read()
        if self._descriptor >= 0 and not self._has_room():
            self._loop.forget(self._descriptor)

    def _read(self) -> bool:
        data = b""
        with contextlib.suppress(OSError):  # a terminal whose other end is closed says EIO
            try:
                data = os.read(self._descriptor, _READ_BYTES)
            except BlockingIOError:
                return False
        if not data:
            self.close()
            return False
        self._take(data)
        return True
