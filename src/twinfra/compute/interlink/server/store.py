"""The API server's cache of statuses, durable: what was seen last of each pod, and whose it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Index,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    delete,
    select,
    update,
)

from twinfra.compute.interlink.model.reading import Json
from twinfra.core.database import Database, UTCDateTime

MIGRATIONS = "twinfra.compute.interlink.server.migrations"
METADATA = MetaData()

STATUSES = Table(
    "statuses",
    METADATA,
    Column("uid", String(64), primary_key=True),
    Column("owner_issuer", Text, nullable=False),
    Column("owner_sub", Text, nullable=False),
    Column("owner_group", Text, nullable=False),
    Column("status", JSON(none_as_null=True), nullable=True),
    Column("updated_at", UTCDateTime, nullable=False),
    Index("statuses_updated_at", "updated_at"),
)

# Built once: they are asked for each pod, and again and again.
OF_UIDS = select(STATUSES).where(STATUSES.c.uid.in_(bindparam("some", expanding=True)))
SEEN = (
    update(STATUSES)
    .where(STATUSES.c.uid == bindparam("of_uid"))
    .values(status=bindparam("seen"), updated_at=bindparam("now"))
)


@dataclass(frozen=True)
class CachedStatus:
    """What was seen last of a pod; ``status`` is None between its creation and the first answer."""

    uid: str
    issuer: str
    sub: str
    group: str
    status: Json | None = None


class StatusCache:
    """Keeps statuses."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._new = database.insert(STATUSES).on_conflict_do_nothing()

    async def add(self, entry: CachedStatus, now: datetime) -> None:
        """Note a new pod; one that is there stays as it is."""
        values = {
            "uid": entry.uid,
            "owner_issuer": entry.issuer,
            "owner_sub": entry.sub,
            "owner_group": entry.group,
            "status": entry.status,
            "updated_at": now,
        }
        async with self.database.begin() as connection:
            await connection.execute(self._new, values)

    async def put(self, statuses: Mapping[str, Json], now: datetime) -> None:
        """Note what was just seen of pods that are known."""
        if not statuses:
            return
        rows = [{"of_uid": uid, "seen": seen, "now": now} for uid, seen in statuses.items()]
        async with self.database.begin() as connection:
            await connection.execute(SEEN, rows)

    async def get(self, uids: Sequence[str]) -> dict[str, CachedStatus]:
        """Return what is cached of these pods."""
        found: dict[str, CachedStatus] = {}
        async with self.database.read() as connection:
            for start in range(0, len(uids), 500):
                some = {"some": uids[start : start + 500]}
                found |= {row.uid: _entry(row) for row in await connection.execute(OF_UIDS, some)}
        return found

    async def all(self) -> list[CachedStatus]:
        """Return all that is cached."""
        async with self.database.read() as connection:
            rows = await connection.execute(select(STATUSES).order_by(STATUSES.c.uid))
            return [_entry(row) for row in rows]

    async def drop(self, uid: str) -> None:
        """Forget a pod; one that is not there is fine."""
        async with self.database.begin() as connection:
            await connection.execute(delete(STATUSES).where(STATUSES.c.uid == uid))

    async def prune(self, before: datetime) -> None:
        """Forget pods that nobody asked for since `before`."""
        async with self.database.begin() as connection:
            await connection.execute(delete(STATUSES).where(STATUSES.c.updated_at < before))


def _entry(row: Any) -> CachedStatus:
    return CachedStatus(row.uid, row.owner_issuer, row.owner_sub, row.owner_group, row.status)
