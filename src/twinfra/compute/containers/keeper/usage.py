"""Real figures of one container over all its runs, from /proc and the kernel's accounting.

It must not decide anything: the neighbour `container.py` compares them with limits.
"""

import resource
import time
from typing import Optional

from . import procfs
from .cgroups import Group
from .model import ContainerStats

_KIB = 1024


class Usage:
    """Adds up the runs of a container; `sample` looks at the present one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._cpu_before_s = 0.0
        self._wall_before_s = 0.0
        self._cpu_run_s = 0.0
        self._started = 0.0
        self._floor_bytes = 0
        self._pid: Optional[int] = None
        self._pids = 0
        self.memory_bytes = 0
        self.memory_peak_bytes = 0

    def begin(self, pid: int) -> None:
        """A run begins."""
        self._pid = pid
        self._started = time.monotonic()
        self._cpu_run_s = 0.0
        # A forked child counts the keeper's own memory until it executes something.
        self._floor_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB

    def members(self, group: Optional[Group]) -> list[int]:
        """Return the processes of the present run."""
        if self._pid is None:
            return []
        return group.pids() if group is not None else procfs.descendants(self._pid)

    def sample(self, group: Optional[Group]) -> int:
        """Measure the present run and return its memory now [bytes]."""
        found = [procfs.process(pid) for pid in self.members(group)]
        alive = [process for process in found if process is not None]
        self.memory_bytes = sum(process.resident_bytes for process in alive)
        self.memory_peak_bytes = max(self.memory_peak_bytes, self.memory_bytes)
        self._cpu_run_s = max(self._cpu_run_s, sum(process.cpu_time_s for process in alive))
        self._pids = len(alive)
        return self.memory_bytes

    def end(self, usages: "list[resource.struct_rusage]", wall_time_s: float) -> None:
        """The run has ended: the kernel's own sums are exact where samples are not.

        Args:
            usages: of the sandbox command and of all orphans that it left.
            wall_time_s: how long the run lasted.
        """
        for usage in usages:
            largest_bytes = usage.ru_maxrss * _KIB
            if largest_bytes > self._floor_bytes:
                self.memory_peak_bytes = max(self.memory_peak_bytes, largest_bytes)
        exact_s = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        self._cpu_before_s += max(self._cpu_run_s, exact_s)
        self._wall_before_s += wall_time_s
        self._pid, self._cpu_run_s, self.memory_bytes, self._pids = None, 0.0, 0, 0

    def add_child(self, usage: "resource.struct_rusage") -> None:
        """Count a command that was executed in the container."""
        self._cpu_before_s += usage.ru_utime + usage.ru_stime

    def figures(self) -> ContainerStats:
        """Return all runs together."""
        running_s = time.monotonic() - self._started if self._pid is not None else 0.0
        return ContainerStats(
            name=self._name,
            cpu_time_s=round(self._cpu_before_s + self._cpu_run_s, 6),
            wall_time_s=round(self._wall_before_s + running_s, 6),
            memory_bytes=self.memory_bytes,
            memory_peak_bytes=self.memory_peak_bytes,
            pids=self._pids,
        )
