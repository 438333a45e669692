"""Statuses and ended jobs in SQL, with the outbox that announces what changed."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from sqlalchemy import Boolean, Column, Float, Index, MetaData, String, Table, delete, select

from twinfra.core.bus import Event, Outbox, outbox_table
from twinfra.core.database import Connection, Database, UTCDateTime
from twinfra.orchestration.monitoring.model import JobOutcome, SiteStatus

METADATA = MetaData()
STATUSES = Table(
    "site_statuses",
    METADATA,
    Column("site", String(63), primary_key=True),
    Column("up", Boolean, nullable=False),
    Column("reason", String(2000), nullable=False),
    Column("since", UTCDateTime, nullable=False),
    Column("checked_at", UTCDateTime),
    Column("probe_failure_rate", Float, nullable=False),
)
OUTCOMES = Table(
    "job_outcomes",
    METADATA,
    Column("key", String(255), primary_key=True),
    Column("site", String(63), nullable=False),
    Column("at", UTCDateTime, nullable=False),
    Column("failed", Boolean, nullable=False),
    Index("ix_job_outcomes_site_at", "site", "at"),
)
OUTBOX = outbox_table(METADATA)
MOST_OUTCOMES = 1000


class SqlStatusUnit:
    """A unit of work on one connection."""

    def __init__(self, database: Database, connection: Connection, outbox: Outbox) -> None:
        self._database, self._connection, self._outbox = database, connection, outbox

    async def put(self, status: SiteStatus) -> None:
        """Keep what must outlive this process of a status."""
        values = {
            "up": status.up,
            "reason": status.reason[:2000],
            "since": status.since,
            "checked_at": status.checked_at,
            "probe_failure_rate": status.probe_failure_rate,
        }
        new = self._database.insert(STATUSES).values(site=status.site, **values)
        await self._connection.execute(
            new.on_conflict_do_update(index_elements=["site"], set_=values)
        )

    async def drop(self, site: str) -> None:
        """Forget a site and its jobs."""
        await self._connection.execute(delete(STATUSES).where(STATUSES.c.site == site))
        await self._connection.execute(delete(OUTCOMES).where(OUTCOMES.c.site == site))

    async def announce(self, event: Event) -> None:
        """Have an event published."""
        await self._outbox.add(self._connection, event)


class SqlStatusStore:
    """Statuses in the database.

    Args:
        database: of monitoring.
        outbox: on its table.
    """

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database, self._outbox = database, outbox

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[SqlStatusUnit]:
        """Open a unit of work."""
        async with self._database.begin() as connection:
            yield SqlStatusUnit(self._database, connection, self._outbox)
        self._outbox.wake()

    async def statuses(self) -> Mapping[str, SiteStatus]:
        """Return what was kept, by site."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(STATUSES))
            return {
                row.site: SiteStatus(
                    site=row.site,
                    up=row.up,
                    reason=row.reason,
                    since=row.since,
                    checked_at=row.checked_at,
                    probe_failure_rate=row.probe_failure_rate,
                )
                for row in rows
            }

    async def add_outcome(self, outcome: JobOutcome, *, keep_since: datetime) -> None:
        """Keep how a job ended, once however often it is told; drop what is older."""
        new = self._database.insert(OUTCOMES).values(
            key=outcome.key, site=outcome.site, at=outcome.at, failed=outcome.failed
        )
        async with self._database.begin() as connection:
            await connection.execute(new.on_conflict_do_nothing())
            await connection.execute(delete(OUTCOMES).where(OUTCOMES.c.at < keep_since))

    async def outcomes(self, site: str) -> Sequence[JobOutcome]:
        """Return how the last jobs ended at a site, the newest first."""
        query = (
            select(OUTCOMES)
            .where(OUTCOMES.c.site == site)
            .order_by(OUTCOMES.c.at.desc(), OUTCOMES.c.key)
            .limit(MOST_OUTCOMES)
        )
        async with self._database.read() as connection:
            rows = await connection.execute(query)
            return [JobOutcome(row.site, row.key, row.at, row.failed) for row in rows]
