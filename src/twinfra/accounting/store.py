"""The table of usage records: written once, never changed; sums are made by the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ColumnElement,
    Float,
    Index,
    MetaData,
    String,
    Table,
    and_,
    func,
    or_,
    select,
    true,
)

from twinfra.accounting.model import (
    Filter,
    JobUsage,
    TransferUsage,
    UsageRecord,
    from_json,
    month_of,
    size_bytes_of,
    to_json,
)
from twinfra.core.database import Database, UTCDateTime

metadata = MetaData()

usage_records = Table(
    "usage_records",
    metadata,
    Column("id", String(255), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("site", String(255), nullable=False),
    Column("month", String(7), nullable=False),
    Column("iss", String(255)),
    Column("sub", String(255)),
    Column("group_name", String(255)),
    Column("deployment", String(255)),
    Column("started_at", UTCDateTime, nullable=False),
    Column("ended_at", UTCDateTime, nullable=False),
    Column("received_at", UTCDateTime, nullable=False),
    Column("sender", String(255), nullable=False),
    Column("wall_s", BigInteger, nullable=False),
    Column("cpu_s", BigInteger, nullable=False),
    Column("core_s", BigInteger, nullable=False),
    Column("gpu_s", Float, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("record", JSON, nullable=False),
    CheckConstraint("wall_s >= 0 AND cpu_s >= 0 AND size_bytes >= 0", name="not_negative"),
    CheckConstraint("kind IN ('job', 'storage', 'transfer')", name="known_kind"),
    Index("ix_usage_records_page", "ended_at", "id"),
    Index("ix_usage_records_group", "group_name", "ended_at"),
    Index("ix_usage_records_person", "sub", "ended_at"),
    Index("ix_usage_records_deployment", "deployment"),
    Index("ix_usage_records_month", "month", "site"),
)
_COLUMNS = usage_records.c
SUMMARY_KEYS = {
    "month": _COLUMNS.month,
    "site": _COLUMNS.site,
    "group": _COLUMNS.group_name,
    "deployment": _COLUMNS.deployment,
    "kind": _COLUMNS.kind,
    "sub": _COLUMNS.sub,
}


@dataclass(frozen=True, slots=True)
class Sight:
    """Which records a caller may see: all, or their own and those of their groups."""

    everything: bool
    iss: str = ""
    sub: str = ""
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Kept:
    """A record as it was received."""

    record: UsageRecord
    sender: str


class RecordStore:
    """Each method is one unit of work."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, records: Sequence[UsageRecord], *, sender: str, received_at: datetime
    ) -> list[UsageRecord]:
        """Keep `records`; return those that were there already, as they were."""
        if not records:
            return []
        rows = [_row(record, sender, received_at) for record in records]
        statement = self._database.insert(usage_records).on_conflict_do_nothing()
        async with self._database.begin() as connection:
            fresh = await connection.execute(statement.returning(_COLUMNS.id), rows)
            new = {row.id for row in fresh}
            there = [record.id for record in records if record.id not in new]
            if not there:
                return []
            wanted = select(_COLUMNS.record).where(_COLUMNS.id.in_(there))
            return [from_json(row.record) for row in await connection.execute(wanted)]

    async def find(self, record_id: str, sight: Sight) -> Kept | None:
        """Return a record, if there is one and it may be seen."""
        condition = and_(_COLUMNS.id == record_id, _visible(sight))
        async with self._database.read() as connection:
            wanted = select(_COLUMNS.record, _COLUMNS.sender).where(condition)
            row = (await connection.execute(wanted)).first()
        return None if row is None else Kept(from_json(row.record), row.sender)

    async def page(
        self, wanted: Filter, sight: Sight, *, after: tuple[datetime, str] | None, limit: int
    ) -> list[UsageRecord]:
        """Return up to `limit` records, latest end first, beyond `after`."""
        condition = and_(_visible(sight), *_conditions(wanted))
        if after is not None:
            ended_at, record_id = after
            beyond = and_(_COLUMNS.ended_at == ended_at, _COLUMNS.id > record_id)
            condition = and_(condition, or_(_COLUMNS.ended_at < ended_at, beyond))
        statement = (
            select(_COLUMNS.record)
            .where(condition)
            .order_by(_COLUMNS.ended_at.desc(), _COLUMNS.id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [from_json(row.record) for row in await connection.execute(statement)]

    async def sums(self, wanted: Filter, sight: Sight, by: Sequence[str]) -> list[dict[str, Any]]:
        """Return one row of sums for each value of the keys `by`, in their order."""
        keys = [SUMMARY_KEYS[name].label(name) for name in by]
        figures = [
            func.count().label("record_count"),
            *(
                func.sum(_COLUMNS[name]).label(name)
                for name in ("wall_s", "cpu_s", "core_s", "gpu_s", "size_bytes")
            ),
        ]
        statement = (
            select(*keys, *figures)
            .where(and_(_visible(sight), *_conditions(wanted)))
            .group_by(*(SUMMARY_KEYS[name] for name in by))
            .order_by(*(SUMMARY_KEYS[name] for name in by))
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(statement)).mappings().all()
        return [_sum_row(row, by) for row in rows]


def _row(record: UsageRecord, sender: str, received_at: datetime) -> dict[str, Any]:
    job = record if isinstance(record, JobUsage) else None
    moved_s = round(record.duration_s) if isinstance(record, TransferUsage) else 0
    return {
        "id": record.id,
        "kind": record.kind,
        "site": record.site,
        "month": month_of(record),
        "iss": record.person.iss if record.person else None,
        "sub": record.person.sub if record.person else None,
        "group_name": record.group,
        "deployment": record.deployment,
        "started_at": record.started_at,
        "ended_at": record.ended_at,
        "received_at": received_at,
        "sender": sender,
        "wall_s": job.wall_s if job else moved_s,
        "cpu_s": job.cpu_s if job else 0,
        "core_s": job.wall_s * job.processors if job else 0,
        "gpu_s": job.wall_s * job.gpus if job else 0.0,
        "size_bytes": size_bytes_of(record),
        "record": to_json(record),
    }


def _visible(sight: Sight) -> ColumnElement[bool]:
    if sight.everything:
        return true()
    own = and_(_COLUMNS.iss == sight.iss, _COLUMNS.sub == sight.sub)
    return or_(own, _COLUMNS.group_name.in_(sight.groups))


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    exact = {
        _COLUMNS.kind: wanted.kind,
        _COLUMNS.site: wanted.site,
        _COLUMNS.group_name: wanted.group,
        _COLUMNS.deployment: wanted.deployment,
        _COLUMNS.sub: wanted.sub,
    }
    found = [column == value for column, value in exact.items() if value is not None]
    if wanted.since is not None:
        found.append(_COLUMNS.ended_at >= wanted.since)
    if wanted.until is not None:
        found.append(_COLUMNS.ended_at < wanted.until)
    return found


def _sum_row(row: Any, by: Sequence[str]) -> dict[str, Any]:
    whole = ("record_count", "wall_s", "cpu_s", "core_s", "size_bytes")
    return {
        **{name: row[name] for name in by},
        **{name: int(row[name] or 0) for name in whole},
        "gpu_s": float(row["gpu_s"] or 0),
    }
