"""The queue of a local site, durable: one row a job."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    select,
    update,
)

from twinfra.compute.containers.keeper import journal
from twinfra.compute.containers.keeper.model import PodPlan
from twinfra.compute.sites.local.queue import Size
from twinfra.compute.sites.model import JobSpec, JobState
from twinfra.core.database import Database, UTCDateTime

MIGRATIONS = "twinfra.compute.sites.local.migrations"
METADATA = MetaData()
STARTING = "STARTING"
BUSY = (STARTING, JobState.RUNNING.value)
FINAL = tuple(state.value for state in JobState if state.final)

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("attempt", Integer, nullable=False),
    Column("job_dir", Text, nullable=False),
    Column("plan", JSON(none_as_null=True), nullable=True),
    Column("cpus", Float, nullable=False),
    Column("memory_bytes", BigInteger, nullable=False),
    Column("gpus", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", String(128), nullable=False, default=""),
    Column("message", Text, nullable=False, default=""),
    Column("exit_code", Integer, nullable=True),
    Column("cancel_asked", Boolean, nullable=False, default=False),
    Column("submitted_at", UTCDateTime, nullable=False),
    Column("started_at", UTCDateTime, nullable=True),
    Column("finished_at", UTCDateTime, nullable=True),
    Index("jobs_state", "state", "id"),
    sqlite_autoincrement=True,
)


@dataclass(frozen=True)
class QueuedJob:
    """A job as the queue keeps it; ``state`` is ``STARTING`` between the queue and the keeper."""

    id: int
    name: str
    attempt: int
    job_dir: Path
    size: Size
    state: str
    reason: str
    message: str
    exit_code: int | None
    cancel_asked: bool
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class QueueStore:
    """Keeps the queue."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def add(self, spec: JobSpec, now: datetime) -> int:
        """Queue a job, or return the id of the one that has its name."""
        values = {
            "name": spec.name,
            "attempt": spec.plan.attempt,
            "job_dir": str(spec.job_dir),
            "plan": asdict(spec.plan),
            "cpus": spec.cpus,
            "memory_bytes": spec.memory_bytes,
            "gpus": spec.gpus,
            "state": JobState.QUEUED.value,
            "reason": "",
            "message": "",
            "cancel_asked": False,
            "submitted_at": now,
        }
        async with self.database.begin() as connection:
            await connection.execute(
                self.database.insert(JOBS).on_conflict_do_nothing().values(values)
            )
            query = select(JOBS.c.id).where(JOBS.c.name == spec.name)
            return int((await connection.execute(query)).scalar_one())

    async def find(self, name: str) -> int | None:
        """Return the id of the job with this name, or none."""
        async with self.database.read() as connection:
            query = select(JOBS.c.id).where(JOBS.c.name == name)
            return (await connection.execute(query)).scalar_one_or_none()

    async def get(self, ids: Sequence[int]) -> list[QueuedJob]:
        """Return the jobs with these ids that there are."""
        return await self._some(JOBS.c.id.in_(ids))

    async def busy(self) -> list[QueuedJob]:
        """Return the jobs that take room."""
        return await self._some(JOBS.c.state.in_(BUSY))

    async def queued(self) -> list[QueuedJob]:
        """Return the jobs that wait, first come first."""
        return await self._some(JOBS.c.state == JobState.QUEUED.value)

    async def position(self, job_id: int) -> int:
        """Return a waiting job's place in the queue, 1 is the next."""
        async with self.database.read() as connection:
            query = (
                select(func.count())
                .select_from(JOBS)
                .where(JOBS.c.state == JobState.QUEUED.value, JOBS.c.id <= job_id)
            )
            return int((await connection.execute(query)).scalar_one())

    async def recent_wall_s(self, count: int = 20) -> list[float]:
        """Return how long the last jobs ran that ended."""
        async with self.database.read() as connection:
            query = (
                select(JOBS.c.started_at, JOBS.c.finished_at)
                .where(JOBS.c.state.in_(FINAL), JOBS.c.started_at.is_not(None))
                .order_by(JOBS.c.id.desc())
                .limit(count)
            )
            rows = (await connection.execute(query)).all()
        return [(row.finished_at - row.started_at).total_seconds() for row in rows]

    async def plan(self, job_id: int) -> PodPlan | None:
        """Return the plan of a job that has not ended."""
        async with self.database.read() as connection:
            query = select(JOBS.c.plan).where(JOBS.c.id == job_id)
            data = (await connection.execute(query)).scalar_one_or_none()
        return None if data is None else journal.build(PodPlan, data)

    async def take(self, job_id: int, now: datetime) -> bool:
        """Take a job out of the queue to start it; false where it is not queued any more."""
        return await self._change(
            (JOBS.c.id == job_id) & (JOBS.c.state == JobState.QUEUED.value),
            state=STARTING,
            started_at=now,
        )

    async def running(self, job_id: int) -> None:
        """Write down that a job's keeper lives."""
        await self._change(
            (JOBS.c.id == job_id) & (JOBS.c.state == STARTING), state=JobState.RUNNING.value
        )

    async def ask_cancel(self, job_id: int, now: datetime) -> bool:
        """Write down that a job is to end; one that only waits ends at once: then true."""
        waited = await self._change(
            (JOBS.c.id == job_id) & (JOBS.c.state == JobState.QUEUED.value),
            state=JobState.CANCELLED.value,
            reason="Cancelled",
            finished_at=now,
            plan=None,
        )
        if not waited:
            await self._change((JOBS.c.id == job_id) & JOBS.c.state.in_(BUSY), cancel_asked=True)
        return waited

    async def end(
        self,
        job_id: int,
        state: JobState,
        now: datetime,
        *,
        reason: str = "",
        message: str = "",
        exit_code: int | None = None,
    ) -> None:
        """Write down how a job ended; its plan, which may hold secrets, goes."""
        await self._change(
            (JOBS.c.id == job_id) & JOBS.c.state.not_in(FINAL),
            state=state.value,
            reason=reason[:128],
            message=message,
            exit_code=exit_code,
            finished_at=now,
            plan=None,
        )

    async def prune(self, before: datetime) -> None:
        """Forget jobs that ended before this."""
        async with self.database.begin() as connection:
            await connection.execute(
                delete(JOBS).where(JOBS.c.state.in_(FINAL), JOBS.c.finished_at < before)
            )

    async def _change(self, condition: Any, **values: Any) -> bool:
        async with self.database.begin() as connection:
            done = await connection.execute(update(JOBS).where(condition).values(**values))
        return bool(done.rowcount)

    async def _some(self, condition: Any) -> list[QueuedJob]:
        columns = [column for column in JOBS.c if column.name != "plan"]
        async with self.database.read() as connection:
            rows = await connection.execute(select(*columns).where(condition).order_by(JOBS.c.id))
            return [_job(row) for row in rows]


def _job(row: Any) -> QueuedJob:
    return QueuedJob(
        id=row.id,
        name=row.name,
        attempt=row.attempt,
        job_dir=Path(row.job_dir),
        size=Size(row.cpus, row.memory_bytes, row.gpus),
        state=row.state,
        reason=row.reason,
        message=row.message,
        exit_code=row.exit_code,
        cancel_asked=bool(row.cancel_asked),
        submitted_at=row.submitted_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
