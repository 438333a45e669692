"""Terminals of containers: made, sized, and what their keys mean.

A container's own process under bubblewrap has a terminal that does not control it (bubblewrap
itself would have to share its process group), so the keeper sends the signals of its keys. It must
not read or write a terminal: `output.py` and `pipes.py` do.
"""

import fcntl
import json
import os
import signal
import struct
import termios

_KEYS = (
    (termios.VINTR, signal.SIGINT),
    (termios.VQUIT, signal.SIGQUIT),
    (termios.VSUSP, signal.SIGTSTP),
)
_MOST = 0xFFFF
END_OF_INPUT = b"\x04"


def open_terminal() -> "tuple[int, int]":
    """Return the keeper's end, which does not block, and the process's end."""
    ours, theirs = os.openpty()
    os.set_blocking(ours, False)
    resize(ours, 80, 24)
    return ours, theirs


def resize(descriptor: int, width: int, height: int) -> None:
    """Set the size [characters]."""
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def parse_size(body: bytes) -> "tuple[int, int]":
    """Read ``{"Width": 80, "Height": 24}``.

    Raises:
        ValueError: it is something else.
    """
    try:
        asked = json.loads(body)
        width, height = int(asked["Width"]), int(asked["Height"])
    except (TypeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError("no size") from error
    if not (0 < width <= _MOST and 0 < height <= _MOST):
        raise ValueError("no size")
    return width, height


def keys(descriptor: int, typed: bytes) -> "list[int]":
    """Return the signals that typed bytes mean to the terminal, in order."""
    try:
        settings = termios.tcgetattr(descriptor)
    except termios.error:
        return []
    if not settings[3] & termios.ISIG:
        return []
    meant = {settings[6][key]: number for key, number in _KEYS}
    return [meant[typed[at : at + 1]] for at in range(len(typed)) if typed[at : at + 1] in meant]


def control() -> None:
    """Make standard input the controlling terminal of this process, which leads its session."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
