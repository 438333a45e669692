"""Reads /proc: who a process is, whose child, how much it used.

Every answer about a process that has just gone is None or empty, never an error. It must not kill.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Process:
    """One line of /proc/<pid>/stat."""

    pid: int
    state: str
    parent: int
    session: int
    start_ticks: int
    cpu_time_s: float
    """Its own and that of the children it has waited for."""
    resident_bytes: int

    @property
    def dead(self) -> bool:
        """Whether only the entry in the process table is left."""
        return self.state in {"Z", "X"}


def process(pid: int) -> Optional[Process]:
    """Return what the kernel says of a process (proc(5), /proc/pid/stat)."""
    text = _read(f"/proc/{pid}/stat")
    if not text:
        return None
    # The command name may hold anything, closing brackets too: the last one ends it.
    fields = text[text.rindex(b")") + 2 :].split()
    ticks = sum(int(value) for value in fields[11:15])
    return Process(
        pid=pid,
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
        cpu_time_s=ticks / _TICKS_PER_S,
        resident_bytes=int(fields[21]) * _PAGE_BYTES,
    )


def runs(pid: int, start_ticks: int) -> bool:
    """Tell whether the process that started at `start_ticks` still runs; a zombie does not."""
    found = process(pid)
    return found is not None and found.start_ticks == start_ticks and not found.dead


def boot_id() -> str:
    """Return the identity of this boot of the machine."""
    return _read("/proc/sys/kernel/random/boot_id").decode().strip()


def pids() -> list[int]:
    """Return every process that this one can see."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def children(pid: int) -> list[int]:
    """Return the direct children, eldest first."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        found += [int(word) for word in _read(f"/proc/{pid}/task/{thread}/children").split()]
    if not found and not os.path.exists(f"/proc/self/task/{os.getpid()}/children"):
        everyone = (process(other) for other in pids())
        found = [other.pid for other in everyone if other is not None and other.parent == pid]
    return sorted(found, key=_age)


def _age(pid: int) -> tuple[int, int]:
    found = process(pid)
    return (found.start_ticks if found else 0, pid)


def descendants(pid: int) -> list[int]:
    """Return the process and everything below it."""
    found = [pid]
    for known in found:
        found += children(known)
    return found


def below(pid: int, depth: int) -> Optional[int]:
    """Return the eldest process `depth` generations below, None while there is none."""
    for _ in range(depth):
        eldest = next(iter(children(pid)), None)
        if eldest is None:
            return None
        pid = eldest
    return pid


def traced_by(tracer: int) -> list[int]:
    """Return the processes that the given one traces, wherever they hang."""
    line = b"\nTracerPid:\t%d\n" % tracer
    return [pid for pid in pids() if line in _read(f"/proc/{pid}/status")]


def traced(pid: int) -> bool:
    """Tell whether some process traces this one."""
    status = _read(f"/proc/{pid}/status")
    return b"\nTracerPid:\t" in status and b"\nTracerPid:\t0\n" not in status


def environment_value(pid: int, name: str) -> str:
    """Return a variable of the environment with which the process began; empty if not to be had."""
    start = name.encode() + b"="
    for entry in _read(f"/proc/{pid}/environ").split(b"\0"):
        if entry.startswith(start):
            return entry[len(start) :].decode(errors="replace")
    return ""


def proportional_bytes(members: Iterable[int]) -> int:
    """Return the memory of the processes with shared pages counted once (PSS)."""
    total = 0
    for pid in members:
        for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
            if line.startswith(b"Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""
