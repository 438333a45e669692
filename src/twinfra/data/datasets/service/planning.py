"""From requests to submissions: which source, which job; written down before anything is sent.

FTS takes alternatives only for a job of one file. So files that have several sources go one a job,
as long as they are few; when they are many they go together with their best source each, and what
fails is tried from the next one by us.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from twinfra.core.time import Clock
from twinfra.data.datasets.model import RequestState
from twinfra.data.datasets.model.expression import parse
from twinfra.data.datasets.model.placement import Source, order_sources
from twinfra.data.datasets.model.rses import TAPE, Rse
from twinfra.data.datasets.ports import RequestRow, RuleRow, TransferRow, Tx
from twinfra.data.datasets.service.keeping import TRANSFER, Keeping

FAR = 1_000_000


@dataclass(frozen=True, slots=True)
class Batching:
    """How requests become jobs: bounds of a job, of a pass, and of jobs with alternatives."""

    files_a_job: int = 200
    requests_a_pass: int = 2000
    multi_source_jobs: int = 50


@dataclass(frozen=True, slots=True)
class Found:
    """The sources of a request, best first; or why there is none."""

    sources: Sequence[Source]
    why_none: str = ""


class Planning:
    """Chooses sources and groups requests into submissions.

    Args:
        clock: tells the moment.
        keeping: told of what cannot be had.
        batching: bounds.
        new_id: draws the submissions' ids.
    """

    def __init__(
        self, clock: Clock, keeping: Keeping, batching: Batching, new_id: Callable[[], str]
    ) -> None:
        self._clock, self._keeping, self._batching = clock, keeping, batching
        self._new_id = new_id

    async def plan(self, tx: Tx, rule: RuleRow) -> int:
        """Make submissions of a rule's due requests; returns how many requests were looked at."""
        now = self._clock.now()
        due = await tx.requests.due(rule.id, now, self._batching.requests_a_pass)
        if not due:
            return 0
        rses = await tx.rses.all()
        found = await self.sources(tx, rule, due, rses)
        hopeless: dict[int, dict[str, list[RequestRow]]] = {}
        ready: dict[int, list[RequestRow]] = {}
        for request in due:
            if found[request.id].sources:
                ready.setdefault(request.rse_id, []).append(request)
            else:
                reasons = hopeless.setdefault(request.rse_id, {})
                reasons.setdefault(found[request.id].why_none, []).append(request)
        for rse_id, requests in ready.items():
            await self._submissions(tx, rule, rse_id, requests, found)
        for rse_id, by_reason in hopeless.items():
            await self._give_up(tx, rse_id, by_reason)
        return len(due)

    async def sources(
        self, tx: Tx, rule: RuleRow, requests: Sequence[RequestRow], rses: Mapping[int, Rse]
    ) -> dict[int, Found]:
        """Return the sources of requests by request, best first."""
        allowed = _readable(rule, rses)
        distances = await tx.rse_facts.distances()
        by_id = {request.id: request for request in requests}
        good: dict[int, list[Source]] = {request.id: [] for request in requests}
        failures = await tx.request_care.failures(list(by_id))
        for row in await tx.requests.sources(list(by_id), list(allowed)):
            request, rse = by_id[row.request_id], allowed[row.rse_id]
            if row.excluded:
                continue
            doors = rse.doors("third_party_copy_read") or rse.doors("read")
            if not doors:
                continue
            url = doors[0].url(rse.path_at(request.file.did, doors[0], row.path))
            good[row.request_id].append(
                Source(
                    rse.name,
                    url,
                    distances.get((row.rse_id, request.rse_id), FAR),
                    rse.rse_type == TAPE,
                    row.strikes,
                )
            )
        return {
            request.id: Found(
                order_sources(good[request.id]),
                _why(request, [(rses[r].name, why) for r, why in failures.get(request.id, ())]),
            )
            for request in requests
        }

    async def _submissions(
        self,
        tx: Tx,
        rule: RuleRow,
        rse_id: int,
        requests: Sequence[RequestRow],
        found: Mapping[int, Found],
    ) -> None:
        several = [one for one in requests if len(found[one.id].sources) > 1]
        if len(several) > self._batching.multi_source_jobs:
            several = []
        alone = {one.id for one in several}
        jobs = [[one] for one in several]
        rest = [one for one in requests if one.id not in alone]
        size = self._batching.files_a_job
        jobs += [rest[start : start + size] for start in range(0, len(rest), size)]
        for job in jobs:
            transfer = TransferRow(self._new_id(), rule.id, rse_id, None)
            await tx.transfers.add(transfer, [one.id for one in job], self._clock.now())
            await tx.start(TRANSFER, transfer.id, {})

    async def _give_up(
        self, tx: Tx, rse_id: int, by_reason: Mapping[str, Sequence[RequestRow]]
    ) -> None:
        for reason, requests in by_reason.items():
            await tx.requests.set_state(
                [one.id for one in requests],
                RequestState.NO_SOURCES.value,
                now=self._clock.now(),
                reason=reason,
            )
        await self._keeping.cannot_have(
            tx,
            rse_id,
            {reason: [one.file.id for one in found] for reason, found in by_reason.items()},
        )


def _readable(rule: RuleRow, rses: Mapping[int, Rse]) -> dict[int, Rse]:
    """Return the storages that a rule may take sources from."""
    chosen = None
    if rule.source_replica_expression:
        facts = {rse.name: rse.attributes for rse in rses.values()}
        chosen = parse(rule.source_replica_expression).select(facts)
    return {
        rse_id: rse
        for rse_id, rse in rses.items()
        if (rse.availability_read or rule.ignore_availability)
        and (chosen is None or rse.name in chosen)
    }


def _why(request: RequestRow, failed: Sequence[tuple[str, str]]) -> str:
    if failed:
        named = "; ".join(f"at {rse}: {reason}" for rse, reason in sorted(failed))
        return f"{request.file.did}: no source is left; {named}"
    return f"{request.file.did}: no available replica to copy from"
