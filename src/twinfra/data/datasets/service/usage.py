"""Storage usage: how much lies where for whom, told to accounting as it changes.

Durable work with one step: compare what is stored with what was last told, write records of the
difference in the same transaction, then hand them over until accounting has taken them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from twinfra.core.errors import TwinfraError
from twinfra.core.time import Clock, rfc3339
from twinfra.core.workflow.model import Outcome, Run, Wait
from twinfra.data.datasets.model.rses import Rse
from twinfra.data.datasets.ports import Accounting, Owner, Tx, UsagePeriod, Work

BATCH = 500
RETRY_S = 2.0
RETRY_MOST_S = 60.0
TRIES, LAST = "tries", "last"


@dataclass(frozen=True, slots=True)
class UsagePace:
    """How often usage is told: changes at most every `settle_s`, all of it every `interval_s`."""

    settle_s: float = 1.0
    interval_s: float = 3600.0


class UsageReporter:
    """Tells accounting what is stored.

    Args:
        work: opens units of work.
        clock: tells the moment.
        accounting: takes the records.
        pace: how often.
        new_id: draws the records' ids.
    """

    def __init__(
        self,
        work: Work,
        clock: Clock,
        accounting: Accounting,
        pace: UsagePace,
        new_id: Callable[[], str],
    ) -> None:
        self._work, self._clock = work, clock
        self._accounting, self._pace, self._new_id = accounting, pace, new_id

    async def report(self, run: Run) -> Outcome:
        """Compare, write and hand over; a durable step that never ends."""
        now = self._clock.now()
        last = datetime.fromisoformat(run.data[LAST]) if LAST in run.data else None
        settled = last is None or (now - last).total_seconds() >= self._pace.settle_s
        if settled:
            async with self._work.begin() as tx:
                await self._compare(tx, now)
            run.data[LAST] = now.isoformat()
        try:
            while await self._hand_over():
                pass
        except TwinfraError as error:
            tries = run.data[TRIES] = int(run.data.get(TRIES, 0)) + 1
            return Wait(min(RETRY_MOST_S, RETRY_S * 2 ** min(tries - 1, 8)), error.detail)
        run.data[TRIES] = 0
        if not settled:
            return Wait(self._pace.settle_s, "changes are gathered")
        return Wait(self._pace.interval_s, "until something changes")

    async def _compare(self, tx: Tx, now: datetime) -> None:
        stored = {(one.rse_id, one.owner): one for one in await tx.usage.now_stored()}
        told = {(one.rse_id, one.owner): one for one in await tx.usage.periods()}
        rses = await tx.rses.all()
        records: list[dict[str, Any]] = []
        for key in sorted(stored.keys() | told.keys(), key=str):
            rse_id, owner = key
            before, after = told.get(key), stored.get(key, UsagePeriod(rse_id, owner, 0, 0))
            since = before.since if before is not None and before.since else now
            old = now - since >= timedelta(seconds=self._pace.interval_s)
            same = before is not None and (before.size_bytes, before.files) == (
                after.size_bytes, after.files,
            )  # fmt: skip
            if same and not old:
                continue
            await tx.usage.write_period(
                UsagePeriod(rse_id, owner, after.size_bytes, after.files, now)
            )
            records.append(await self._record(tx, rses[rse_id], after, owner, (since, now)))
        await tx.usage.queue(records, now)

    async def _record(
        self,
        tx: Tx,
        rse: Rse,
        stored: UsagePeriod,
        owner: Owner,
        interval: tuple[datetime, datetime],
    ) -> dict[str, Any]:
        """Return a record of what lies there at the end of the interval."""
        identities = await tx.accounts.identities(owner.account)
        person = None
        if identities and not identities[0][1].startswith("service:"):
            person = {"iss": identities[0][0], "sub": identities[0][1]}
        record = {
            "kind": "storage",
            "id": self._new_id(),
            "site": rse.site,
            "rse": rse.name,
            "person": person,
            "group": owner.group or None,
            "deployment": owner.deployment or None,
            "started_at": rfc3339(interval[0]),
            "ended_at": rfc3339(interval[1]),
            "used_bytes": stored.size_bytes,
            "file_count": stored.files,
            "media": rse.rse_type.lower(),
        }
        return {key: value for key, value in record.items() if value is not None}

    async def _hand_over(self) -> int:
        async with self._work.read() as tx:
            records = await tx.usage.queued(BATCH)
        if records:
            await self._accounting.post(records)
            async with self._work.begin() as tx:
                await tx.usage.taken([record["id"] for record in records])
        return len(records)
