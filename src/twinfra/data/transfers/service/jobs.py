"""The use cases behind the FTS3 interface: submit, look, cancel, change the priority.

Decides who may do what with a job; every decision leaves an audit line. Copies nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from twinfra.access.audit import audit
from twinfra.access.model import Principal
from twinfra.core.errors import Conflict, InsufficientScope, InvalidRequest, NotFound
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.data.transfers.model.links import address_of, storage_of
from twinfra.data.transfers.model.records import (
    Attempt,
    Job,
    Owner,
    TransferFile,
    deterministic_job_id,
    token_expires_at,
)
from twinfra.data.transfers.model.states import FileState, JobState
from twinfra.data.transfers.model.submission import NewTransfer, Submission
from twinfra.data.transfers.ports import Peers
from twinfra.data.transfers.service.announcements import account_of, transfer_event
from twinfra.data.transfers.service.ledger import MULTI_SOURCE, Ledger
from twinfra.data.transfers.service.queue import Queue
from twinfra.data.transfers.settings import TransferSettings
from twinfra.data.transfers.store import TransferStore

log = get_logger(__name__)

SERVICES_VO = "services"
MAX_LISTED = 500
OPEN_JOBS = (JobState.SUBMITTED, JobState.READY, JobState.ACTIVE)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs are asked for; what is none does not narrow."""

    states: tuple[JobState, ...] = OPEN_JOBS
    vo: str | None = None
    delegation_id: str | None = None
    user: str | None = None
    source_se: str | None = None
    dest_se: str | None = None
    since: datetime | None = None
    limit: int = 100


