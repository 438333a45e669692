"""What a caller sees of jobs and files; reads the answers of any FTS3 server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from twinfra.data.transfers.model.states import FileState, JobState, file_state, job_state_of

FTS_TIME = "%Y-%m-%dT%H:%M:%S"


@dataclass(frozen=True)
class FileStatus:
    """One file of a job (one alternative source of it, where there are several)."""

    source_url: str
    dest_url: str
    state: FileState
    reason: str | None = None
    file_id: int | None = None
    file_index: int | None = None
    size_bytes: int | None = None
    transferred_bytes: int | None = None
    checksum: str | None = None
    metadata: Any = None
    started_at: datetime | None = None
    finished_at: datetime | None = None


@dataclass(frozen=True)
class JobStatus:
    """A job with its files."""

    job_id: str
    state: JobState
    reason: str | None = None
    metadata: Any = None
    files: tuple[FileStatus, ...] = ()
    known: bool = True
    """False when the server says that it does not know the job (then it is lost)."""


def fts_time(moment: datetime | None) -> str | None:
    """Spell a moment as FTS does: UTC without an offset, whole seconds."""
    return None if moment is None else moment.astimezone(UTC).strftime(FTS_TIME)


def parse_fts_time(text: Any) -> datetime | None:
    """Read FTS's spelling of a moment; the answer is aware."""
    if not text:
        return None
    return datetime.strptime(str(text)[:19], FTS_TIME).replace(tzinfo=UTC)


def parse_job(job: Mapping[str, Any], files: Sequence[Mapping[str, Any]] = ()) -> JobStatus:
    """Read a job of ``GET /jobs/ID`` with the files that came with it or were asked for apart."""
    if str(job.get("http_status", "200")).startswith("404"):
        return JobStatus(str(job.get("job_id")), JobState.UNKNOWN, "no such job", known=False)
    return JobStatus(
        job_id=str(job["job_id"]),
        state=job_state_of(str(job.get("job_state"))),
        reason=job.get("reason"),
        metadata=job.get("job_metadata"),
        files=tuple(parse_file(file) for file in (job.get("files") or files)),
    )


def parse_file(file: Mapping[str, Any]) -> FileStatus:
    """Read one file; keys that were not asked for are none."""
    return FileStatus(
        source_url=str(file.get("source_surl")),
        dest_url=str(file.get("dest_surl")),
        state=file_state(str(file.get("file_state"))),
        reason=file.get("reason") or None,
        file_id=file.get("file_id"),
        file_index=file.get("file_index"),
        size_bytes=file.get("filesize"),
        transferred_bytes=file.get("transferred"),
        checksum=file.get("checksum"),
        metadata=file.get("file_metadata"),
        started_at=parse_fts_time(file.get("start_time")),
        finished_at=parse_fts_time(file.get("finish_time")),
    )
