"""Taking in usage records and giving them out to those who may see them.

Use cases only: time arrives by the clock, SQL is in ``store``, HTTP in ``api``.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from twinfra.access.audit import audit
from twinfra.access.authorization import require_service
from twinfra.access.model import Principal
from twinfra.accounting.messages.apel import job_message
from twinfra.accounting.messages.star import storage_message
from twinfra.accounting.model import (
    WITHHELD,
    Filter,
    JobUsage,
    Person,
    Receipt,
    Rejection,
    StorageUsage,
    UsageRecord,
    faults,
    from_json,
)
from twinfra.accounting.settings import AccountingSettings
from twinfra.accounting.store import SUMMARY_KEYS, RecordStore, Sight
from twinfra.core.errors import InvalidRequest, NotFound
from twinfra.core.time import Clock, parse_rfc3339

REPORTERS = ("plugin@*", "interlink@*", "edge@*", "datasets", "transfers", "deployments")


class Accounting:
    """The use cases.

    Args:
        settings: of accounting.
        store: the table.
        clock: tells the moment.
    """

    def __init__(self, settings: AccountingSettings, store: RecordStore, clock: Clock) -> None:
        self._settings, self._store, self._clock = settings, store, clock

    async def take(self, sender: Principal, batch: Sequence[Mapping[str, Any]]) -> Receipt:
        """Keep the records of `batch`, each once; report those that will never be taken.

        Raises:
            InsufficientScope: the sender is no service that reports usage.
            InvalidRequest: the batch is too long.
        """
        require_service(sender, *REPORTERS, action="usage.report")
        if len(batch) > self._settings.batch_limit:
            raise InvalidRequest(f"a batch has at most {self._settings.batch_limit} records")
        now, name = self._clock.now(), sender.service_name or ""
        good: dict[str, UsageRecord] = {}
        rejected: list[Rejection] = []
        repeated = 0
        for entry in batch:
            record, reason = _judged(entry, name, now)
            if record is None:
                rejected.append(Rejection(str(entry.get("id", ""))[:255], reason))
            elif good.get(record.id, record) != record:
                rejected.append(Rejection(record.id, "the batch has this id twice"))
            else:
                repeated += record.id in good
                good[record.id] = record
        known = await self._store.add(list(good.values()), sender=name, received_at=now)
        for record in known:
            if record == good[record.id]:
                repeated += 1
            else:
                rejected.append(Rejection(record.id, "another record has this id"))
        for rejection in rejected:
            audit("usage.report", sender, "denied", rejection.id, reason=rejection.reason)
        return Receipt(len(good) - len(known), repeated, tuple(rejected))

    async def page(
        self, caller: Principal, wanted: Filter, *, after: str | None, limit: int | None
    ) -> tuple[list[UsageRecord], str | None]:
        """Return records that `caller` may see, and where the next page starts."""
        size = min(limit or self._settings.page_limit, self._settings.page_limit)
        start = _read_cursor(after) if after else None
        sight = self.sight(caller)
        found = await self._store.page(wanted, sight, after=start, limit=size + 1)
        shown = [_shown(record, sight) for record in found[:size]]
        more = _write_cursor(found[size - 1]) if len(found) > size else None
        return shown, more

    async def sums(
        self, caller: Principal, wanted: Filter, by: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Return sums over what `caller` may see.

        Raises:
            InvalidRequest: a key is unknown.
        """
        if unknown := [name for name in by if name not in SUMMARY_KEYS]:
            known = ", ".join(SUMMARY_KEYS)
            raise InvalidRequest(f"cannot sum by {', '.join(unknown)}; there are {known}")
        sight = self.sight(caller)
        if "sub" in by and not sight.everything:
            wanted = replace(wanted, sub=caller.sub)
        return await self._store.sums(wanted, sight, tuple(dict.fromkeys(by)))

    async def record(self, caller: Principal, record_id: str) -> UsageRecord:
        """Return one record.

        Raises:
            NotFound: there is none, or it is not the caller's to see.
        """
        sight = self.sight(caller)
        kept = await self._store.find(record_id, sight)
        if kept is None:
            raise NotFound("there is no such usage record")
        return _shown(kept.record, sight)

    async def apel(self, caller: Principal, record_id: str) -> str:
        """Return the APEL message of a job record.

        Raises:
            NotFound: there is no such record to see.
            InvalidRequest: it is no job, or cannot be spelled as APEL wants.
        """
        record = await self.record(caller, record_id)
        if not isinstance(record, JobUsage):
            raise InvalidRequest(f"a {record.kind} record has no APEL job message")
        return job_message([record], self._settings)

    async def star(self, caller: Principal, record_id: str) -> str:
        """Return the StAR document of a storage record.

        Raises:
            NotFound: there is no such record to see.
            InvalidRequest: it is no storage record.
        """
        record = await self.record(caller, record_id)
        if not isinstance(record, StorageUsage):
            raise InvalidRequest(f"a {record.kind} record has no StAR document")
        return storage_message([record], self._settings, self._clock.now())

    def sight(self, caller: Principal) -> Sight:
        """Return what `caller` sees: services and operators all, people what they may."""
        operator = not caller.groups.isdisjoint(self._settings.operators)
        if caller.is_service or operator:
            return Sight(everything=True)
        return Sight(
            everything=False,
            iss=caller.issuer,
            sub=caller.sub,
            groups=tuple(sorted(caller.groups)),
        )


def _judged(entry: Mapping[str, Any], sender: str, now: datetime) -> tuple[UsageRecord | None, str]:
    """Return the record of `entry`, or why it is not taken."""
    try:
        record = from_json(entry)
    except InvalidRequest as error:
        return None, error.detail
    _, at, site = sender.partition("@")
    if at and record.site != site:
        return None, f"{sender} may not report for site {record.site}"
    broken = "; ".join(faults(record, now))
    return (None, broken) if broken else (record, "")


def _shown(record: UsageRecord, sight: Sight) -> UsageRecord:
    """Return `record` as a member of its group sees it: other people stay unnamed."""
    person = record.person
    own = person is not None and (person.iss, person.sub) == (sight.iss, sight.sub)
    if sight.everything or person is None or own:
        return record
    shown = replace(record, person=Person(person.iss, WITHHELD))
    return replace(shown, local_user=None) if isinstance(shown, JobUsage) else shown


def _write_cursor(record: UsageRecord) -> str:
    text = f"{record.ended_at.isoformat()} {record.id}"
    return base64.urlsafe_b64encode(text.encode()).decode()


def _read_cursor(text: str) -> tuple[datetime, str]:
    try:
        moment, _, record_id = base64.urlsafe_b64decode(text).decode().partition(" ")
        return parse_rfc3339(moment), record_id
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("after: not a place where a page ends") from error