class JobService:
    """What the API calls.

    Args:
        store: of the service.
        ledger: settles what is cancelled.
        queue: woken by new work; interrupts what is cancelled.
        peers: which storages may be named.
        settings: bounds.
        clock: tells the moment.
        new_id: draws job ids.
    """

    def __init__(
        self,
        *,
        store: TransferStore,
        ledger: Ledger,
        queue: Queue,
        peers: Peers,
        settings: TransferSettings,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._store, self._ledger, self._queue = store, ledger, queue
        self._peers = peers
        self._settings, self._clock, self._new_id = settings, clock, new_id

    async def submit(self, principal: Principal, submission: Submission) -> str:
        """Take a job and return its id; it is kept before this returns.

        Raises:
            InvalidRequest: a storage is not registered, or a token has expired.
            Conflict: the job's ``sid`` is taken, or another job writes one of the destinations.
        """
        owner = owner_of(principal)
        await self._check(submission)
        sid = submission.params.sid
        job_id = deterministic_job_id(owner.vo, sid) if sid else self._new_id()
        now = self._clock.now()
        multiple = any(len(file.sources) > 1 for file in submission.files)
        job = Job(
            job_id=job_id,
            state=JobState.SUBMITTED,
            kind=MULTI_SOURCE if multiple else "N",
            priority=submission.params.priority,
            owner=owner,
            params=submission.params.to_wire(),
            reason=None,
            submitted_at=now,
        )
        rows = [
            row
            for index, file in enumerate(submission.files)
            for row in self._rows(job, index, file, now)
        ]
        async with self._store.begin() as unit:
            if await unit.jobs([job_id]):
                raise Conflict(f"The sid {sid!r} was used before: it gave job {job_id}")
            taken = await unit.open_destinations([file.destination for file in submission.files])
            if taken:
                url, other = next(iter(taken.items()))
                raise Conflict(f"Duplicated file: job {other} is writing {url}")
            await unit.add_job(job, rows)
            files = await unit.files([job_id])
            await unit.emit(
                *(
                    transfer_event("submitted", job, file, self._peers.site_of, now)
                    for file in files
                    if file.alternative == 0
                )
            )
        self._queue.wake()
        account = account_of(job)
        audit("transfer.submit", principal, "allowed", job_id, files=len(rows), **_flat(account))
        return job_id

    async def jobs(self, principal: Principal, job_ids: Sequence[str]) -> dict[str, Job]:
        """Return by id the jobs that exist.

        Raises:
            InsufficientScope: one of them is not the caller's to see.
        """
        async with self._store.read() as unit:
            found = await unit.jobs(job_ids)
        for job in found:
            self._require(principal, job, "transfer.read", owner_only=False)
        return {job.job_id: job for job in found}

    async def job(self, principal: Principal, job_id: str) -> Job:
        """Return one job.

        Raises:
            NotFound: there is none.
            InsufficientScope: it is not the caller's to see.
        """
        found = await self.jobs(principal, [job_id])
        if job_id not in found:
            raise NotFound(f'No job with the id "{job_id}" has been found')
        return found[job_id]

    async def find(self, principal: Principal, wanted: JobFilter) -> list[Job]:
        """Return the jobs that fit and that the caller may see, newest first."""
        async with self._store.read() as unit:
            found = await unit.find_jobs(
                states=wanted.states,
                since=wanted.since,
                source_se=wanted.source_se,
                dest_se=wanted.dest_se,
                limit=MAX_LISTED,
            )
        mine = [
            job
            for job in found
            if may_see(principal, job)
            and wanted.vo in {None, job.owner.vo}
            and wanted.delegation_id in {None, job.owner.delegation_id}
            and wanted.user in {None, job.owner.sub}
        ]
        return mine[: min(wanted.limit, MAX_LISTED)]

    async def files(self, jobs: Sequence[Job]) -> list[TransferFile]:
        """Return the files of jobs that the caller has been shown."""
        async with self._store.read() as unit:
            return await unit.files([job.job_id for job in jobs])

    async def attempts(self, job: Job, file_id: int) -> list[Attempt]:
        """Return the failed tries of one file of a job that the caller has been shown.

        Raises:
            NotFound: the job has no such file.
        """
        async with self._store.read() as unit:
            file = await unit.file(file_id)
            if file is None or file.job_id != job.job_id:
                raise NotFound(f"No file {file_id} in job {job.job_id}")
            return await unit.attempts(file_id)

    async def cancel(
        self, principal: Principal, job: Job, file_ids: Sequence[int] | None = None
    ) -> tuple[Job, list[TransferFile]]:
        """Call off a job or some files of it; returns both as they are left.

        A copy under way is interrupted; what it may have left is removed.

        Raises:
            InsufficientScope: the job is another's.
        """
        self._require(principal, job, "transfer.cancel", owner_only=True)
        files = await self.files([job])
        wanted = [file for file in files if file_ids is None or file.file_id in file_ids]
        for file in await self._ledger.cancel(job, wanted):
            if file.state is not FileState.SUBMITTED:
                await self._queue.interrupt(file)
        self._queue.wake()
        async with self._store.read() as unit:
            return (await unit.jobs([job.job_id]))[0], await unit.files([job.job_id])

    async def set_priority(self, principal: Principal, job: Job, priority: int) -> None:
        """Change how soon the files of a job that wait get their turn.

        Raises:
            InsufficientScope: the job is another's.
            InvalidRequest: the priority is not between 1 and 5.
        """
        self._require(principal, job, "transfer.modify", owner_only=True)
        if not 1 <= priority <= 5:
            raise InvalidRequest(f"priority {priority} is not between 1 and 5")
        async with self._store.begin() as unit:
            await unit.set_priority(job.job_id, priority)
        self._queue.wake()

    async def _check(self, submission: Submission) -> None:
        now = self._clock.now()
        for file in submission.files:
            for url in (*file.sources, file.destination):
                if await self._peers.allowed(url) is False:
                    raise InvalidRequest(f"{address_of(url)} is not a registered storage")
            for token in (*file.source_tokens, file.destination_token):
                ends = token_expires_at(token)
                if ends is not None and ends <= now:
                    raise InvalidRequest("a source or destination token has expired")

    def _rows(self, job: Job, index: int, file: NewTransfer, now: datetime) -> list[dict[str, Any]]:
        wait_s = job.options.max_in_queue_s or self._settings.max_in_queue_s
        return [
            {
                "job_id": job.job_id,
                "file_index": index,
                "alternative": place,
                "source_url": source,
                "dest_url": file.destination,
                "link": f"{storage_of(source)}>{storage_of(file.destination)}",
                "state": FileState.SUBMITTED if place == 0 else FileState.NOT_USED,
                "priority": job.priority,
                "attempt": 1,
                "queued_at": now,
                "expires_at": now + timedelta(seconds=wait_s),
                "user_size_bytes": file.size_bytes,
                "checksum": str(file.checksum) if file.checksum else None,
                "metadata": file.metadata,
                "activity": file.activity,
                "source_token": file.source_tokens[place] if file.source_tokens else None,
                "dest_token": file.destination_token,
                "transferred_bytes": 0,
                "copying": False,
                "ours": False,
            }
            for place, source in enumerate(file.sources)
        ]

    def _require(self, principal: Principal, job: Job, action: str, *, owner_only: bool) -> None:
        if is_owner(principal, job) or (not owner_only and may_see(principal, job)):
            return
        audit(action, principal, "denied", job.job_id)
        raise InsufficientScope("this job belongs to somebody else")


def owner_of(principal: Principal) -> Owner:
    """Return whose a job is that `principal` submits; its VO is the person's first group."""
    groups = sorted(principal.groups)
    vo = principal.primary_group or (groups[0] if groups else principal.sub)
    return Owner(
        issuer=principal.issuer,
        sub=principal.sub,
        vo=SERVICES_VO if principal.is_service else vo,
        client_id=principal.client_id,
        actor=principal.actor,
        is_service=principal.is_service,
    )


def is_owner(principal: Principal, job: Job) -> bool:
    """Say whether a job is the caller's own; services may act on any."""
    same = (principal.issuer, principal.sub) == (job.owner.issuer, job.owner.sub)
    return same or principal.is_service


def may_see(principal: Principal, job: Job) -> bool:
    """Say whether the caller may look at a job: its owner, its group, services."""
    group = account_of(job).get("group")
    return is_owner(principal, job) or (group is not None and group in principal.groups)


def _flat(account: dict[str, Any]) -> dict[str, Any]:
    return {key: account.get(key) for key in ("group", "deployment")}
