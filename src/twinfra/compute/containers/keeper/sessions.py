"""Commands in running containers, and containers' own processes joined, over the keeper's socket.

Several at once, bounded. A command ends when its client goes away; a container does not. It must
not read requests: its neighbour `door.py` does.
"""

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Optional

from . import channels, terminal
from .container import Container
from .ending import end_command
from .ends import Inlet, Outlet
from .link import Link
from .loop import Loop
from .sieve import Sieve
from .spawn import Ends, StartFailedError
from .verdict import noted_code

MOST_SESSIONS = 32
_LAG_BYTES = 4 * 1024 * 1024


class SessionRefusedError(Exception):
    """The session cannot be; `code` is a word for programs, `soon`: it may be in a moment."""

    def __init__(self, code: str, text: str, *, soon: bool = False) -> None:
        super().__init__(text)
        self.code, self.soon = code, soon


@dataclass(frozen=True)
class Wish:
    """What a session is to be."""

    container: str
    command: "tuple[str, ...]"
    stdin: bool
    stdout: bool
    stderr: bool
    tty: bool


def parse_wish(request: "dict[str, Any]") -> Wish:
    """Read an ``exec`` or ``attach`` request.

    Raises:
        SessionRefusedError: it is none.
    """
    words = request.get("command") or []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise SessionRefusedError("invalid", "the command must be a list of words")
    if any("\0" in word for word in words):
        raise SessionRefusedError("invalid", "NUL characters cannot be passed to a process")
    if request.get("do") == "exec" and (not words or not words[0]):
        raise SessionRefusedError("invalid", "the command must not be empty")
    flags = [bool(request.get(name)) for name in ("stdin", "stdout", "stderr", "tty")]
    return Wish(str(request.get("container")), tuple(words), *flags)


class Execution:
    """A command in a container and its client."""

    def __init__(
        self, loop: Loop, container: Container, wish: Wish, over: Callable[[], None]
    ) -> None:
        """Start the command.

        Raises:
            StartFailedError: the container does not run, or does not let us in.
        """
        self._wish = wish
        self._container = container
        self._over = over
        self._link: Optional[Link] = None
        self._inlet: Optional[Inlet] = None
        self._size = -1
        launch = container.plan.launch
        self._sieve = Sieve(launch, tty=wish.tty)
        ours, ends = self._open()
        try:
            self._pid: Optional[int] = container.execute(wish.command, ends, self._ended)
        except (StartFailedError, OSError):
            for descriptor in ours:
                os.close(descriptor)
            raise
        finally:
            for descriptor in {*ends[:3]} - {-1}:
                os.close(descriptor)
        stdin, stdout, stderr = ours if len(ours) == 3 else (ours[0], ours[1], -1)
        if wish.tty:
            self._size = stdout
        self._inlet = Inlet(loop, stdin)
        if not wish.stdin:
            (self._inlet.close if wish.tty else self._inlet.end)()
        self._outlets = [Outlet(loop, stdout, self._out, self._has_room)]
        if stderr >= 0:
            self._outlets.append(Outlet(loop, stderr, self._err, self._has_room))

    def _open(self) -> "tuple[tuple[int, ...], Ends]":
        """Return our ends (input, output, error; a terminal has two) and the command's."""
        if self._wish.tty:
            ours, theirs = terminal.open_terminal()
            return (os.dup(ours), ours), Ends(theirs, theirs, theirs, terminal=True)
        in_reads, in_writes = os.pipe()
        out_reads, out_writes = os.pipe()
        err_reads, err_writes = os.pipe()
        return (in_writes, out_reads, err_reads), Ends(out_writes, err_writes, in_reads)

    def join(self, link: Link, first: bytes) -> None:
        """Carry the streams over a connection."""
        self._link = link
        link.room = self._go_on
        if self._inlet is not None:
            self._inlet.room = link.go_on
        link.listen(self._received, self._left, first)

    def _has_room(self) -> bool:
        return self._link is None or not self._link.full

    def _go_on(self) -> None:
        for outlet in self._outlets:
            outlet.go_on()

    def _received(self, channel: int, data: bytes) -> None:
        inlet = self._inlet
        if channel == channels.STDIN and inlet is not None:
            inlet.write(data)
            if inlet.full and self._link is not None:
                self._link.pause()
        elif channel == channels.CLOSE and data[:1] == bytes([channels.STDIN]) and inlet:
            if self._wish.tty:
                inlet.write(terminal.END_OF_INPUT)
            else:
                inlet.end()
        elif channel == channels.RESIZE and self._wish.tty and self._pid is not None:
            with contextlib.suppress(ValueError, OSError):
                terminal.resize(self._size, *terminal.parse_size(data))

    def _out(self, data: bytes) -> None:
        if self._wish.tty:
            data = self._sieve.feed(data)
        self._tell(channels.STDOUT, data, self._wish.stdout)

    def _err(self, data: bytes) -> None:
        self._tell(channels.STDERR, self._sieve.feed(data), self._wish.stderr)

    def _tell(self, channel: int, data: bytes, wanted: bool) -> None:
        if data and wanted and self._link is not None:
            self._link.send(channel, data)

    def _ended(self, code: int) -> None:
        self._pid = None
        for outlet in self._outlets:
            outlet.drain()
        rest, wish = self._sieve.end(), self._wish
        if wish.tty:
            self._tell(channels.STDOUT, rest, wish.stdout)
        else:
            self._tell(channels.STDERR, rest, wish.stderr)
        launch = self._container.plan.launch
        if launch.traced:
            code = noted_code(launch, self._sieve.notes, None, code)
        for outlet in self._outlets:
            outlet.close()
        if self._inlet is not None:
            self._inlet.close()
        if self._link is not None:
            self._link.send(channels.ERROR, channels.ended(code))
            self._link.finish()
        else:
            self._over()

    def _left(self) -> None:
        """The client is gone, or has got everything."""
        self._over()
        if self._pid is not None:
            end_command(self._pid)


