"""Submissions: handed to the transfer service once, watched until each of their files is settled.

Durable work of two steps. The intent is a row before anything is sent, and the job's id follows
from the row's: after a crash between sending and noting, sending again finds the job. Events only
wake; what happened is asked from the transfer service, so a foreign FTS serves as well.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta

from twinfra.core.errors import TwinfraError
from twinfra.core.time import Clock
from twinfra.core.workflow.model import Done, Next, Outcome, Run, Wait
from twinfra.data.datasets.model import ReplicaState, RequestState
from twinfra.data.datasets.model.rses import Rse
from twinfra.data.datasets.model.verdicts import MAX_STRIKES, Retries, Verdict, judge
from twinfra.data.datasets.ports import (
    Attempt,
    JobReport,
    RequestRow,
    RuleRow,
    TransferRow,
    Transfers,
    Tx,
    Work,
)
from twinfra.data.datasets.service.jobs import JobMaker
from twinfra.data.datasets.service.keeping import RULE, Keeping
from twinfra.data.datasets.service.planning import Planning

POLLS, TRIES = "polls", "tries"
TOLD_AFTER = 3


class Submissions:
    """The steps behind each submission.

    Args:
        work: opens units of work.
        clock: tells the moment.
        keeping: told what came of files.
        planning: knows sources.
        transfers: the transfer service.
        maker: puts jobs together.
        retries: how often and when.
    """

    def __init__(
        self,
        *,
        work: Work,
        clock: Clock,
        keeping: Keeping,
        planning: Planning,
        transfers: Transfers,
        maker: JobMaker,
        retries: Retries,
    ) -> None:
        self._work, self._clock = work, clock
        self._keeping, self._planning = keeping, planning
        self._transfers, self._maker = transfers, maker
        self._retries = retries

    async def submit(self, run: Run) -> Outcome:
        """Hand the job over; a job that cannot be is taken apart again."""
        async with self._work.read() as tx:
            transfer = await tx.transfers.get(run.key)
            if transfer is None:
                return Done()
            if transfer.job_id is not None:
                return Next()
            requests = await tx.transfers.requests(run.key)
            rule = await tx.rules.get(transfer.rule_id)
            rses = await tx.rses.all()
            needed = [one for one in requests if not one.abandoned]
            found = await self._planning.sources(tx, rule, needed, rses) if rule else {}
        if rule is None or not needed:
            await self._take_apart(transfer, requests, "the rule is gone", failed=False)
            return Done()
        urls = {one.id: [s.url for s in found[one.id].sources] for one in needed}
        origins = {s.url: s.rse for one in found.values() for s in one.sources}
        lost = [one for one in needed if not urls[one.id]]
        if lost:
            await self._take_apart(transfer, requests, "the sources are gone", failed=False)
            return Done()
        if len(needed) > 1:
            urls = {request_id: listed[:1] for request_id, listed in urls.items()}
        try:
            by_name = {rse.name: rse for rse in rses.values()}
            job = await self._maker.make(
                run.key, rule, needed, urls, {u: by_name[r] for u, r in origins.items()},
                rses[transfer.rse_id],
            )  # fmt: skip
            job_id = await self._transfers.submit(job)
        except TwinfraError as error:
            if error.status >= 500 or error.retryable:
                return await self._later(run, rule, error)
            await self._take_apart(transfer, requests, f"not submitted: {error.detail}")
            return Done()
        async with self._work.begin() as tx:
            await tx.transfers.set_job(run.key, job_id, self._clock.now())
        return Next()

    async def watch(self, run: Run) -> Outcome:
        """Ask how the job stands, and settle what is decided."""
        async with self._work.read() as tx:
            transfer = await tx.transfers.get(run.key)
            requests = await tx.transfers.requests(run.key) if transfer else []
        if transfer is None or transfer.job_id is None:
            return Done()
        try:
            if requests and all(one.abandoned for one in requests):
                await self._transfers.cancel(transfer.job_id)
            report = await self._transfers.report(transfer.job_id)
        except TwinfraError as error:
            return await self._later(run, None, error)
        if not report.known:
            await self._take_apart(transfer, requests, "the transfer service lost the job")
            return Done()
        open_ = await self._settle(transfer, requests, report)
        if not open_:
            return Done()
        polls = int(run.data.get(POLLS, 0))
        run.data |= {POLLS: polls + 1, TRIES: 0}
        pause_s = self._retries.poll_s * min(8, 2 ** min(polls, 3))
        return Wait(pause_s, "the files are being copied")

    async def _later(self, run: Run, rule: RuleRow | None, error: TwinfraError) -> Outcome:
        """Try the same again later, for as long as it takes; the rule says why it waits."""
        tries = int(run.data.get(TRIES, 0)) + 1
        run.data[TRIES] = tries
        if rule is not None and tries == TOLD_AFTER:
            async with self._work.begin() as tx:
                await tx.rules.update(rule.id, {"error": f"waiting: {error.detail}"})
        return Wait(error.retry_after_s or self._retries.pause_s(tries), error.detail)

    async def _settle(
        self, transfer: TransferRow, requests: Sequence[RequestRow], report: JobReport
    ) -> int:
        """Write down what the report decides; returns how many requests are left open."""
        done: list[RequestRow] = []
        failed: list[tuple[RequestRow, Sequence[Attempt]]] = []
        for request in requests:
            attempts = report.attempts.get(str(request.id), ())
            if any(one.finished for one in attempts):
                done.append(request)
            elif report.final or (attempts and all(one.failed for one in attempts)):
                failed.append((request, attempts))
        left = len(requests) - len(done) - len(failed)
        if not done and not failed and left:
            return left
        async with self._work.begin() as tx:
            rule = await tx.rules.get(transfer.rule_id)
            rses = await tx.rses.all()
            for request in done:
                bad = [a for a in report.attempts[str(request.id)] if a.failed]
                await self._judge(tx, request, bad, rses, rule, proven=True)
            await self._arrived(tx, transfer, done, rses, rule)
            for request, attempts in failed:
                await self._failed(tx, request, attempts, rses, rule, report.reason)
            if not left:
                await tx.transfers.remove(transfer.id)
            if failed:
                await self._wake_rules(tx, [request for request, _ in failed])
        return left

    async def _arrived(
        self,
        tx: Tx,
        transfer: TransferRow,
        done: Sequence[RequestRow],
        rses: Mapping[int, Rse],
        rule: RuleRow | None,
    ) -> None:
        now = self._clock.now()
        ids = [request.file.id for request in done]
        changed = await tx.replicas.set_state(transfer.rse_id, ids, ReplicaState.AVAILABLE, now)
        await tx.requests.remove([request.id for request in done])
        orphans = [one.file.id for one in done if one.abandoned or rule is None]
        free = set(orphans) - await tx.care.locked(transfer.rse_id, orphans)
        await tx.care.set_tombstones(transfer.rse_id, sorted(free), now)
        files = [request.file for request in done if request.file.id in changed]
        await self._keeping.arrived(tx, transfer.rse_id, rses[transfer.rse_id], files)

    async def _failed(
        self,
        tx: Tx,
        request: RequestRow,
        attempts: Sequence[Attempt],
        rses: Mapping[int, Rse],
        rule: RuleRow | None,
        job_reason: str | None,
    ) -> None:
        if request.abandoned:
            await self._drop(tx, request)
            return
        now = self._clock.now()
        failures = [one for one in attempts if one.failed]
        blamed = await self._judge(tx, request, failures, rses, rule)
        reason = _reason(request, failures, job_reason)
        tried = request.attempts + 1
        if tried >= self._retries.most and not blamed:
            await tx.requests.set_state(
                [request.id], RequestState.FAILED.value, now=now, reason=reason, failed=True
            )
            await self._keeping.cannot_have(tx, request.rse_id, {reason: [request.file.id]})
            return
        pause = 0.0 if blamed else self._retries.pause_s(tried)
        await tx.requests.set_state(
            [request.id],
            RequestState.QUEUED.value,
            now=now,
            reason=reason,
            next_try_at=now + timedelta(seconds=pause) if pause else None,
            failed=True,
        )

    async def _judge(
        self,
        tx: Tx,
        request: RequestRow,
        failures: Sequence[Attempt],
        rses: Mapping[int, Rse],
        rule: RuleRow | None,
        *,
        proven: bool = False,
    ) -> bool:
        """Hold failures against their sources; true: a source is out, another may do at once.

        `proven` says that another source of the same file did well: then a copy that did not match
        is the source's fault.
        """
        now, blamed = self._clock.now(), False
        account = rule.account if rule else "root"
        for failure in failures:
            source = _rse_of(failure.source, rses)
            if source is None:
                continue
            rse_id, rse = source
            verdict, reason = judge(failure.reason), failure.reason or "no reason was given"
            fatal = verdict in {Verdict.CORRUPT, Verdict.GONE}
            strikes = await tx.request_care.note_failure(
                request.id, rse_id, excluded=fatal or verdict is Verdict.DENIED, reason=reason
            )
            if verdict is Verdict.SUSPICIOUS:
                files, state = [request.file.id], "SUSPICIOUS"
                await tx.care.note_bad(rse_id, files, state, reason, account, now)
                fatal = proven or strikes >= MAX_STRIKES
                if fatal:
                    await tx.request_care.note_failure(
                        request.id, rse_id, excluded=True, reason=reason
                    )
            if fatal:
                await self._keeping.went_bad(tx, rse_id, rse, [request.file], reason, account)
            blamed = blamed or fatal or verdict in {Verdict.DENIED, Verdict.SUSPICIOUS}
        return blamed

    async def _take_apart(
        self,
        transfer: TransferRow,
        requests: Sequence[RequestRow],
        reason: str,
        *,
        failed: bool = True,
    ) -> None:
        """Give all requests of a submission back to their rules, and forget it."""
        report = JobReport(known=True, final=True, reason=reason)
        if failed:
            await self._settle(transfer, requests, report)
            return
        async with self._work.begin() as tx:
            for request in requests:
                if request.abandoned:
                    await self._drop(tx, request)
            kept = [one.id for one in requests if not one.abandoned]
            await tx.requests.set_state(
                kept, RequestState.QUEUED.value, now=self._clock.now(), reason=reason
            )
            await tx.transfers.remove(transfer.id)
            await self._wake_rules(tx, requests)

    async def _drop(self, tx: Tx, request: RequestRow) -> None:
        """Forget a request that nobody waits for; a rule that came meanwhile makes a new one."""
        at = await tx.replicas.at(request.rse_id, [request.file.id])
        locked = await tx.care.locked(request.rse_id, [request.file.id])
        if at.get(request.file.id) is ReplicaState.COPYING and not locked:
            await tx.replicas.remove(request.rse_id, [request.file.id])
        await tx.requests.remove([request.id])

    @staticmethod
    async def _wake_rules(tx: Tx, requests: Sequence[RequestRow]) -> None:
        concerned = {request.rule_id for request in requests}
        for request in requests:
            if request.abandoned:
                async for lock in tx.locks.each(did_ids=[request.file.id]):
                    concerned.add(lock.rule_id)
        for rule_id in sorted(concerned):
            await tx.wake(RULE, rule_id)


def _reason(request: RequestRow, failures: Sequence[Attempt], job_reason: str | None) -> str:
    texts = dict.fromkeys(one.reason for one in failures if one.reason)
    return f"{request.file.did}: {'; '.join(texts) or job_reason or 'no reason was given'}"


def _rse_of(url: str, rses: Mapping[int, Rse]) -> tuple[int, Rse] | None:
    for rse_id, rse in rses.items():
        if any(door.path_of(url) is not None for door in rse.protocols):
            return rse_id, rse
    return None
