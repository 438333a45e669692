"""Providers and their history in SQL."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Index,
    Integer,
    MetaData,
    Row,
    Select,
    String,
    Table,
    delete,
    select,
    update,
)

from twinfra.core.database import Connection, Database, UTCDateTime
from twinfra.orchestration.catalogue.model import (
    Change,
    ChangeKind,
    Provider,
    ProviderState,
    Registration,
)

METADATA = MetaData()
PROVIDERS = Table(
    "providers",
    METADATA,
    Column("name", String(63), primary_key=True),
    Column("document", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("registered_by", String(255), nullable=False),
    Column("registered_at", UTCDateTime, nullable=False),
    Column("updated_at", UTCDateTime, nullable=False),
    Column("heartbeat_at", UTCDateTime, nullable=False),
    Column("expires_at", UTCDateTime, nullable=False),
    Index("ix_providers_state_expires_at", "state", "expires_at"),
)
CHANGES = Table(
    "provider_changes",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("name", String(63), nullable=False),
    Column("at", UTCDateTime, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("fields", JSON, nullable=False),
    Column("document", JSON),
    Index("ix_provider_changes_name_id", "name", "id"),
)


class SqlProviderUnit:
    """A unit of work on one connection."""

    def __init__(self, database: Database, connection: Connection, lines: int) -> None:
        self._database, self._connection, self._lines = database, connection, lines

    async def find(self, name: str) -> Registration | None:
        """Return a provider, held against others' changes until the unit ends."""
        rows = await self._select(select(PROVIDERS).where(PROVIDERS.c.name == name))
        return rows[0] if rows else None

    async def add(self, registration: Registration) -> bool:
        """Add a provider; ``False`` if another unit added the name meanwhile."""
        new = self._database.insert(PROVIDERS).values(_values(registration))
        added = await self._connection.execute(
            new.on_conflict_do_nothing().returning(PROVIDERS.c.name)
        )
        return added.first() is not None

    async def change(self, registration: Registration) -> None:
        """Replace what is held of a provider."""
        name = registration.provider.name
        await self._connection.execute(
            update(PROVIDERS).where(PROVIDERS.c.name == name).values(_values(registration))
        )

    async def remove(self, name: str) -> None:
        """Forget a provider."""
        await self._connection.execute(delete(PROVIDERS).where(PROVIDERS.c.name == name))

    async def overdue(self, now: datetime) -> list[Registration]:
        """Return, held, the active providers whose deadline is not after `now`."""
        late = (PROVIDERS.c.state == ProviderState.ACTIVE) & (PROVIDERS.c.expires_at <= now)
        return await self._select(select(PROVIDERS).where(late).order_by(PROVIDERS.c.name))

    async def note(self, change: Change) -> None:
        """Add a line to a provider's history, dropping the oldest beyond the limit."""
        await self._connection.execute(
            CHANGES.insert().values(
                name=change.name,
                at=change.at,
                kind=change.kind.value,
                actor=change.actor,
                fields=list(change.fields),
                document=change.document,
            )
        )
        kept = (
            select(CHANGES.c.id)
            .where(CHANGES.c.name == change.name)
            .order_by(CHANGES.c.id.desc())
            .limit(1)
            .offset(self._lines - 1)
            .scalar_subquery()
        )
        await self._connection.execute(
            delete(CHANGES).where(CHANGES.c.name == change.name, CHANGES.c.id < kept)
        )

    async def _select(self, query: Select[Any]) -> list[Registration]:
        rows = await self._connection.execute(query.with_for_update())
        return [_registration(row) for row in rows]


class SqlProviderStore:
    """Providers in the database.

    Args:
        database: of the catalogue.
        history_lines: kept for each provider.
    """

    def __init__(self, database: Database, *, history_lines: int) -> None:
        self._database, self._lines = database, history_lines

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[SqlProviderUnit]:
        """Open a unit of work."""
        async with self._database.begin() as connection:
            yield SqlProviderUnit(self._database, connection, self._lines)

    async def get(self, name: str) -> Registration | None:
        """Return a provider."""
        async with self._database.read() as connection:
            found = await connection.execute(select(PROVIDERS).where(PROVIDERS.c.name == name))
            row = found.first()
        return _registration(row) if row is not None else None

    async def all(self) -> list[Registration]:
        """Return all providers by name."""
        async with self._database.read() as connection:
            rows = await connection.execute(select(PROVIDERS).order_by(PROVIDERS.c.name))
            return [_registration(row) for row in rows]

    async def history(self, name: str, limit: int) -> list[Change]:
        """Return what happened to a provider, the newest first."""
        query = (
            select(CHANGES).where(CHANGES.c.name == name).order_by(CHANGES.c.id.desc()).limit(limit)
        )
        async with self._database.read() as connection:
            rows = await connection.execute(query)
            return [
                Change(
                    name=row.name,
                    at=row.at,
                    kind=ChangeKind(row.kind),
                    actor=row.actor,
                    fields=tuple(row.fields),
                    document=row.document,
                )
                for row in rows
            ]

    async def next_deadline(self) -> datetime | None:
        """Return the first deadline of an active provider."""
        query = select(PROVIDERS.c.expires_at).where(PROVIDERS.c.state == ProviderState.ACTIVE)
        async with self._database.read() as connection:
            first = await connection.execute(query.order_by(PROVIDERS.c.expires_at).limit(1))
            found: datetime | None = first.scalar()
        return found


def _values(registration: Registration) -> dict[str, Any]:
    return {
        "name": registration.provider.name,
        "document": registration.provider.to_json(),
        "state": registration.state.value,
        "registered_by": registration.registered_by,
        "registered_at": registration.registered_at,
        "updated_at": registration.updated_at,
        "heartbeat_at": registration.heartbeat_at,
        "expires_at": registration.expires_at,
    }


def _registration(row: Row[Any]) -> Registration:
    return Registration(
        provider=Provider.from_json(row.document),
        state=ProviderState(row.state),
        registered_by=row.registered_by,
        registered_at=row.registered_at,
        updated_at=row.updated_at,
        heartbeat_at=row.heartbeat_at,
        expires_at=row.expires_at,
    )
