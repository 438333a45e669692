"""What goes wrong with a transfer, in FTS's words, and whether trying again is worth it.

The text is ``SCOPE [errno] phase message``. Which faults are tried again follows FTS3's lists:
never what the storage will say again (absent, forbidden, exists, full, wrong checksum), always what
passes (time-outs, lost markers, names not resolved), else once more.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from errno import (
    EACCES,
    ECANCELED,
    ECONNREFUSED,
    ECONNRESET,
    EEXIST,
    EHOSTUNREACH,
    EINVAL,
    EIO,
    EISDIR,
    ENOENT,
    ENOSPC,
    ETIMEDOUT,
)

from twinfra.core.errors import shorten

EXISTS = "Destination file exists and overwrite is not enabled"
CANCELLED = "Transfer canceled by the user"
MISMATCH = "checksums do not match"

_ERRNO_BY_STATUS = {
    400: EINVAL,
    401: EACCES,
    403: EACCES,
    404: ENOENT,
    405: EISDIR,
    408: ETIMEDOUT,
    410: ENOENT,
    412: EEXIST,
    504: ETIMEDOUT,
    507: ENOSPC,
}
_TEXT_BY_ERRNO = {
    EACCES: "Permission denied",
    ENOENT: "No such file or directory",
    ETIMEDOUT: "Connection timed out",
    EEXIST: "File exists",
    ENOSPC: "No space left on device",
}
_NEVER = frozenset({EACCES, ENOENT, EEXIST, ENOSPC, EISDIR, EINVAL, ECANCELED})
_STATUS_IN_TEXT = re.compile(
    r"\b(?:status(?: code)?:?|HTTP/?[\d.]*:?|code)\s+([45]\d\d)\b", re.IGNORECASE
)
_FROM_TEXT = (
    (re.compile(r"performance marker|timed out|time-?out", re.IGNORECASE), ETIMEDOUT),
    (
        re.compile(r"name or service not known|temporary failure in name", re.IGNORECASE),
        EHOSTUNREACH,
    ),
    (re.compile(r"refused", re.IGNORECASE), ECONNREFUSED),
    (re.compile(r"no such file|not found", re.IGNORECASE), ENOENT),
    (re.compile(r"permission denied|forbidden|unauthori[sz]ed|not allowed", re.IGNORECASE), EACCES),
    (re.compile(r"file exists|already exists", re.IGNORECASE), EEXIST),
    (re.compile(r"no space|quota exceeded|disk full", re.IGNORECASE), ENOSPC),
    (re.compile(r"is a directory", re.IGNORECASE), EISDIR),
    (re.compile(r"\bEOF\b|reset|disconnected|closed|broken pipe", re.IGNORECASE), ECONNRESET),
)
_CHECKSUM = re.compile(r"checksum|digest|adler32", re.IGNORECASE)


class Scope(StrEnum):
    """Where a fault lies."""

    SOURCE = "SOURCE"
    DESTINATION = "DESTINATION"
    TRANSFER = "TRANSFER"
    AGENT = "AGENT"


@dataclass(frozen=True)
class Fault:
    """One reason why a copy did not come about.

    Attributes:
        scope: where it lies.
        errno: of POSIX, as FTS shows it.
        phase: what was being done.
        message: for people; foreign text is cut.
        retryable: the same source may do better in a while.
        other_source: another source may do better.
    """

    scope: Scope
    errno: int
    phase: str
    message: str
    retryable: bool
    other_source: bool

    def __str__(self) -> str:
        return f"{self.scope} [{self.errno}] {self.phase} {self.message}"


class TransferFault(Exception):
    """Carries a fault out of a copy; ``engine.py`` catches it and decides what is next."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


def fault(scope: Scope, errno: int, phase: str, message: str = "", *, final: bool = False) -> Fault:
    """Return the fault; whether to go on follows from scope and number, unless it is `final`."""
    text = message or _TEXT_BY_ERRNO.get(errno, "Input/output error")
    return Fault(
        scope=scope,
        errno=errno,
        phase=phase,
        message=shorten(text),
        retryable=not final and errno not in _NEVER,
        other_source=not final and scope is not Scope.DESTINATION and errno != ECANCELED,
    )


def fault_of_status(scope: Scope, status: int, phase: str, text: str = "") -> Fault:
    """Return the fault that an HTTP status means (401 and 403 are "Permission denied")."""
    errno = _ERRNO_BY_STATUS.get(status, EIO if status >= 500 or status == 429 else EINVAL)
    known = _TEXT_BY_ERRNO.get(errno, "")
    detail = shorten(text, 160)
    return fault(scope, errno, phase, f"{known}: HTTP {status} {detail}".strip(": ").strip())


def fault_of_text(scope: Scope, phase: str, text: str) -> Fault:
    """Return the fault that a storage names in words, such as a ``failure:`` line of a copy."""
    if match := _STATUS_IN_TEXT.search(text):
        status = int(match[1])
        return fault(scope, _ERRNO_BY_STATUS.get(status, EIO), phase, text)
    if _CHECKSUM.search(text):
        return mismatch(scope, phase, text)
    for pattern, errno in _FROM_TEXT:
        if pattern.search(text):
            return fault(scope, errno, phase, text)
    return fault(scope, EIO, phase, text)


def mismatch(scope: Scope, phase: str, detail: str) -> Fault:
    """Return the fault of bytes that are not what they should be: only another source helps."""
    text = detail if MISMATCH in detail else f"{MISMATCH}: {detail}"
    return Fault(scope, EIO, phase, shorten(text), retryable=False, other_source=True)


def exists() -> Fault:
    """Return the fault of a destination that is there; Rucio knows this sentence."""
    return fault(Scope.DESTINATION, EEXIST, "CHECK", EXISTS)


def cancelled() -> Fault:
    """Return the fault of a transfer that somebody called off."""
    return fault(Scope.TRANSFER, ECANCELED, "COPY", CANCELLED)
