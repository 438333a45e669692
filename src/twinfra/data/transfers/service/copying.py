"""One try of one file as durable work: look, copy, compare.

It may run again after a crash. What was ordered before is known from the file's row: a copy that is
whole at the destination by then is taken as it is, never made twice.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from errno import EACCES, EIO, ENOENT

from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.core.workflow import Done, Outcome, Run, Step, Workflow, WorkState
from twinfra.data.transfers.metrics import ACTIVE
from twinfra.data.transfers.model.checksums import same_digest
from twinfra.data.transfers.model.faults import (
    Scope,
    TransferFault,
    exists,
    fault,
    mismatch,
)
from twinfra.data.transfers.model.links import time_limit_s
from twinfra.data.transfers.model.records import Job, TransferFile, token_expires_at
from twinfra.data.transfers.ports import CopyOrder, FileFacts, Storage
from twinfra.data.transfers.service.ledger import Ledger
from twinfra.data.transfers.settings import TransferSettings

log = get_logger(__name__)

KIND = "transfer"
Settled = Callable[[TransferFile, bool], Awaitable[None]]


@dataclass(frozen=True)
class _Plan:
    """What a look at both ends gave.

    ``there`` is what stands at the destination and need not be copied; ``fresh`` says that nothing
    stands there, so that what will is ours.
    """

    overwrite: bool
    size_bytes: int | None = None
    digest: str | None = None
    fresh: bool = False
    there: FileFacts | None = None


class Copying:
    """What a try does.

    Args:
        ledger: where outcomes go.
        storage: that copies.
        settings: limits.
        clock: tells the moment.
        settled: told of each try that ended: the file and whether it arrived.
    """

    def __init__(
        self,
        ledger: Ledger,
        storage: Storage,
        settings: TransferSettings,
        clock: Clock,
        settled: Settled,
    ) -> None:
        self._ledger, self._storage = ledger, storage
        self._settings, self._clock, self._settled = settings, clock, settled

    def workflow(self) -> Workflow:
        """Return the kind of durable work that the engine runs."""
        return Workflow(KIND, (Step("copy", self._try, undo=self._clean),), on_end=self._ended)

    async def _try(self, run: Run) -> Outcome:
        """Make the try that is asked for, unless it was settled meanwhile."""
        found = await self._ledger.load(run.data["file_id"], run.data["attempt"])
        if found is None:
            return Done()
        job, file = found
        try:
            size_bytes = await self._move(job, file)
        except TransferFault as trouble:
            await self._ledger.failed(job, file, trouble.fault)
            await self._settled(file, False)
        else:
            if await self._ledger.finished(job, file, size_bytes):
                await self._settled(file, True)
        return Done()

    async def _move(self, job: Job, file: TransferFile) -> int:
        """Look, copy, compare; returns the size of what arrived.

        Raises:
            TransferFault: it did not come about; no bad copy is left.
        """
        self._check_tokens(file)
        plan = await self._look(job, file)
        if plan.there is None:
            await self._copy(job, file, plan)
            plan = replace(plan, there=await self._at_destination(file))
        return await self._compare(job, file, plan)

    async def _look(self, job: Job, file: TransferFile) -> _Plan:
        """Look at source and destination before anything is moved."""
        options = job.options
        again = options.overwrite_on_retry and file.attempt > 1
        plan = _Plan(overwrite=options.overwrite or options.strict_copy or again)
        if options.strict_copy:
            return plan
        source = await self._storage.stat(
            file.source_url, file.source_token, file.wanted_checksum.algorithm, scope=Scope.SOURCE
        )
        if source is None:
            raise TransferFault(fault(Scope.SOURCE, ENOENT, "CHECK"))
        size_bytes, digest = _size(file, source), _source_digest(job, file, source)
        plan = replace(plan, size_bytes=size_bytes, digest=digest)
        there = await self._at_destination(file)
        if there is None:
            return replace(plan, fresh=True)
        if plan.overwrite and not file.copying:
            return plan
        return await self._stands_there(job, file, plan, there)

    async def _stands_there(
        self, job: Job, file: TransferFile, plan: _Plan, there: FileFacts
    ) -> _Plan:
        """Judge a destination that exists: what an earlier try of ours put there is taken."""
        ordered = file.ours or (plan.overwrite and file.copying)
        if not ordered:
            raise TransferFault(exists())
        if _differs(plan, job, file, there) is None:
            log.info("transfer_found_done", file_id=file.file_id)
            return replace(plan, there=there)
        if plan.overwrite:
            return plan
        await self._storage.delete(file.dest_url, file.dest_token)
        return replace(plan, fresh=True)

    async def _copy(self, job: Job, file: TransferFile, plan: _Plan) -> None:
        """Have the destination pull the file."""
        await self._ledger.begin(job, file, size_bytes=plan.size_bytes, fresh=plan.fresh)
        limit_s = job.options.timeout_s or time_limit_s(
            plan.size_bytes or 0,
            base_s=self._settings.base_limit_s,
            least_rate_bytes_per_s=self._settings.least_rate_bytes_per_s,
        )
        order = CopyOrder(
            source_url=file.source_url,
            dest_url=file.dest_url,
            source_token=file.source_token,
            dest_token=file.dest_token,
            overwrite=plan.overwrite,
            limit_s=limit_s,
            client_info=f"job-id={job.job_id};file-id={file.file_id};retry={file.attempt - 1}",
        )
        with ACTIVE.track_inprogress():
            await self._storage.copy(order, self._teller(job, file))

    async def _compare(self, job: Job, file: TransferFile, plan: _Plan) -> int:
        """Compare what arrived; a bad copy is removed before anything else is tried."""
        there = plan.there
        if there is None:
            text = "the copy was confirmed and is not there"
            raise TransferFault(fault(Scope.TRANSFER, EIO, "COMPARE", text))
        difference = None if job.options.strict_copy else _differs(plan, job, file, there)
        if difference is not None:
            if not job.options.disable_cleanup:
                await self._storage.delete(file.dest_url, file.dest_token)
            raise TransferFault(mismatch(Scope.DESTINATION, "COMPARE", difference))
        return there.size_bytes or 0

    async def _clean(self, run: Run) -> None:
        """Remove what a try that was called off may have left: only what we put there."""
        file = await self._ledger.file(run.data["file_id"])
        if file is None or file.attempt != run.data["attempt"]:
            return
        if file.copying and file.ours:
            await self._storage.delete(file.dest_url, file.dest_token)
        await self._ledger.drop_tokens(file)

    async def _ended(self, run: Run, state: WorkState, reason: str) -> None:
        """Settle a file whose durable work was given up by the engine: our own fault."""
        if state is not WorkState.FAILED:
            return
        found = await self._ledger.load(run.data["file_id"], run.data["attempt"])
        if found is not None:
            job, file = found
            await self._ledger.failed(job, file, fault(Scope.AGENT, EIO, "WORK", reason))
            await self._settled(file, False)

    async def _at_destination(self, file: TransferFile) -> FileFacts | None:
        return await self._storage.stat(
            file.dest_url, file.dest_token, file.wanted_checksum.algorithm, scope=Scope.DESTINATION
        )

    def _check_tokens(self, file: TransferFile) -> None:
        now = self._clock.now()
        for scope, token in (
            (Scope.SOURCE, file.source_token),
            (Scope.DESTINATION, file.dest_token),
        ):
            ends = token_expires_at(token)
            if ends is not None and ends <= now:
                text = "the token of this storage has expired: Permission denied"
                raise TransferFault(fault(scope, EACCES, "CHECK", text))

    def _teller(self, job: Job, file: TransferFile) -> Callable[[int], Awaitable[None]]:
        """Return what is told of markers: the first one goes on, later ones at most so often."""
        told_at: list[float] = []

        async def progress(transferred_bytes: int) -> None:
            now = self._clock.monotonic()
            too_soon = told_at and now - told_at[-1] < self._settings.progress_every_s
            if too_soon or not transferred_bytes:
                return
            told_at[:] = [now]
            await self._ledger.progress(job, file, transferred_bytes)

        return progress


def _size(file: TransferFile, source: FileFacts) -> int | None:
    wanted, found = file.user_size_bytes, source.size_bytes
    if wanted is not None and found is not None and wanted != found:
        text = f"the source has {found} bytes, {wanted} were announced"
        raise TransferFault(mismatch(Scope.SOURCE, "CHECK", text))
    return found if found is not None else wanted


def _source_digest(job: Job, file: TransferFile, source: FileFacts) -> str | None:
    """Return the checksum that the copy must have, after the source's was judged."""
    wanted = file.wanted_checksum
    found = source.digests.get(wanted.algorithm)
    if job.options.checks_source:
        if found is None:
            text = f"the source tells no {wanted.algorithm}"
            raise TransferFault(fault(Scope.SOURCE, EIO, "CHECKSUM", text))
        if wanted.value and not same_digest(found, wanted.value):
            text = f"source {wanted.algorithm} is {found}, {wanted.value} was announced"
            raise TransferFault(mismatch(Scope.SOURCE, "CHECKSUM", text))
    return wanted.value or found


def _differs(plan: _Plan, job: Job, file: TransferFile, there: FileFacts) -> str | None:
    """Return how a copy differs from what it should be, or none if it does not."""
    if plan.size_bytes is not None and there.size_bytes not in {None, plan.size_bytes}:
        return f"destination has {there.size_bytes} bytes, the source {plan.size_bytes}"
    if not job.options.checks_target or plan.digest is None:
        return None
    algorithm = file.wanted_checksum.algorithm
    found = there.digests.get(algorithm)
    if found is None:
        text = f"the destination tells no {algorithm}"
        raise TransferFault(fault(Scope.DESTINATION, EIO, "COMPARE", text))
    if not same_digest(found, plan.digest):
        return f"destination {algorithm} is {found}, {plan.digest} was expected"
    return None
