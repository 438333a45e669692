"""What is kept of subscriptions, triggers and cursors, in SQL.

The only room of notifications that knows SQLAlchemy; the neighbours are ``service`` and the loops.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from twinfra.core.bus import Event, Outbox, outbox_table
from twinfra.core.database import Connection, Database, UTCDateTime
from twinfra.data.notifications.model import Delivered, EventFilter, Subscription, Trigger

METADATA = MetaData()
BIG = BigInteger().with_variant(Integer, "sqlite")


def _owned(name: str, *columns: Column[Any]) -> Table:
    """Declare a table of things that people own and that follow the event stream."""
    return Table(
        name,
        METADATA,
        Column("id", String(36), primary_key=True),
        Column("name", String(255), nullable=False),
        Column("issuer", Text, nullable=False),
        Column("sub", Text, nullable=False),
        Column("group", Text),
        Column("status", String(16), nullable=False),
        Column("reason", Text),
        Column("created_at", UTCDateTime, nullable=False),
        Column("follow_from", UTCDateTime),
        Column("grant", JSON),
        Column("epoch", String(64)),
        Column("sequence", BIG, nullable=False),
        Column("count", BIG, nullable=False),
        Column("event_id", Text),
        Column("at", UTCDateTime),
        Column("failures", Integer, nullable=False),
        Column("dropped", Integer, nullable=False),
        Column("last_error", Text),
        *columns,
        Index(f"{name}_by_owner", "issuer", "sub", "name", unique=True),
    )


SUBSCRIPTIONS = _owned(
    "subscription",
    Column("types", JSON, nullable=False),
    Column("filter", JSON, nullable=False),
    Column("sink_url", Text, nullable=False),
)
TRIGGERS = _owned(
    "trigger",
    Column("site", String(64), nullable=False),
    Column("path_prefix", Text, nullable=False),
    Column("dataset", Text, nullable=False),
    Column("pattern", Text),
    Column("existing", Integer, nullable=False),
)
CURSORS = Table(
    "cursor",
    METADATA,
    Column("site", String(64), primary_key=True),
    Column("event_id", Text, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
)
OUTBOX = outbox_table(METADATA)


@dataclass(frozen=True)
class Followed:
    """What the loop of a subscription or trigger needs besides the document."""

    thing: Subscription | Trigger
    grant: Mapping[str, Any] | None
    follow_from: datetime | None
    epoch: str | None


class NotificationUnit:
    """One unit of work."""

    def __init__(self, connection: Connection, outbox: Outbox) -> None:
        self._connection, self._outbox = connection, outbox

    async def emit(self, *events: Event) -> None:
        """Note events on their way to the bus."""
        await self._outbox.add(self._connection, *events)

    async def cursor(self, site: str) -> str | None:
        """Return the id of the last event taken from a site's edge."""
        query = select(CURSORS.c.event_id).where(CURSORS.c.site == site)
        found: str | None = (await self._connection.execute(query)).scalar_one_or_none()
        return found

    async def set_cursor(self, site: str, event_id: str, now: datetime) -> None:
        """Note the last event taken from a site's edge."""
        values = {"event_id": event_id, "updated_at": now}
        row = await self._connection.execute(
            update(CURSORS).where(CURSORS.c.site == site).values(**values)
        )
        if not row.rowcount:
            await self._connection.execute(insert(CURSORS).values(site=site, **values))

    async def forget_cursor(self, site: str) -> None:
        """Begin a site's edge anew: its cursor means nothing any more."""
        await self._connection.execute(delete(CURSORS).where(CURSORS.c.site == site))

    async def add_subscription(
        self, found: Subscription, grant: Mapping[str, Any] | None, now: datetime
    ) -> None:
        """Keep a new subscription."""
        await self._connection.execute(
            insert(SUBSCRIPTIONS).values(
                **_common(found, grant),
                created_at=now,
                follow_from=now,
                types=list(found.types),
                filter=found.filter.to_json(),
                sink_url=found.sink_url,
            )
        )

    async def add_trigger(
        self, found: Trigger, grant: Mapping[str, Any] | None, now: datetime
    ) -> None:
        """Keep a new trigger; one for existing files follows the stream from its beginning."""
        await self._connection.execute(
            insert(TRIGGERS).values(
                **_common(found, grant),
                created_at=now,
                follow_from=None if found.existing else now,
                site=found.site,
                path_prefix=found.path_prefix,
                dataset=found.dataset,
                pattern=found.pattern,
                existing=int(found.existing),
            )
        )

    async def subscriptions(self, **columns: Any) -> list[Followed]:
        """Return subscriptions whose columns have these values, older first."""
        return [_subscription(row) for row in await self._select(SUBSCRIPTIONS, columns)]

    async def triggers(self, **columns: Any) -> list[Followed]:
        """Return triggers whose columns have these values, older first."""
        return [_trigger(row) for row in await self._select(TRIGGERS, columns)]

    async def count_of(self, table: Table, issuer: str, sub: str) -> int:
        """Return how many subscriptions (triggers) somebody has."""
        query = select(func.count()).where(table.c.issuer == issuer, table.c.sub == sub)
        return int((await self._connection.execute(query)).scalar_one())

    async def change(self, table: Table, thing_id: str, **values: Any) -> bool:
        """Change a subscription or trigger; says whether there is one."""
        row = await self._connection.execute(
            update(table).where(table.c.id == thing_id).values(**values)
        )
        return bool(row.rowcount)

    async def remove(self, table: Table, thing_id: str) -> None:
        """Remove a subscription or trigger."""
        await self._connection.execute(delete(table).where(table.c.id == thing_id))

    async def _select(self, table: Table, columns: Mapping[str, Any]) -> list[Any]:
        query = select(table).order_by(table.c.created_at, table.c.id)
        for name, value in columns.items():
            query = query.where(table.c[name] == value)
        return list((await self._connection.execute(query)).mappings())


