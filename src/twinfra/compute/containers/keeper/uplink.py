"""Connects a pod's private network to the outside by a program that stays in the host's.

The program is forked before the keeper leaves the host's network and told to go afterwards. It
must not be a way to the host's own loopback: its options, made by the Python side, see to that.
"""

import contextlib
import os
import select
from pathlib import Path

from . import kernel
from .model import MARK

PID = "{pid}"
READY_FD = "{ready_fd}"
_READY_S = 10.0


class UplinkError(Exception):
    """The pod's network could not be connected; the text says why."""


class Uplink:
    """One such program; it dies with the keeper."""

    def __init__(self, argv: tuple[str, ...], mark: str, log: Path) -> None:
        """Fork it in the network in which this process still is."""
        self._log = log
        go_reads, self._go = os.pipe()
        self._ready, ready_writes = os.pipe()
        keeper = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._go)
                os.setsid()
                kernel.die_with_parent(keeper)
                if os.read(go_reads, 1):
                    self._become(argv, keeper, ready_writes, mark)
            finally:
                os._exit(127)
        os.close(go_reads)
        os.close(ready_writes)

    def _become(self, argv: tuple[str, ...], keeper: int, ready: int, mark: str) -> None:
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.set_inheritable(ready, True)
        kernel.forbid_new_privileges()
        words = [word.replace(PID, str(keeper)).replace(READY_FD, str(ready)) for word in argv]
        os.execve(words[0], words, {MARK: mark})

    def connect(self) -> None:
        """Let it go, now that this process is in the pod's network, and wait until it has.

        Raises:
            UplinkError: it ended or took too long.
        """
        os.write(self._go, b"g")
        os.close(self._go)
        found, _, _ = select.select([self._ready], [], [], _READY_S)
        answer = os.read(self._ready, 1) if found else b""
        os.close(self._ready)
        if not answer:
            said = ""
            with contextlib.suppress(OSError):
                said = self._log.read_text(errors="replace")[-500:]
            raise UplinkError(f"the pod's network could not be connected: {said}")
