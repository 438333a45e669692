"""Neighbours for tests: a transfer service, an issuer and accounting that do as they are told.

They keep the ports' promises (a submission is one job, records count once), so that the contract
suites hold for them as for the real ones.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import override

from twinfra.core.errors import TwinfraError
from twinfra.data.datasets.ports import (
    Accounting,
    Attempt,
    Copy,
    Delegation,
    Job,
    JobReport,
    Tokens,
    Transfers,
)

Ended = Callable[[str], Awaitable[None]]


@dataclass
class FakeTransfers(Transfers):
    """Copies nothing; each file of a job ends as `faults` say.

    Attributes:
        faults: reason of failure by source URL; a source that is not named does well.
        held: jobs stay active until `finish` is called.
        trouble: raised by every call while set.
        ended: told of each job that ended, as the event bus would.
    """

    faults: dict[str, str] = field(default_factory=dict)
    held: bool = False
    trouble: TwinfraError | None = None
    ended: Ended | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    reports: dict[str, JobReport] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    submissions: list[str] = field(default_factory=list)
    lost_answers: int = 0
    news: set[asyncio.Task[None]] = field(default_factory=set)

    @override
    async def submit(self, job: Job) -> str:
        if self.trouble is not None:
            raise self.trouble
        self.submissions.append(job.sid)
        job_id = f"job-{job.sid}"
        if job_id not in self.jobs:
            self.jobs[job_id] = job
            self.reports[job_id] = JobReport(known=True, final=False)
            if not self.held:
                await self.finish(job_id)
        if self.lost_answers:
            self.lost_answers -= 1
            raise ConnectionResetError("the answer was lost")
        return job_id

    @override
    async def report(self, job_id: str) -> JobReport:
        if self.trouble is not None:
            raise self.trouble
        return self.reports.get(job_id, JobReport(known=False, final=True))

    @override
    async def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)
        if job_id in self.jobs and not self.reports[job_id].final:
            self._end(job_id, {str(c.metadata["request_id"]): () for c in self.jobs[job_id].copies})

    async def finish(self, job_id: str | None = None) -> None:
        """Let a job end (or all that are open): each file by its first good source."""
        meant = [job_id] if job_id else [j for j, r in self.reports.items() if not r.final]
        for one in meant:
            copies = self.jobs[one].copies
            self._end(one, {str(c.metadata["request_id"]): self._try(c) for c in copies})

    def _try(self, copy: Copy) -> Sequence[Attempt]:
        attempts = []
        for source in copy.sources:
            fault = self.faults.get(source)
            fine = fault is None
            attempts.append(Attempt(source, copy.destination, fine, not fine, fault))
            if fine:
                break
        return attempts

    def _end(self, job_id: str, attempts: Mapping[str, Sequence[Attempt]]) -> None:
        self.reports[job_id] = JobReport(known=True, final=True, attempts=attempts)
        if self.ended is not None:
            task = asyncio.ensure_future(_call(self.ended, job_id))
            self.news.add(task)
            task.add_done_callback(self.news.discard)


async def _call(ended: Ended, job_id: str) -> None:
    await ended(job_id)


@dataclass
class FakeTokens(Tokens):
    """Gives tokens that say what they are for."""

    held: list[Delegation] = field(default_factory=list)
    revoked: list[Delegation] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    trouble: TwinfraError | None = None

    @override
    async def delegate(self, token: str) -> Delegation:
        if self.trouble is not None:
            raise self.trouble
        made = {"issuer": "https://issuer", "sub": token, "number": len(self.held)}
        self.held.append(made)
        return made

    @override
    async def for_storage(self, delegation: Delegation | None, audience: str, scope: str) -> str:
        if self.trouble is not None:
            raise self.trouble
        self.asked.append((audience, scope))
        who = "datasets" if delegation is None else delegation["sub"]
        return f"{who}@{audience} {scope}"

    @override
    async def revoke(self, delegation: Delegation) -> None:
        self.revoked.append(delegation)


@dataclass
class FakeAccounting(Accounting):
    """Keeps records, each once."""

    records: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    trouble: TwinfraError | None = None

    @override
    async def post(self, records: Sequence[Mapping[str, Any]]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.records |= {record["id"]: record for record in records}
