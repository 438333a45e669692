"""SQL of storage usage: one grouped sum, and the records that follow from its changes."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select
from typing_extensions import override

from twinfra.core.database import Connection, Database
from twinfra.data.datasets.model import ReplicaState
from twinfra.data.datasets.ports.rows import Owner, UsagePeriod
from twinfra.data.datasets.ports.usage import UsageStore
from twinfra.data.datasets.store.rows import chunks
from twinfra.data.datasets.store.tables import replicas, usage_periods, usage_records

OWNER = ("rse_id", "account", "group_name", "deployment")


class SqlUsage(UsageStore):
    """Storage usage in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def now_stored(self) -> list[UsagePeriod]:
        keys = [replicas.c[name] for name in OWNER]
        query = (
            select(
                *keys,
                func.count().label("files"),
                func.coalesce(func.sum(replicas.c.size_bytes), 0).label("size_bytes"),
            )
            .where(replicas.c.state == ReplicaState.AVAILABLE.value)
            .group_by(*keys)
        )
        return [_period(row, None) for row in await self._connection.execute(query)]

    @override
    async def periods(self) -> list[UsagePeriod]:
        rows = await self._connection.execute(select(usage_periods))
        return [_period(row, row.since) for row in rows]

    @override
    async def write_period(self, period: UsagePeriod) -> None:
        key = {
            "rse_id": period.rse_id,
            "account": period.owner.account,
            "group_name": period.owner.group,
            "deployment": period.owner.deployment,
        }
        same = [usage_periods.c[name] == value for name, value in key.items()]
        await self._connection.execute(delete(usage_periods).where(*same))
        if period.files:
            row = {
                **key,
                "size_bytes": period.size_bytes,
                "files": period.files,
                "since": period.since,
            }
            await self._connection.execute(usage_periods.insert().values(row))

    @override
    async def queue(self, records: Sequence[dict[str, Any]], now: datetime) -> None:
        if records:
            rows = [{"id": one["id"], "body": one, "created_at": now} for one in records]
            await self._connection.execute(usage_records.insert(), rows)

    @override
    async def queued(self, limit: int) -> list[dict[str, Any]]:
        query = (
            select(usage_records.c.body)
            .order_by(usage_records.c.created_at, usage_records.c.id)
            .limit(limit)
        )
        return [dict(body) for body in (await self._connection.execute(query)).scalars()]

    @override
    async def taken(self, record_ids: Collection[str]) -> None:
        for some in chunks(record_ids):
            await self._connection.execute(
                delete(usage_records).where(usage_records.c.id.in_(some))
            )


def _period(row: Any, since: datetime | None) -> UsagePeriod:
    owner = Owner(row.account, row.group_name, row.deployment)
    return UsagePeriod(row.rse_id, owner, int(row.size_bytes), int(row.files), since)
