"""Ends a command with all that it started. It must not wait for anybody."""

import contextlib
import os
import signal

from . import procfs


def end_command(pid: int) -> None:
    """Kill a command and what it started, except what has left its sessions on purpose."""
    family = procfs.descendants(pid)
    family += procfs.traced_by(pid)
    sessions = {found.session for found in map(procfs.process, family) if found is not None}
    sessions.discard(os.getsid(0))
    for other in procfs.pids():
        found = procfs.process(other)
        if found is not None and found.session in sessions and other not in family:
            family.append(other)
    for member in reversed(family):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(member, signal.SIGKILL)
