"""What is kept of jobs, files and tries, in SQL; the only room of transfers that knows SQLAlchemy.

A file is changed only from the state and attempt that the caller saw, so that two callers never
both win. The neighbours are the rooms of ``service``.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    RowMapping,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from twinfra.core.bus import Event, Outbox, outbox_table
from twinfra.core.database import Connection, Database, UTCDateTime
from twinfra.core.workflow import workflow_table
from twinfra.data.transfers.model.records import Attempt, Job, Owner, TransferFile
from twinfra.data.transfers.model.states import FileState, JobState

METADATA = MetaData()
BIG = BigInteger().with_variant(Integer, "sqlite")
WORKING = (FileState.READY, FileState.ACTIVE)
OPEN = (FileState.SUBMITTED, *WORKING)

JOBS = Table(
    "job",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("kind", String(1), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("sub", Text, nullable=False),
    Column("vo", Text, nullable=False),
    Column("client_id", Text),
    Column("actor", Text),
    Column("is_service", Boolean, nullable=False),
    Column("params", JSON, nullable=False),
    Column("reason", Text),
    Column("submitted_at", UTCDateTime, nullable=False),
    Column("finished_at", UTCDateTime),
    Index("job_by_state", "state", "submitted_at"),
)
FILES = Table(
    "file",
    METADATA,
    Column("file_id", BIG, primary_key=True, autoincrement=True),
    Column("job_id", String(36), ForeignKey("job.job_id", ondelete="CASCADE"), nullable=False),
    Column("file_index", Integer, nullable=False),
    Column("alternative", Integer, nullable=False),
    Column("source_url", Text, nullable=False),
    Column("dest_url", Text, nullable=False),
    Column("link", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("queued_at", UTCDateTime, nullable=False),
    Column("expires_at", UTCDateTime, nullable=False),
    Column("reason", Text),
    Column("user_size_bytes", BIG),
    Column("checksum", String(80)),
    Column("metadata", JSON),
    Column("activity", Text, nullable=False),
    Column("source_token", Text),
    Column("dest_token", Text),
    Column("size_bytes", BIG),
    Column("transferred_bytes", BIG, nullable=False),
    Column("copying", Boolean, nullable=False),
    Column("ours", Boolean, nullable=False),
    Column("not_before", UTCDateTime),
    Column("started_at", UTCDateTime),
    Column("finished_at", UTCDateTime),
    Index("file_by_job", "job_id", "file_index", "alternative"),
    Index("file_by_queue", "state", "link", "priority", "file_id"),
    Index("file_by_destination", "dest_url", "state"),
)
ATTEMPTS = Table(
    "attempt",
    METADATA,
    Column("file_id", BIG, ForeignKey("file.file_id", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("at", UTCDateTime, nullable=False),
    Column("reason", Text, nullable=False),
    Column("transferred_bytes", BIG, nullable=False),
)
USAGE = Table(
    "usage",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("record", JSON, nullable=False),
)
OUTBOX = outbox_table(METADATA)
WORK = workflow_table(METADATA)


class TransferUnit:
    """One unit of work over the tables of transfers.

    Attributes:
        connection: for the engine of durable work, which writes into the same transaction.
    """

    def __init__(self, connection: Connection, outbox: Outbox) -> None:
        self.connection = connection
        self._outbox = outbox

    async def emit(self, *events: Event) -> None:
        """Note events that become true with this unit of work."""
        await self._outbox.add(self.connection, *events)

    async def add_job(self, job: Job, files: Sequence[Mapping[str, Any]]) -> None:
        """Keep a new job with its files (columns of the table `file` but its id)."""
        owner = job.owner
        await self.connection.execute(
            insert(JOBS).values(
                job_id=job.job_id,
                state=job.state,
                kind=job.kind,
                priority=job.priority,
                issuer=owner.issuer,
                sub=owner.sub,
                vo=owner.vo,
                client_id=owner.client_id,
                actor=owner.actor,
                is_service=owner.is_service,
                params=job.params,
                reason=job.reason,
                submitted_at=job.submitted_at,
            )
        )
        await self.connection.execute(insert(FILES), [dict(file) for file in files])

    async def jobs(self, job_ids: Sequence[str]) -> list[Job]:
        """Return the jobs that exist among `job_ids`."""
        rows = await self.connection.execute(select(JOBS).where(JOBS.c.job_id.in_(job_ids)))
        return [_job(row) for row in rows]

    async def lock_job(self, job_id: str) -> Job:
        """Return a job that no other unit of work changes until this one ends."""
        query = select(JOBS).where(JOBS.c.job_id == job_id).with_for_update()
        return _job((await self.connection.execute(query)).one())

    async def find_jobs(
        self,
        *,
        states: Sequence[JobState],
        since: datetime | None,
        source_se: str | None,
        dest_se: str | None,
        limit: int,
    ) -> list[Job]:
        """Return jobs in `states`, newest first."""
        query = select(JOBS).where(JOBS.c.state.in_(list(states)))
        if since is not None:
            query = query.where(JOBS.c.submitted_at >= since)
        for pattern in (
            source_se and FILES.c.link.startswith(f"{source_se}>", autoescape=True),
            dest_se and FILES.c.link.endswith(f">{dest_se}", autoescape=True),
        ):
            if pattern is not None and pattern != "":
                query = query.where(JOBS.c.job_id.in_(select(FILES.c.job_id).where(pattern)))
        query = query.order_by(JOBS.c.submitted_at.desc()).limit(limit)
        return [_job(row) for row in await self.connection.execute(query)]

    async def files(self, job_ids: Sequence[str]) -> list[TransferFile]:
        """Return all files of some jobs in their order."""
        query = (
            select(FILES)
            .where(FILES.c.job_id.in_(job_ids))
            .order_by(FILES.c.job_id, FILES.c.file_index, FILES.c.alternative)
        )
        return [_file(row) for row in (await self.connection.execute(query)).mappings()]

    async def file(self, file_id: int) -> TransferFile | None:
        """Return one file."""
        query = select(FILES).where(FILES.c.file_id == file_id)
        row = (await self.connection.execute(query)).mappings().one_or_none()
        return _file(row) if row else None

    async def has_open_files(self, job_id: str) -> bool:
        """Say whether a job still has files that wait or are under way."""
        query = select(FILES.c.file_id).where(FILES.c.job_id == job_id, FILES.c.state.in_(OPEN))
        return (await self.connection.execute(query.limit(1))).first() is not None

    async def open_destinations(self, urls: Sequence[str]) -> dict[str, str]:
        """Return which of `urls` a job under way is writing to, with that job's id."""
        query = select(FILES.c.dest_url, FILES.c.job_id).where(
            FILES.c.dest_url.in_(urls), FILES.c.state.in_(OPEN)
        )
        return {row.dest_url: row.job_id for row in await self.connection.execute(query)}

    async def active_by_link(self) -> dict[str, int]:
        """Return how many copies each link has under way."""
        query = (
            select(FILES.c.link, func.count())
            .where(FILES.c.state.in_(WORKING))
            .group_by(FILES.c.link)
        )
        return {row[0]: row[1] for row in await self.connection.execute(query)}

    async def waiting_by_link(self, now: datetime) -> dict[str, int]:
        """Return how many files each link has that could start now."""
        query = select(FILES.c.link, func.count()).where(*_due(now)).group_by(FILES.c.link)
        return {row[0]: row[1] for row in await self.connection.execute(query)}

    async def next_of_link(self, link: str, now: datetime, limit: int) -> list[TransferFile]:
        """Return the files of `link` whose turn it is: higher priority first, then older."""
        query = (
            select(FILES)
            .where(FILES.c.link == link, *_due(now))
            .order_by(FILES.c.priority.desc(), FILES.c.file_id)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        return [_file(row) for row in (await self.connection.execute(query)).mappings()]

    async def next_due_at(self, after: datetime) -> datetime | None:
        """Return when the first pause after `after` ends."""
        query = select(func.min(FILES.c.not_before)).where(
            FILES.c.state == FileState.SUBMITTED, FILES.c.not_before > after
        )
        moment: datetime | None = (await self.connection.execute(query)).scalar_one_or_none()
        return moment

    async def overdue(self, now: datetime, limit: int) -> list[TransferFile]:
        """Return files that waited longer than their job allows."""
        query = select(FILES).where(FILES.c.state == FileState.SUBMITTED, FILES.c.expires_at <= now)
        return [
            _file(row) for row in (await self.connection.execute(query.limit(limit))).mappings()
        ]

    async def change(
        self,
        file: TransferFile,
        from_states: Sequence[FileState],
        **values: Any,
    ) -> bool:
        """Change a file if it is still in one of `from_states` and at the attempt seen."""
        result = await self.connection.execute(
            update(FILES)
            .where(
                FILES.c.file_id == file.file_id,
                FILES.c.attempt == file.attempt,
                FILES.c.state.in_(list(from_states)),
            )
            .values(**values)
        )
        return bool(result.rowcount)

    async def set_job(self, job_id: str, **values: Any) -> None:
        """Change a job."""
        await self.connection.execute(update(JOBS).where(JOBS.c.job_id == job_id).values(**values))

    async def end_unit(self, job_id: str, file_index: int) -> None:
        """Drop the tokens of a wanted file that is settled: nobody needs them any more."""
        await self.connection.execute(
            update(FILES)
            .where(FILES.c.job_id == job_id, FILES.c.file_index == file_index)
            .values(source_token=None, dest_token=None)
        )

    async def set_ours(self, job_id: str, file_index: int) -> None:
        """Note that what will stand at the destination of a wanted file was put there by us."""
        await self.connection.execute(
            update(FILES)
            .where(FILES.c.job_id == job_id, FILES.c.file_index == file_index)
            .values(ours=True)
        )

    async def set_priority(self, job_id: str, priority: int) -> None:
        """Change the priority of a job and of its files that wait."""
        await self.set_job(job_id, priority=priority)
        await self.connection.execute(
            update(FILES).where(FILES.c.job_id == job_id).values(priority=priority)
        )

    async def add_attempt(self, attempt: Attempt) -> None:
        """Note a try that failed."""
        await self.connection.execute(
            insert(ATTEMPTS).values(
                file_id=attempt.file_id,
                attempt=attempt.attempt,
                at=attempt.at,
                reason=attempt.reason,
                transferred_bytes=attempt.transferred_bytes,
            )
        )

    async def attempts(self, file_id: int) -> list[Attempt]:
        """Return the tries of a file that failed, in order."""
        query = select(ATTEMPTS).where(ATTEMPTS.c.file_id == file_id).order_by(ATTEMPTS.c.attempt)
        return [Attempt(**dict(row)) for row in (await self.connection.execute(query)).mappings()]

    async def wasted_bytes(self, job_id: str) -> dict[int, int]:
        """Return by file the bytes that failed tries of a job moved."""
        query = (
            select(ATTEMPTS.c.file_id, func.sum(ATTEMPTS.c.transferred_bytes))
            .join(FILES, FILES.c.file_id == ATTEMPTS.c.file_id)
            .where(FILES.c.job_id == job_id)
            .group_by(ATTEMPTS.c.file_id)
        )
        return {row[0]: int(row[1]) for row in await self.connection.execute(query)}

    async def add_usage(self, record: Mapping[str, Any]) -> None:
        """Note a usage record on its way to accounting."""
        await self.connection.execute(insert(USAGE).values(record=dict(record)))

    async def usage(self, limit: int) -> list[tuple[int, dict[str, Any]]]:
        """Return usage records that are not handed over yet."""
        rows = await self.connection.execute(select(USAGE).order_by(USAGE.c.id).limit(limit))
        return [(row.id, row.record) for row in rows]

    async def drop_usage(self, ids: Sequence[int]) -> None:
        """Forget usage records that were handed over."""
        await self.connection.execute(delete(USAGE).where(USAGE.c.id.in_(ids)))

    async def forget(self, before: datetime) -> int:
        """Remove jobs that ended before `before`, and the durable work that ended by then."""
        gone = await self.connection.execute(delete(JOBS).where(JOBS.c.finished_at < before))
        await self.connection.execute(
            delete(WORK).where(
                WORK.c.updated_at < before, WORK.c.state.in_(["DONE", "FAILED", "CANCELLED"])
            )
        )
        return int(gone.rowcount)


class TransferStore:
    """Opens units of work.

    Args:
        database: of the service.
        outbox: of the service; woken after each unit of work.
    """

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database, self._outbox = database, outbox

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[TransferUnit]:
        """Open a unit of work: kept when the block ends, dropped when it raises."""
        async with self._database.begin() as connection:
            yield TransferUnit(connection, self._outbox)
        self._outbox.wake()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[TransferUnit]:
        """Open a consistent view; nothing is written."""
        async with self._database.read() as connection:
            yield TransferUnit(connection, self._outbox)


def _due(now: datetime) -> tuple[Any, ...]:
    pause_over = or_(FILES.c.not_before.is_(None), FILES.c.not_before <= now)
    return FILES.c.state == FileState.SUBMITTED, pause_over


def _job(row: Any) -> Job:
    return Job(
        job_id=row.job_id,
        state=JobState(row.state),
        kind=row.kind,
        priority=row.priority,
        owner=Owner(row.issuer, row.sub, row.vo, row.client_id, row.actor, row.is_service),
        params=row.params,
        reason=row.reason,
        submitted_at=row.submitted_at,
        finished_at=row.finished_at,
    )


def _file(row: RowMapping) -> TransferFile:
    return TransferFile(**{**dict(row), "state": FileState(row["state"])})
