"""Writes a container's standard output and error as a CRI log, bounded in size.

A line is `<RFC 3339 with nanoseconds> <stdout|stderr> <F|P> <text>`; P marks a piece of a line
that goes on. The reader is `compute/containers/logs.py`. Source: Kubernetes CRI log format.
"""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from . import channels, terminal
from .ends import Inlet
from .journal import now_text
from .loop import READ, Loop
from .model import ContainerPlan
from .sieve import Sieve
from .spawn import Ends

_PIECE_BYTES = 16 * 1024
_TAIL_BYTES = 2048
_BATCH_LINES = 512
_CHANNELS = {"stdout": channels.STDOUT, "stderr": channels.STDERR}


class Recorder:
    """Reads the two pipes of one run of a container into one file."""

    def __init__(self, loop: Loop, path: Path, limit_bytes: int, plan: ContainerPlan) -> None:
        """Take what the sandbox command says out of its error stream."""
        self._plan = plan
        self.sieve = Sieve(plan.launch, tty=plan.tty)
        self._error_stream = "stdout" if plan.tty else "stderr"
        self.inlet: Optional[Inlet] = None
        """The process's input, where the plan gives it one."""
        self.terminal = -1
        """The keeper's end of the process's terminal, where it has one."""
        self.tap: Callable[[int, bytes], None] = lambda _channel, _data: None
        """Called with the channel and the container's own bytes as they come."""
        self._loop = loop
        self._path = path
        self._half_bytes = max(_PIECE_BYTES, limit_bytes // 2)
        self._partial: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        self._pipes: dict[str, int] = {}
        self._lost_bytes = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = self._open()
        self._size_bytes = os.fstat(self._descriptor).st_size
        self.error_tail = b""
        """The last bytes of standard error."""

    def open_ends(self) -> Ends:
        """Make the streams and return the process's ends, which the caller closes."""
        if self._plan.tty:
            ours, theirs = terminal.open_terminal()
            self.terminal = self._pipes["stdout"] = ours
            self._watch("stdout", ours)
            self.inlet = Inlet(self._loop, os.dup(ours)) if self._plan.stdin else None
            return Ends(theirs, theirs, theirs, terminal=True)
        stdin = -1
        if self._plan.stdin:
            stdin, writes = os.pipe()
            self.inlet = Inlet(self._loop, writes)
        ends = []
        for stream in ("stdout", "stderr"):
            reads, writes = os.pipe()
            os.set_blocking(reads, False)
            self._pipes[stream] = reads
            self._watch(stream, reads)
            ends.append(writes)
        return Ends(ends[0], ends[1], stdin)

    def _watch(self, stream: str, descriptor: int) -> None:
        def readable() -> None:
            self._read(stream, descriptor)

        self._loop.watch(descriptor, READ, readable)

    def _read(self, stream: str, descriptor: int) -> bool:
        """Take what is there; False when the pipe has ended or is empty."""
        try:
            data = os.read(descriptor, 65536)
        except BlockingIOError:
            return False
        except OSError:
            data = b""  # a terminal whose other end is closed says EIO
        if not data:
            self._end(stream)
            return False
        if stream == self._error_stream:
            self.error_tail = (self.error_tail + data)[-_TAIL_BYTES:]
            data = self.sieve.feed(data)
        self._take(stream, data)
        return True

    def _end(self, stream: str) -> None:
        descriptor = self._pipes.pop(stream, None)
        if descriptor is None:
            return
        self._loop.forget(descriptor)
        os.close(descriptor)
        self.terminal = -1
        if stream == self._error_stream:
            self._take(stream, self.sieve.end())
        if self._partial[stream]:
            self._write(stream, b"F", [self._partial[stream]])
            self._partial[stream] = b""

    def _take(self, stream: str, data: bytes) -> None:
        if data:
            self.tap(_CHANNELS[stream], data)
        data = self._partial[stream] + data
        *lines, rest = data.split(b"\n")
        self._write(stream, b"F", lines)
        whole = len(rest) // _PIECE_BYTES * _PIECE_BYTES
        pieces = [rest[at : at + _PIECE_BYTES] for at in range(0, whole, _PIECE_BYTES)]
        self._write(stream, b"P", pieces)
        self._partial[stream] = rest[whole:]

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _write(self, stream: str, tag: bytes, lines: list[bytes]) -> None:
        head = f"{now_text()} {stream} ".encode() + tag + b" "
        for at in range(0, len(lines), _BATCH_LINES):
            batch = lines[at : at + _BATCH_LINES]
            data = b"".join(head + line + b"\n" for line in batch)
            if self._lost_bytes:
                note = f"{now_text()} stderr F [keeper: {self._lost_bytes} bytes lost, disk full]\n"
                data = note.encode() + data
            # A full disk must not end the job: what cannot be kept is dropped, and the log says so.
            try:
                self._append(data)
                self._lost_bytes = 0
                if self._size_bytes > self._half_bytes:
                    self._rotate()
            except OSError:
                self._lost_bytes += sum(len(line) for line in batch)

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, self._size_bytes)
            raise
        self._size_bytes += len(data)

    def _rotate(self) -> None:
        os.replace(self._path, self._path.with_name(self._path.name + ".1"))
        fresh = self._open()
        os.close(self._descriptor)
        self._descriptor, self._size_bytes = fresh, 0

    def drain(self) -> None:
        """Take what the pipes still hold; more cannot come once the writers are gone."""
        for stream, descriptor in list(self._pipes.items()):
            while self._read(stream, descriptor):
                pass

    def close(self) -> None:
        """End the log durably, even if some process outside still holds the pipe."""
        self.drain()
        for stream in list(self._pipes):
            self._end(stream)
        if self.inlet is not None:
            self.inlet.close()
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)
        os.close(self._descriptor)
