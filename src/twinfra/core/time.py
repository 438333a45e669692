"""Time as an argument: the clock that services are given; the only place that reads the wall."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What tells time; the test kit has a virtual one."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the present moment, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`."""
        await asyncio.sleep(seconds)


SYSTEM_CLOCK: Clock = SystemClock()


def rfc3339(moment: datetime) -> str:
    """Spell an aware moment as RFC 3339 in UTC with microseconds and ``Z``.

    Raises:
        ValueError: the moment is naive.
    """
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    spelt = moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
    return f"{spelt}Z"


def parse_rfc3339(text: str) -> datetime:
    """Read an RFC 3339 moment; the answer is aware and in UTC.

    Raises:
        ValueError: the text is no such moment or lacks an offset.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no offset")
    return moment.astimezone(UTC)


def pause_s(attempt: int, *, least_s: float = 0.2, most_s: float = 30.0) -> float:
    """Return the pause before attempt `attempt` + 1: doubling, bounded."""
    return float(min(most_s, least_s * 2 ** min(attempt - 1, 16)))
