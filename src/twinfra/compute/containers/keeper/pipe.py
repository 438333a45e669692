"""Carries a keeper's socket over standard input and output, from a machine that cannot reach it.

`keeper.pyz --relay JOBDIR`, run on the keeper's own machine (in Slurm by ``srun --overlap``), is
one connection to its door. What it is told goes there as it is; what comes back is written as
lines of base64, since batch systems hand on whole lines only; the first line, empty, says that it
is there. It must not look at the bytes.
"""

import base64
import contextlib
import os
import socket
import sys
import threading
from pathlib import Path

from . import journal

_CHUNK_BYTES = 48 * 1024


def relay(jobdir: Path) -> int:
    """Be the connection until the keeper ends it; return 0, or 1 where there is no keeper."""
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.chdir(jobdir)
        door.connect(journal.SOCKET)
    except OSError as error:
        sys.stderr.write(f"the keeper does not answer: {error}\n")
        return 1
    _write(b"\n")
    threading.Thread(target=_send, args=(door,), daemon=True).start()
    with contextlib.suppress(OSError):
        while True:
            data = door.recv(_CHUNK_BYTES)
            if not data:
                break
            _write(base64.b64encode(data) + b"\n")
    return 0


def _send(door: socket.socket) -> None:
    """Pass on what comes in; its end is passed on too."""
    with contextlib.suppress(OSError):
        while True:
            data = os.read(0, _CHUNK_BYTES)
            if not data:
                break
            door.sendall(data)
    with contextlib.suppress(OSError):
        door.shutdown(socket.SHUT_WR)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]
