"""The typed client of accounting: send usage, ask for it.

`post` suits a durable outbox: it may be repeated with the same records, raises only what trying
again may cure or what the caller must mend in itself, and reports records that are never taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from twinfra.accounting.model import (
    Filter,
    JobUsage,
    Person,
    Receipt,
    Rejection,
    StorageUsage,
    TransferUsage,
    UsageRecord,
    from_json,
    to_json,
)
from twinfra.core.http.client import HttpClient
from twinfra.core.telemetry import get_logger

__all__ = [
    "AccountingClient",
    "Filter",
    "JobUsage",
    "Page",
    "Person",
    "Receipt",
    "Rejection",
    "StorageUsage",
    "TransferUsage",
    "UsageRecord",
    "from_json",
    "to_json",
]

log = get_logger(__name__)

BATCH = 500


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and where the next ones start."""

    records: tuple[UsageRecord, ...]
    next: str | None


class AccountingClient:
    """Speaks to the accounting service.

    Args:
        http: a client of the service's base URL; its token is used where a call names none.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def post(self, records: Sequence[UsageRecord]) -> Receipt:
        """Send `records`; each is kept once however often it is sent.

        Raises:
            Unavailable: nobody answers; send the same again.
            InsufficientScope: this service may not report usage.
        """
        total = Receipt()
        for start in range(0, len(records), BATCH):
            batch = [to_json(record) for record in records[start : start + BATCH]]
            reply = await self._http.request(
                "POST", "/records", json={"records": batch}, retry=True
            )
            total = _sum(total, reply.json())
        for rejection in total.rejected:
            log.warning("usage_record_rejected", record_id=rejection.id, reason=rejection.reason)
        return total

    async def records(
        self,
        wanted: Filter = Filter(),  # noqa: B008 - frozen
        *,
        after: str | None = None,
        limit: int | None = None,
        token: str | None = None,
    ) -> Page:
        """Return a page of the records that the caller may see, newest end first."""
        params = {**wanted.params(), "after": after, "limit": limit}
        reply = await self._http.request("GET", "/records", params=params, token=token, retry=True)
        body = reply.json()
        return Page(tuple(from_json(entry) for entry in body["records"]), body.get("next"))

    async def summaries(
        self,
        wanted: Filter = Filter(),  # noqa: B008 - frozen
        *,
        by: Sequence[str] = ("month", "site", "group"),
        token: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return sums over the records that the caller may see, one row for each value of `by`."""
        params = {**wanted.params(), "by": ",".join(by)}
        reply = await self._http.request(
            "GET", "/summaries", params=params, token=token, retry=True
        )
        rows: list[dict[str, Any]] = reply.json()["summaries"]
        return rows

    async def apel(self, record_id: str, *, token: str | None = None) -> str:
        """Return the APEL message of the job record `record_id`.

        Raises:
            NotFound: there is no such record, or it is not the caller's to see.
        """
        path = f"/records/{quote(record_id, safe='')}/apel"
        return (await self._http.request("GET", path, token=token, retry=True)).text()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


def _sum(total: Receipt, answer: Mapping[str, Any]) -> Receipt:
    rejected = [Rejection(entry["id"], entry["reason"]) for entry in answer["rejected"]]
    return Receipt(
        total.accepted + answer["accepted"],
        total.repeated + answer["repeated"],
        (*total.rejected, *rejected),
    )