class Attachment:
    """A container's own process and somebody who has joined it."""

    def __init__(self, container: Container, wish: Wish, over: Callable[[], None]) -> None:
        """Join.

        Raises:
            SessionRefusedError: the container has no input, or no terminal.
            StartFailedError: it does not run.
        """
        plan = container.plan
        if wish.stdin and not plan.stdin:
            raise SessionRefusedError("invalid", f"container {plan.name} has no input")
        if wish.tty and not plan.tty:
            raise SessionRefusedError("invalid", f"container {plan.name} has no terminal")
        self._container = container
        self._wish = wish
        self._over = over
        self._link: Optional[Link] = None
        container.joined.join(self._told, self._ended)

    def join(self, link: Link, first: bytes) -> None:
        """Carry the streams over a connection."""
        self._link = link
        inlet = self._container.joined.inlet
        if inlet is not None and self._wish.stdin:
            inlet.room = link.go_on
        link.listen(self._received, self._left, first)

    def _received(self, channel: int, data: bytes) -> None:
        inlet = self._container.joined.inlet
        if channel == channels.RESIZE and self._wish.tty:
            with contextlib.suppress(ValueError, OSError):
                self._container.joined.resize(*terminal.parse_size(data))
        if inlet is None or not self._wish.stdin:
            return
        if channel == channels.STDIN:
            self._container.joined.type(data)
            if inlet.full and self._link is not None:
                self._link.pause()
        elif channel == channels.CLOSE and data[:1] == bytes([channels.STDIN]):
            self._end_input()

    def _end_input(self) -> None:
        plan, inlet = self._container.plan, self._container.joined.inlet
        if plan.stdin_once and inlet is not None:
            if plan.tty:
                inlet.write(terminal.END_OF_INPUT)
            inlet.end()

    def _told(self, channel: int, data: bytes) -> None:
        wanted = self._wish.stdout if channel == channels.STDOUT else self._wish.stderr
        link = self._link
        if link is None or not wanted:
            return
        if link.waiting_bytes > _LAG_BYTES:
            # The container goes on at its own pace: its log holds what this reader misses.
            link.send(channels.ERROR, channels.broken("the reader is too slow"))
            link.finish()
            return
        link.send(channel, data)

    def _ended(self) -> None:
        if self._link is not None:
            self._link.send(channels.ERROR, channels.ended(0))
            self._link.finish()

    def _left(self) -> None:
        self._container.joined.leave(self._told, self._ended)
        if self._wish.stdin:
            self._end_input()
        self._over()


class Sessions:
    """All sessions of a pod."""

    def __init__(self, loop: Loop, find: "Callable[[str], Optional[Container]]") -> None:
        """Look containers up by `find`."""
        self._loop = loop
        self._find = find
        self._count = 0

    def open(self, request: "dict[str, Any]") -> "Callable[[Link, bytes], None]":
        """Start what is asked for; the answer takes the connection, and what was read of it.

        Raises:
            SessionRefusedError: it cannot be.
        """
        wish = parse_wish(request)
        container = self._find(wish.container)
        if container is None:
            raise SessionRefusedError("not-found", f"no container {wish.container[:64]}")
        if self._count >= MOST_SESSIONS:
            raise SessionRefusedError("rate-limited", "too many sessions with this pod")
        try:
            if request.get("do") == "attach":
                made = Attachment(container, wish, self._over).join
            else:
                made = Execution(self._loop, container, wish, self._over).join
        except (StartFailedError, OSError) as error:
            soon = container.pid is not None  # the sandbox command is just starting its process
            raise SessionRefusedError("unavailable", str(error), soon=soon) from error
        self._count += 1
        return made

    def _over(self) -> None:
        self._count -= 1
