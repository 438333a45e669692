"""Events and usage records that follow from transfers; pure."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from twinfra.core.bus import Event
from twinfra.data.transfers.model.links import address_of
from twinfra.data.transfers.model.records import Job, TransferFile
from twinfra.data.transfers.model.states import FileState, JobState

PREFIX = "org.twinfra.transfer."
SOURCE = "/transfers"
SiteOf = Callable[[str], str | None]


def transfer_event(
    kind: str, job: Job, file: TransferFile, site_of: SiteOf, now: datetime, **more: Any
) -> Event:
    """Return the event ``org.twinfra.transfer.<kind>`` of a file.

    ``bytes`` of ``total_bytes`` are there; ``file_metadata`` and ``job_metadata`` are the
    submitter's, verbatim; ``state`` is FTS's.
    """
    group = account_of(job).get("group")
    data = {
        "job_id": job.job_id,
        "file_id": file.file_id,
        "file_index": file.file_index,
        "attempt": file.attempt,
        "source_url": file.source_url,
        "dest_url": file.dest_url,
        "source_site": site_of(file.source_url),
        "dest_site": site_of(file.dest_url),
        "bytes": file.transferred_bytes,
        "total_bytes": file.size_bytes if file.size_bytes is not None else file.user_size_bytes,
        "state": file.state.value,
        "job_state": job.state.value,
        "reason": file.reason,
        "job_metadata": job.metadata,
        "file_metadata": file.metadata,
        **more,
    }
    return Event(
        type=PREFIX + kind,
        source=SOURCE,
        subject=job.job_id,
        data=data,
        group=None if group is None else str(group),
        time=now,
    )


def account_of(job: Job) -> dict[str, Any]:
    """Return person, group, deployment and node that a job counts for.

    What ``job_metadata`` says of person and group is believed only of services (and of those that
    act for the person anyway); people are accounted for as who they are.
    """
    owner = job.owner
    named: Mapping[str, Any] = job.metadata if isinstance(job.metadata, Mapping) else {}
    account: dict[str, Any] = {
        "person": None if owner.is_service else {"iss": owner.issuer, "sub": owner.sub},
        "group": None if owner.is_service else owner.vo,
    }
    trusted = ("person", "group") if owner.is_service else ("group",) if owner.actor else ()
    account |= {key: named[key] for key in trusted if named.get(key)}
    account |= {key: named[key] for key in ("deployment", "node") if named.get(key)}
    return account


def usage_records(
    job: Job,
    files: Sequence[TransferFile],
    wasted_bytes: Mapping[int, int],
    site_of: SiteOf,
    now: datetime,
) -> list[dict[str, Any]]:
    """Return the usage of a job that ended: one record for each pair of sites that bytes crossed.

    Args:
        job: that ended.
        files: all of it.
        wasted_bytes: by file id, bytes of tries that failed; they were moved all the same.
        site_of: names the site of a URL.
        now: when it ended.
    """
    sums: dict[tuple[str | None, str], dict[str, Any]] = {}
    for file in files:
        done = file.state is FileState.FINISHED
        cut_short = file.transferred_bytes if file.state is FileState.CANCELLED else 0
        last = (file.size_bytes or 0) if done else cut_short
        moved = wasted_bytes.get(file.file_id, 0) + last
        if not moved and not done:
            continue
        dest_site = site_of(file.dest_url)
        pair = (site_of(file.source_url), dest_site or address_of(file.dest_url))
        row = sums.setdefault(
            pair, {"size_bytes": 0, "file_count": 0, "duration_s": 0.0, "dest_site": dest_site}
        )
        row["size_bytes"] += moved
        row["file_count"] += done
        row["duration_s"] = round(row["duration_s"] + (file.duration_s or 0.0), 3)
    return [
        {
            "kind": "transfer",
            "id": f"transfer-{job.job_id}-{index}",
            "site": site,
            "started_at": job.submitted_at.isoformat(),
            "ended_at": now.isoformat(),
            "source_site": source,
            "transfer_id": job.job_id,
            **row,
            **account_of(job),
        }
        for index, ((source, site), row) in enumerate(sorted(sums.items(), key=str))
    ]


def job_reason(state: JobState, files: Sequence[TransferFile]) -> str | None:
    """Return why a job did not come about as a whole: how many failed, and the first reason."""
    if state in {JobState.FINISHED, JobState.SUBMITTED, JobState.ACTIVE}:
        return None
    reasons = [file.reason for file in files if file.reason and file.state.final]
    failed = {
        file.file_index for file in files if file.state in {FileState.FAILED, FileState.CANCELLED}
    } - {file.file_index for file in files if file.state is FileState.FINISHED}
    total = len({file.file_index for file in files})
    first = f": {reasons[-1]}" if reasons else ""
    return f"{len(failed)} of {total} files did not arrive{first}"
