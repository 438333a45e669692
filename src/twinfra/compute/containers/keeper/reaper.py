"""Collects ended children and tells whoever waits for each.

It must not start or kill anything. Its neighbours are `container.py` and `probes.py`.
"""

import os
import resource
import signal
from collections.abc import Callable

from .loop import Loop

Ended = Callable[[int, "resource.struct_rusage"], None]


def exit_code(status: int) -> int:
    """Return the exit code of a wait status; 128 + signal for a signal."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


class Reaper:
    """The one place that waits for children."""

    def __init__(self, loop: Loop) -> None:
        self._waiting: dict[int, Ended] = {}
        self._idle: list[Callable[[], None]] = []
        self._strays: list[resource.struct_rusage] = []
        loop.on_signal(signal.SIGCHLD, self.collect)

    @property
    def expected(self) -> frozenset[int]:
        """The children that somebody waits for."""
        return frozenset(self._waiting)

    def wait(self, pid: int, ended: Ended) -> None:
        """Call with exit code and resource usage once the child has ended."""
        self._waiting[pid] = ended

    def collect(self) -> None:
        """Collect every child that has ended by now, inherited orphans too."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                return
            ended = self._waiting.pop(pid, None)
            if ended is not None:
                ended(exit_code(status), usage)
            else:
                self._strays.append(usage)
        idle, self._idle = self._idle, []
        for call in idle:
            call()

    def take_strays(self) -> "list[resource.struct_rusage]":
        """Return what orphans have used that were collected since the last call."""
        strays, self._strays = self._strays, []
        return strays

    def when_childless(self, call: Callable[[], None]) -> None:
        """Call once this process has no child at all, orphans of containers included."""
        self._idle.append(call)
        self.collect()
