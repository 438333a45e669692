"""How a run of a container went, from all that is known of its end. Pure."""

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from .model import COMPLETED, ERROR, OOM_KILLED, START_ERROR, Launch, Terminated

START_ERROR_CODE = 128
"""As container engines report a container that could not be started."""
_LAST_SIGNAL = 64


@dataclass(frozen=True)
class End:
    """What is known when a sandbox command has ended."""

    code: int
    """The sandbox command's own; 128 + signal for a signal."""
    began_at: str
    ended_at: str
    error_tail: str = ""
    notes: tuple[str, ...] = ()
    """What the sandbox command said about itself."""
    inner: Optional[int] = None
    """The container's own process, if it was seen."""
    killed: bool = False
    """The keeper sent SIGKILL."""
    starved: bool = False
    """For want of memory."""
    stop_reason: str = ""
    stop_message: str = ""


def judge(launch: Launch, end: End) -> Terminated:
    """Return exit code, signal and reason of a run."""
    code = end.code
    if launch.traced:
        code = noted_code(launch, end.notes, end.inner, code)
        code = 128 + signal.SIGKILL if end.killed else code
    number: Optional[int] = code - 128 if 128 < code <= 128 + _LAST_SIGNAL else None
    complaint = _complaint(end.error_tail, launch.failure_prefix)
    reason, message = ERROR, ""
    if code == 0:
        reason = COMPLETED
    elif end.starved:
        reason, message = OOM_KILLED, "the container exceeded its memory limit"
    elif end.stop_reason:
        reason, message = end.stop_reason, end.stop_message
    elif complaint and number is None:
        reason, message, code = START_ERROR, complaint, START_ERROR_CODE
    return Terminated(code, reason, end.began_at, end.ended_at, number, message)


def noted_code(launch: Launch, notes: Iterable[str], inner: Optional[int], code: int) -> int:
    """Return the exit code of the container's own process as a tracer noted it, else `code`.

    If that process came and went unseen it is the first that was started: the lowest pid.
    """
    codes = dict(_notes(launch.exit_note, notes))
    return codes.get(min(codes, default=0) if inner is None else inner, code)


def _notes(pattern: str, notes: Iterable[str]) -> Iterable[tuple[int, int]]:
    for note in notes:
        found = re.search(pattern, note)
        if found:
            number = found.group("signal")
            code = 128 + int(number) if number else int(found.group("status"))
            yield int(found.group("pid")), code


def _complaint(told: str, prefix: str) -> str:
    """Return the sandbox command's own last word, if it had any."""
    lines = [line for line in told.splitlines() if prefix and line.startswith(prefix)]
    return lines[-1] if lines else ""
