"""Store of what is stored for whom, and of records on their way to accounting."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

from twinfra.data.datasets.ports.rows import UsagePeriod


class UsageStore(Protocol):
    """Storage usage over time."""

    async def now_stored(self) -> list[UsagePeriod]:
        """Return how much is stored at present, by storage and owner."""
        ...

    async def periods(self) -> list[UsagePeriod]:
        """Return the open periods: how much was stored since when."""
        ...

    async def write_period(self, period: UsagePeriod) -> None:
        """Open a period, or replace the one of this storage and owner; no files: close it."""
        ...

    async def queue(self, records: Sequence[dict[str, Any]], now: datetime) -> None:
        """Put records, each with an ``id``, on their way to accounting."""
        ...

    async def queued(self, limit: int) -> list[dict[str, Any]]:
        """Return records that accounting has not taken yet, oldest first."""
        ...

    async def taken(self, record_ids: Collection[str]) -> None:
        """Forget records that accounting has taken."""
        ...
