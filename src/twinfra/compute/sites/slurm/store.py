"""What was handed to Slurm, durable: an intent before it, the native id after, the end at last."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    select,
    update,
)

from twinfra.compute.containers.keeper import journal
from twinfra.compute.containers.keeper.model import PodState
from twinfra.compute.sites.model import JobState
from twinfra.compute.sites.slurm.verdict import Verdict
from twinfra.core.database import Database, UTCDateTime
from twinfra.core.errors import shorten

MIGRATIONS = "twinfra.compute.sites.slurm.migrations"
METADATA = MetaData()

JOBS = Table(
    "jobs",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("native_id", String(32), nullable=True),
    Column("attempt", Integer, nullable=False),
    Column("job_dir", Text, nullable=False),
    Column("grace_s", Float, nullable=False),
    Column("state", String(16), nullable=True),
    Column("reason", String(128), nullable=False, default=""),
    Column("message", Text, nullable=False, default=""),
    Column("exit_code", Integer, nullable=True),
    Column("node", String(256), nullable=False, default=""),
    Column("pod", JSON(none_as_null=True), nullable=True),
    Column("cancel_asked_at", UTCDateTime, nullable=True),
    Column("submitted_at", UTCDateTime, nullable=False),
    Column("started_at", UTCDateTime, nullable=True),
    Column("finished_at", UTCDateTime, nullable=True),
    Index("jobs_state", "state"),
    Index("jobs_native_id", "native_id"),
)


@dataclass(frozen=True)
class SlurmJob:
    """One job of ours; ``state`` is set when it has ended, ``native_id`` once Slurm gave one."""

    name: str
    attempt: int
    job_dir: Path
    grace_s: float
    submitted_at: datetime
    native_id: str | None = None
    state: JobState | None = None
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    node: str = ""
    pod: PodState | None = None
    cancel_asked_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


class SlurmStore:
    """Keeps what was submitted."""

    def __init__(self, database: Database) -> None:
        self.database = database

    async def intend(self, job: SlurmJob) -> SlurmJob:
        """Write down that a job is about to be submitted; return it as it stands.

        One that Slurm has not given an id takes the folder and grace of `job`.
        """
        values = {
            "name": job.name,
            "attempt": job.attempt,
            "job_dir": str(job.job_dir),
            "grace_s": job.grace_s,
            "submitted_at": job.submitted_at,
            "native_id": job.native_id,
            "reason": "",
            "message": "",
            "node": "",
        }
        async with self.database.begin() as connection:
            await connection.execute(
                self.database.insert(JOBS).on_conflict_do_nothing().values(values)
            )
            row = await connection.execute(select(JOBS).where(JOBS.c.name == job.name))
            return _job(row.one())

    async def by_name(self, name: str) -> SlurmJob | None:
        """Return the job with this name, or none."""
        return next(iter(await self._some(JOBS.c.name == name)), None)

    async def get(self, native_ids: Sequence[str]) -> list[SlurmJob]:
        """Return the jobs with these ids that there are."""
        return await self._some(JOBS.c.native_id.in_(native_ids))

    async def live(self) -> list[SlurmJob]:
        """Return the jobs that Slurm was given and that have not ended."""
        return await self._some(JOBS.c.state.is_(None) & JOBS.c.native_id.is_not(None))

    async def taken(self, name: str, native_id: str) -> SlurmJob:
        """Write down which id Slurm gave to a job."""
        async with self.database.begin() as connection:
            await connection.execute(
                update(JOBS)
                .where(JOBS.c.name == name, JOBS.c.native_id.is_(None))
                .values(native_id=native_id)
            )
            row = await connection.execute(select(JOBS).where(JOBS.c.name == name))
            return _job(row.one())

    async def drop(self, name: str) -> None:
        """Forget a job that Slurm refused."""
        async with self.database.begin() as connection:
            await connection.execute(
                delete(JOBS).where(JOBS.c.name == name, JOBS.c.native_id.is_(None))
            )

    async def ask_cancel(self, job: SlurmJob, now: datetime) -> SlurmJob:
        """Write down that a job is to end, and since when."""
        if job.cancel_asked_at is not None:
            return job
        await self._change(job, cancel_asked_at=now)
        return replace(job, cancel_asked_at=now)

    async def end(self, job: SlurmJob, verdict: Verdict, **moments: Any) -> None:
        """Write down how a job ended; what is written stays."""
        await self._change(
            job,
            state=verdict.state.value,
            reason=verdict.reason[:128],
            message=shorten(verdict.message),
            exit_code=verdict.exit_code,
            pod=None if verdict.pod is None else asdict(verdict.pod),
            **moments,
        )

    async def prune(self, before: datetime) -> None:
        """Forget jobs that ended before this."""
        async with self.database.begin() as connection:
            await connection.execute(
                delete(JOBS).where(JOBS.c.state.is_not(None), JOBS.c.finished_at < before)
            )

    async def _change(self, job: SlurmJob, **values: Any) -> None:
        async with self.database.begin() as connection:
            await connection.execute(
                update(JOBS).where(JOBS.c.name == job.name, JOBS.c.state.is_(None)).values(**values)
            )

    async def _some(self, condition: Any) -> list[SlurmJob]:
        async with self.database.read() as connection:
            rows = await connection.execute(select(JOBS).where(condition).order_by(JOBS.c.id))
            return [_job(row) for row in rows]


def _job(row: Any) -> SlurmJob:
    return SlurmJob(
        name=row.name,
        attempt=row.attempt,
        job_dir=Path(row.job_dir),
        grace_s=row.grace_s,
        submitted_at=row.submitted_at,
        native_id=row.native_id,
        state=None if row.state is None else JobState(row.state),
        reason=row.reason,
        message=row.message,
        exit_code=row.exit_code,
        node=row.node,
        pod=None if row.pod is None else journal.build(PodState, row.pod),
        cancel_asked_at=row.cancel_asked_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )
