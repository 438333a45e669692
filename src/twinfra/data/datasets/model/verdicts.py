"""What a failed transfer says about its source, and what is done next.

Pure. Reasons are foreign text (FTS's ``SCOPE [errno] phase message`` or our own); words in them are
all there is to go by.

Source: FTS3 error scopes and the texts that it never retries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_STRIKES = 2
_CHECKSUM = ("checksum", "digest mismatch", "size mismatch")
_GONE = ("no such file", "404", "not found", "does not exist")
_DENIED = ("permission denied", "401", "403", "forbidden", "unauthorized")


class Verdict(StrEnum):
    """What a failure says."""

    CORRUPT = "CORRUPT"
    """The source does not hold what the catalogue says: its replica is bad."""

    SUSPICIOUS = "SUSPICIOUS"
    """The copy did not match; the source or the way may be to blame. Twice makes it bad."""

    GONE = "GONE"
    """The source is not there: its replica is bad."""

    DENIED = "DENIED"
    """The source must not be read by us; trying it again is of no use."""

    TRANSIENT = "TRANSIENT"
    """Nothing speaks against trying again."""


def judge(reason: str | None) -> Verdict:
    """Return what the reason of a failed transfer says about its source."""
    text = (reason or "").lower()
    at_destination = text.startswith("destination")
    at_source = text.startswith("source") or "source" in text.split("]")[0]
    if any(word in text for word in _CHECKSUM):
        return Verdict.CORRUPT if at_source else Verdict.SUSPICIOUS
    if at_destination:
        return Verdict.TRANSIENT
    if at_source and any(word in text for word in _GONE):
        return Verdict.GONE
    if at_source and any(word in text for word in _DENIED):
        return Verdict.DENIED
    return Verdict.TRANSIENT


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and when a request is tried again.

    Args:
        most: attempts before a lock is STUCK.
        first_s: pause after the first failure; it doubles.
        longest_s: bound of the pause.
        poll_s: pause between two looks at a job when no event came; grows up to eightfold.
    """

    most: int = 4
    first_s: float = 1.0
    longest_s: float = 300.0
    poll_s: float = 5.0

    def pause_s(self, attempts: int) -> float:
        """Return the pause after so many failed attempts."""
        return min(self.longest_s, self.first_s * 2.0 ** min(max(attempts - 1, 0), 30))


def explain(reasons: Sequence[str]) -> str:
    """Return one sentence about why a rule is stuck, from its locks' reasons, each said once."""
    distinct = list(dict.fromkeys(reason for reason in reasons if reason))
    if not distinct:
        return "no reason was given"
    more = f" (and {len(distinct) - 3} more reasons)" if len(distinct) > 3 else ""
    return "; ".join(distinct[:3]) + more
