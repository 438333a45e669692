"""What came of each try, written down once: states, reasons, events and usage in one transaction.

Every method changes a file only from the state that its caller saw; when another got there first
nothing happens and nothing is told twice. Copies nothing itself: that is ``copying``.
"""

from collections import defaultdict
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.data.transfers.metrics import BYTES, FILES
from twinfra.data.transfers.model.faults import Fault, cancelled
from twinfra.data.transfers.model.records import Attempt, Job, TransferFile
from twinfra.data.transfers.model.states import FileState, JobState, job_state
from twinfra.data.transfers.ports import Peers
from twinfra.data.transfers.service.announcements import (
    job_reason,
    transfer_event,
    usage_records,
)
from twinfra.data.transfers.settings import TransferSettings
from twinfra.data.transfers.store import OPEN, WORKING, TransferStore, TransferUnit

log = get_logger(__name__)

MULTI_SOURCE = "R"


class Ledger:
    """Writes down what becomes of files and jobs.

    Args:
        store: of the service.
        peers: names the sites of URLs.
        settings: bounds of retrying.
        clock: tells the moment.
    """

    def __init__(
        self, store: TransferStore, peers: Peers, settings: TransferSettings, clock: Clock
    ) -> None:
        self._store, self._peers = store, peers
        self._settings, self._clock = settings, clock

    async def load(self, file_id: int, attempt: int) -> tuple[Job, TransferFile] | None:
        """Return job and file if this very try is still wanted, else none."""
        async with self._store.read() as unit:
            file = await unit.file(file_id)
            if file is None or file.attempt != attempt or file.state not in WORKING:
                return None
            return (await unit.jobs([file.job_id]))[0], file

    async def file(self, file_id: int) -> TransferFile | None:
        """Return a file in whatever state."""
        async with self._store.read() as unit:
            return await unit.file(file_id)

    async def drop_tokens(self, file: TransferFile) -> None:
        """Forget the tokens of a file that was called off, after what it left is gone."""
        if file.state.final:
            async with self._store.begin() as unit:
                await unit.end_unit(file.job_id, file.file_index)

    async def begin(
        self, job: Job, file: TransferFile, *, size_bytes: int | None, fresh: bool
    ) -> None:
        """Note, before it is sent, that a copy is ordered; told once however often it is sent.

        Args:
            job: of the file.
            file: to be copied.
            size_bytes: of the source.
            fresh: nothing stands at the destination, so what will is ours.
        """
        now = self._clock.now()
        ordered: dict[str, Any] = {"copying": True, "size_bytes": size_bytes}
        if fresh:
            ordered["ours"] = True
        began: dict[str, Any] = {
            "state": FileState.ACTIVE,
            "started_at": now,
            "transferred_bytes": 0,
        }
        async with self._store.begin() as unit:
            job = await unit.lock_job(job.job_id)
            if await unit.change(file, [FileState.READY], **ordered, **began):
                if job.state is JobState.SUBMITTED:
                    await unit.set_job(job.job_id, state=JobState.ACTIVE)
                    job = replace(job, state=JobState.ACTIVE)
                file = replace(file, **ordered, **began)
                await unit.emit(self._event("active", job, file, now))
            else:
                await unit.change(file, [FileState.ACTIVE], **ordered)
            if fresh and job.kind == MULTI_SOURCE:
                await unit.set_ours(file.job_id, file.file_index)

    async def progress(self, job: Job, file: TransferFile, transferred_bytes: int) -> None:
        """Note how far a copy is, and tell it."""
        async with self._store.begin() as unit:
            if await unit.change(file, WORKING, transferred_bytes=transferred_bytes):
                now = replace(file, state=FileState.ACTIVE, transferred_bytes=transferred_bytes)
                await unit.emit(self._event("progress", job, now, self._clock.now()))

    async def finished(self, job: Job, file: TransferFile, size_bytes: int) -> bool:
        """Settle a file that arrived; says whether it was this call that did."""
        now = self._clock.now()
        values: dict[str, Any] = {
            "state": FileState.FINISHED,
            "size_bytes": size_bytes,
            "transferred_bytes": size_bytes,
            "finished_at": now,
            "reason": None,
        }
        async with self._store.begin() as unit:
            job = await unit.lock_job(job.job_id)
            if not await unit.change(file, WORKING, **values):
                return False
            file = replace(file, **values)
            await self._unit_ended(unit, job, file, "finished", now)
        FILES.labels("finished").inc()
        BYTES.inc(size_bytes)
        return True

    async def failed(self, job: Job, file: TransferFile, fault: Fault) -> bool:
        """Decide what follows a failed try: the same source again, the next one, or the end.

        Says whether it was this call that decided.
        """
        now = self._clock.now()
        async with self._store.begin() as unit:
            job = await unit.lock_job(job.job_id)
            if fault.retryable and file.attempt <= self._retries(job):
                return await self._again(unit, job, file, fault, now)
            values: dict[str, Any] = {
                "state": FileState.FAILED,
                "reason": str(fault),
                "finished_at": now,
            }
            if not await unit.change(file, OPEN, **values):
                return False
            await self._note_attempt(unit, file, fault, now)
            file = replace(file, **values)
            following = await self._next_source(unit, file) if fault.other_source else None
            if following is not None:
                await unit.change(
                    following, [FileState.NOT_USED], state=FileState.SUBMITTED, queued_at=now
                )
                retrying = {"next_source": following.source_url}
                await unit.emit(self._event("retrying", job, file, now, **retrying))
            else:
                await self._unit_ended(unit, job, file, "failed", now)
        FILES.labels("failed").inc()
        log.info("transfer_failed", file_id=file.file_id, job_id=job.job_id, reason=str(fault))
        return True

    async def cancel(self, job: Job, files: list[TransferFile]) -> list[TransferFile]:
        """Call off those of `files` that are not settled, and return them.

        Those under way keep their tokens until what they left is removed (`drop_tokens`).
        """
        now = self._clock.now()
        running: list[TransferFile] = []
        values: dict[str, Any] = {
            "state": FileState.CANCELLED,
            "reason": str(cancelled()),
            "finished_at": now,
        }
        async with self._store.begin() as unit:
            job = await unit.lock_job(job.job_id)
            for file in files:
                if await unit.change(file, OPEN, **values):
                    running.append(file)
                    job = await self._unit_ended(unit, job, replace(file, **values), "failed", now)
        return running

    async def _again(
        self, unit: TransferUnit, job: Job, file: TransferFile, fault: Fault, now: datetime
    ) -> bool:
        pause_s = job.options.retry_delay_s or min(
            self._settings.retry_pause_max_s,
            self._settings.retry_pause_s * 2 ** min(file.attempt - 1, 16),
        )
        values: dict[str, Any] = {
            "state": FileState.SUBMITTED,
            "attempt": file.attempt + 1,
            "reason": str(fault),
            "not_before": now + timedelta(seconds=pause_s),
            "copying": False,
            "transferred_bytes": 0,
        }
        if not await unit.change(file, WORKING, **values):
            return False
        await self._note_attempt(unit, file, fault, now)
        file = replace(file, **values)
        await unit.emit(self._event("retrying", job, file, now, after_s=pause_s))
        log.info("transfer_retrying", file_id=file.file_id, reason=str(fault), after_s=pause_s)
        return True

    async def _note_attempt(
        self, unit: TransferUnit, file: TransferFile, fault: Fault, now: datetime
    ) -> None:
        seen = await unit.file(file.file_id)
        moved = seen.transferred_bytes if seen and seen.attempt == file.attempt else 0
        moved = max(moved, file.transferred_bytes)
        await unit.add_attempt(Attempt(file.file_id, file.attempt, now, str(fault), moved))

    async def _next_source(self, unit: TransferUnit, file: TransferFile) -> TransferFile | None:
        for other in await unit.files([file.job_id]):
            same = other.file_index == file.file_index
            if same and other.alternative > file.alternative:
                return other if other.state is FileState.NOT_USED else None
        return None

    async def _unit_ended(
        self, unit: TransferUnit, job: Job, file: TransferFile, kind: str, now: datetime
    ) -> Job:
        if not (file.state is FileState.CANCELLED and file.started_at):
            await unit.end_unit(file.job_id, file.file_index)
        job = await self._end_job(unit, job, now)
        await unit.emit(self._event(kind, job, file, now))
        return job

    async def _end_job(self, unit: TransferUnit, job: Job, now: datetime) -> Job:
        """End the job with its last file; usage is noted in that moment."""
        if await unit.has_open_files(job.job_id):
            return job
        files = await unit.files([job.job_id])
        units: dict[int, list[FileState]] = defaultdict(list)
        for file in files:
            units[file.file_index].append(file.state)
        state = job_state(units.values())
        job = replace(job, state=state, reason=job_reason(state, files), finished_at=now)
        await unit.set_job(job.job_id, state=state, reason=job.reason, finished_at=now)
        wasted = await unit.wasted_bytes(job.job_id)
        for record in usage_records(job, files, wasted, self._peers.site_of, now):
            await unit.add_usage(record)
        return job

    def _event(self, kind: str, job: Job, file: TransferFile, now: datetime, **more: Any) -> Any:
        return transfer_event(kind, job, file, self._peers.site_of, now, **more)

    def _retries(self, job: Job) -> int:
        wished = job.options.retry
        return self._settings.default_retries if wished == 0 else max(0, wished)
