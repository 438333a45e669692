"""A container's own process as those who have joined it see it: output from now on, input, keys.

It must not start or end the process: its neighbour `container.py` does.
"""

import contextlib
import os
import signal
from collections.abc import Callable
from typing import Optional

from . import procfs, terminal
from .ends import Inlet
from .model import ContainerPlan
from .output import Recorder
from .spawn import StartFailedError

Told = Callable[[int, bytes], None]
Over = Callable[[], None]


class Joined:
    """The listeners of one container, over all its runs; each listens to one run only."""

    def __init__(self, plan: ContainerPlan) -> None:
        self._plan = plan
        self._pid: Optional[int] = None
        self._recorder: Optional[Recorder] = None
        self._taps: list[tuple[Told, Over]] = []

    def begin(self, pid: int, recorder: Recorder) -> None:
        """A run begins."""
        self._pid, self._recorder = pid, recorder
        recorder.tap = self._heard

    def end(self) -> None:
        """The run has ended and its output was told to the last byte."""
        self._pid, taps = None, list(self._taps)
        for _, over in taps:
            over()

    @property
    def inlet(self) -> Optional[Inlet]:
        """The input of the process, where that has one."""
        return self._recorder.inlet if self._recorder is not None else None

    def join(self, told: Told, over: Over) -> None:
        """Tell the output of this run from now on, and its end.

        Raises:
            StartFailedError: the container does not run.
        """
        if self._pid is None:
            raise StartFailedError(f"container {self._plan.name} does not run")
        self._taps.append((told, over))

    def leave(self, told: Told, over: Over) -> None:
        """Tell no more."""
        self._taps = [tap for tap in self._taps if tap != (told, over)]

    def type(self, data: bytes) -> None:
        """Give the process input; keys of a terminal that mean a signal give that."""
        recorder = self._recorder
        if recorder is None or recorder.inlet is None:
            return
        recorder.inlet.write(data)
        if recorder.terminal >= 0 and self._plan.launch.enter == "namespaces":
            for number in terminal.keys(recorder.terminal, data):
                self._signal_foreground(number)

    def resize(self, width: int, height: int) -> None:
        """Set the size of the terminal, if it has one."""
        if self._recorder is not None and self._recorder.terminal >= 0:
            terminal.resize(self._recorder.terminal, width, height)
            if self._plan.launch.enter == "namespaces":
                self._signal_foreground(signal.SIGWINCH)

    def _heard(self, channel: int, data: bytes) -> None:
        for told, _ in list(self._taps):
            told(channel, data)

    def _signal_foreground(self, number: int) -> None:
        """Signal the process and those of its process group."""
        inner = None
        if self._pid is not None:
            inner = procfs.below(self._pid, self._plan.launch.depth)
        if inner is None:
            return
        for pid in procfs.descendants(inner):
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(pid) == os.getpgid(inner):
                    os.kill(pid, number)
