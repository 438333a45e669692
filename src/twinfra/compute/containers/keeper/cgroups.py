"""Control groups of one container, version 1 or 2, where this user may write them.

Where it may not, `Groups.open` says so with None and the keeper watches memory itself. It must not
touch a group that it has not made. Source: the kernel's admin-guide, cgroup-v1 and cgroup-v2.
"""

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Optional

from .model import Limits

_V1_CONTROLLERS = ("memory", "cpu", "pids")
_CPU_PERIOD_US = 100_000


class Group:
    """The groups of one container: one folder on version 2, one per controller on version 1."""

    def __init__(self, version: str, folders: dict[str, Path]) -> None:
        self.version = version
        self.folders = folders

    @property
    def paths(self) -> tuple[str, ...]:
        """Folders made, to be written into the keeper's identity."""
        return tuple(sorted({str(path) for path in self.folders.values()}))

    def join(self) -> None:
        """Move the calling process in."""
        for path in self.paths:
            Path(path, "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    def pids(self) -> list[int]:
        """Return the member processes."""
        return members(self.paths)

    def oom_kills(self) -> int:
        """Return how often the kernel killed a member for want of memory."""
        folder = self.folders["memory"]
        name = "memory.events" if self.version == "cgroup-v2" else "memory.oom_control"
        found = re.search(r"^oom_kill (\d+)$", _read(folder / name), re.MULTILINE)
        return int(found.group(1)) if found else 0

    def limit(self, limits: Limits) -> None:
        """Set the limits; what the kernel does not offer is passed over."""
        if self.version == "cgroup-v2":
            self._limit_v2(limits)
        else:
            self._limit_v1(limits)

    def _limit_v2(self, limits: Limits) -> None:
        folder = self.folders["memory"]
        if limits.memory_bytes is not None:
            _try(folder / "memory.max", str(limits.memory_bytes))
            _try(folder / "memory.swap.max", "0")
            _try(folder / "memory.oom.group", "1")
        if limits.cpu is not None:
            _try(folder / "cpu.max", f"{_quota(limits.cpu)} {_CPU_PERIOD_US}")
        if limits.pids is not None:
            _try(folder / "pids.max", str(limits.pids))

    def _limit_v1(self, limits: Limits) -> None:
        if limits.memory_bytes is not None:
            _try(self.folders["memory"] / "memory.limit_in_bytes", str(limits.memory_bytes))
            _try(self.folders["memory"] / "memory.memsw.limit_in_bytes", str(limits.memory_bytes))
        if limits.cpu is not None and "cpu" in self.folders:
            _try(self.folders["cpu"] / "cpu.cfs_period_us", str(_CPU_PERIOD_US))
            _try(self.folders["cpu"] / "cpu.cfs_quota_us", str(_quota(limits.cpu)))
        if limits.pids is not None and "pids" in self.folders:
            _try(self.folders["pids"] / "pids.max", str(limits.pids))

    def remove(self) -> None:
        """Remove the folders; members keep a group alive, so kill them before."""
        remove(self.paths)


def _quota(cpu: float) -> int:
    return max(1000, int(cpu * _CPU_PERIOD_US))


def members(paths: tuple[str, ...]) -> list[int]:
    """Return the processes in the groups of these folders."""
    found: set[int] = set()
    for path in paths:
        found.update(int(word) for word in _read(Path(path, "cgroup.procs")).split())
    return sorted(found)


def kill_members(paths: tuple[str, ...]) -> list[int]:
    """Send SIGKILL to every member and return whom."""
    found = members(paths)
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return found


def remove(paths: tuple[str, ...]) -> None:
    """Remove empty groups; one that still has members stays."""
    for path in paths:
        with contextlib.suppress(OSError):
            os.rmdir(path)


class Groups:
    """Where this process may make groups; looked up once, before it moves anywhere itself."""

    def __init__(self, mounts: str, own: str) -> None:
        """Take the texts of /proc/self/mounts and /proc/self/cgroup."""
        self._roots = _roots(mounts, own)

    @classmethod
    def here(cls) -> "Groups":
        """Look at this machine and this process."""
        return cls(_read(Path("/proc/self/mounts")), _read(Path("/proc/self/cgroup")))

    def open(self, name: str) -> Optional[Group]:
        """Make a group; None where that is not possible."""
        if "memory" in self._roots:
            return self._open_v1(name)
        if "" in self._roots:
            return self._open_v2(name)
        return None

    def _open_v1(self, name: str) -> Optional[Group]:
        folders: dict[str, Path] = {}
        for controller in _V1_CONTROLLERS:
            if controller not in self._roots:
                continue
            folder = self._roots[controller][-1] / name
            with contextlib.suppress(OSError):
                folder.mkdir(exist_ok=True)
                folders[controller] = folder
        return Group("cgroup-v1", folders) if "memory" in folders else None

    def _open_v2(self, name: str) -> Optional[Group]:
        """Only folders whose own processes are elsewhere can limit their children: look upwards.

        The nearest such folder that we may write is a user's or a service's slice as systemd
        delegates it, or a batch system's step.
        """
        for root in reversed(self._roots[""]):
            if "memory" not in _read(root / "cgroup.subtree_control").split():
                continue
            folder = root / name
            try:
                folder.mkdir(exist_ok=True)
            except OSError:
                continue
            if os.access(root / "cgroup.procs", os.W_OK):
                return Group("cgroup-v2", dict.fromkeys(_V1_CONTROLLERS, folder))
            remove((str(folder),))
        return None


def _roots(mounts: str, own: str) -> dict[str, list[Path]]:
    """Return for each controller (version 2: empty name) the path to the own group, top first."""
    tops: dict[str, Path] = {}
    for line in mounts.splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup":
            tops.update((word, Path(where)) for word in options.split(","))
        elif kind == "cgroup2":
            tops[""] = Path(where)
    roots: dict[str, list[Path]] = {}
    for line in own.splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in tops:
                steps = [tops[controller]]
                for part in Path(path.lstrip("/")).parts:
                    steps.append(steps[-1] / part)
                roots[controller] = steps
    return roots


def _try(path: Path, text: str) -> None:
    with contextlib.suppress(OSError):
        path.write_text(text, encoding="ascii")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""