class NotificationStore:
    """Opens units of work.

    Args:
        database: of the service.
        outbox: of the service; woken after each unit of work.
    """

    def __init__(self, database: Database, outbox: Outbox) -> None:
        self._database, self._outbox = database, outbox

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[NotificationUnit]:
        """Open a unit of work: kept when the block ends, dropped when it raises."""
        async with self._database.begin() as connection:
            yield NotificationUnit(connection, self._outbox)
        self._outbox.wake()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[NotificationUnit]:
        """Open a consistent view; nothing is written."""
        async with self._database.read() as connection:
            yield NotificationUnit(connection, self._outbox)


def _common(thing: Subscription | Trigger, grant: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "id": thing.id,
        "name": thing.name,
        "issuer": thing.owner["iss"],
        "sub": thing.owner["sub"],
        "group": thing.group,
        "status": thing.status,
        "grant": dict(grant) if grant is not None else None,
        "sequence": 0,
        "count": 0,
        "failures": 0,
        "dropped": 0,
    }


def _shared(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "name": row["name"],
        "group": row["group"],
        "owner": {"iss": row["issuer"], "sub": row["sub"]},
        "status": row["status"],
        "reason": row["reason"],
        "created_at": row["created_at"],
    }


def _progress(row: Mapping[str, Any]) -> Delivered:
    return Delivered(
        sequence=row["sequence"],
        count=row["count"],
        event_id=row["event_id"],
        at=row["at"],
        failures=row["failures"],
        dropped=row["dropped"],
        last_error=row["last_error"],
    )


def _subscription(row: Mapping[str, Any]) -> Followed:
    thing = Subscription(
        **_shared(row),
        types=tuple(row["types"]),
        sink_url=row["sink_url"],
        filter=EventFilter.from_json(row["filter"]),
        delivered=_progress(row),
    )
    return Followed(thing, row["grant"], row["follow_from"], row["epoch"])


def _trigger(row: Mapping[str, Any]) -> Followed:
    thing = Trigger(
        **_shared(row),
        site=row["site"],
        path_prefix=row["path_prefix"],
        dataset=row["dataset"],
        pattern=row["pattern"],
        existing=bool(row["existing"]),
        registered=_progress(row),
    )
    return Followed(thing, row["grant"], row["follow_from"], row["epoch"])
