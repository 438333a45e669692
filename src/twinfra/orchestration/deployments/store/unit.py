"""Units of work: what is written together, what follows from it, and who is told once it stands."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import delete, func, insert, select, update

from twinfra.core.bus import Event
from twinfra.core.database import Connection, Database
from twinfra.orchestration.deployments.store import tables
from twinfra.orchestration.deployments.store.rows import TABLES, row_of
from twinfra.orchestration.deployments.store.view import View


class Work(Protocol):
    """The durable engine as a unit of work needs it."""

    def look(self) -> None:
        """Look for due work at once, now that a unit of work stands."""
        ...

    async def start(
        self, connection: Connection, kind: str, key: str, data: dict[str, Any]
    ) -> None:
        """Accept work with the unit of work; the same kind and key is accepted once."""
        ...

    async def wake_in(self, connection: Connection, kind: str, key: str) -> None:
        """Let waiting work look again once the unit of work stands."""
        ...


class Post(Protocol):
    """The outbox as a unit of work needs it."""

    async def add(self, connection: Connection, *events: Event) -> None:
        """Note events that become true with the unit of work."""
        ...

    def wake(self) -> None:
        """Look for what is to be published, now that a unit of work stands."""
        ...


class Unit(View):
    """A unit of work: a view that locks what it reads singly, and writes."""

    lock = True

    def __init__(self, connection: Connection, database: Database, work: Work, post: Post) -> None:
        super().__init__(connection)
        self._database, self._work, self._post = database, work, post
        self.noted: set[str] = set()

    async def add(self, record: Any) -> None:
        """Insert a record."""
        await self.connection.execute(insert(TABLES[type(record)]).values(row_of(record)))

    async def add_once(self, record: Any) -> bool:
        """Insert a record unless its key or a unique value is there already; say whether it was."""
        table = TABLES[type(record)]
        statement = self._database.insert(table).values(row_of(record)).on_conflict_do_nothing()
        return bool((await self.connection.execute(statement)).rowcount)

    async def put(self, record: Any) -> None:
        """Insert a record, or write its columns where its key is there already."""
        table = TABLES[type(record)]
        values = row_of(record)
        keys = [column.name for column in table.primary_key]
        rest = {name: value for name, value in values.items() if name not in keys}
        statement = self._database.insert(table).values(values)
        await self.connection.execute(
            statement.on_conflict_do_update(index_elements=keys, set_=rest)
        )

    async def save(self, record: Any) -> None:
        """Write all columns of a record that is there."""
        table = TABLES[type(record)]
        await self.connection.execute(
            update(table).where(table.c.id == record.id).values(row_of(record))
        )

    async def next_number(self, deployment_id: str, node: str) -> int:
        """Return the number of the node's next run; the node must be locked by this unit."""
        table = tables.RUNS
        query = select(func.max(table.c.number)).where(
            table.c.deployment == deployment_id, table.c.node == node
        )
        return int((await self.connection.execute(query)).scalar() or 0) + 1

    async def note(
        self, deployment_id: str, at: datetime, kind: str, body: Mapping[str, Any]
    ) -> int:
        """Write a line of history; returns its number. The deployment must be locked."""
        statement = insert(tables.HISTORY).values(
            deployment=deployment_id, at=at, kind=kind, body=dict(body)
        )
        result = await self.connection.execute(statement)
        self.noted.add(deployment_id)
        key = result.inserted_primary_key
        return int(key[0]) if key else 0

    async def remember(
        self, *, issuer: str, sub: str, key: str, digest: str, deployment: str, at: datetime
    ) -> None:
        """Note that this person sent this request under `key`."""
        await self.connection.execute(
            insert(tables.REPEATS).values(
                issuer=issuer, sub=sub, key=key, digest=digest, deployment=deployment, at=at
            )
        )

    async def drop_holds(self, attempt_id: str) -> None:
        """Forget which rules keep data for an attempt."""
        table = tables.HOLDS
        await self.connection.execute(delete(table).where(table.c.attempt == attempt_id))

    async def called(self, deployment_id: str, number: int) -> None:
        """Note that the callback URL was told, or never will be."""
        table = tables.CALLS
        await self.connection.execute(
            delete(table).where(table.c.deployment == deployment_id, table.c.number == number)
        )

    async def forget(self, deployment_id: str) -> None:
        """Remove a deployment with all that belongs to it."""
        for table in (
            tables.POLICIES, tables.PLACEMENTS, tables.ATTEMPTS, tables.RUNS, tables.NODES,
            tables.HISTORY, tables.REPEATS, tables.CALLS,
        ):  # fmt: skip
            await self.connection.execute(delete(table).where(table.c.deployment == deployment_id))
        table = tables.DEPLOYMENTS
        await self.connection.execute(delete(table).where(table.c.id == deployment_id))

    async def forget_policy(self, policy_id: str) -> None:
        """Remove a policy."""
        table = tables.POLICIES
        await self.connection.execute(delete(table).where(table.c.id == policy_id))

    async def forget_node(self, node_id: str) -> None:
        """Remove a node; its runs and attempts stay to be looked at."""
        table = tables.NODES
        await self.connection.execute(delete(table).where(table.c.id == node_id))

    async def start(self, kind: str, key: str, data: dict[str, Any] | None = None) -> None:
        """Begin durable work with this unit."""
        await self._work.start(self.connection, kind, key, data or {})

    async def wake(self, kind: str, key: str) -> None:
        """Let durable work look again."""
        await self._work.wake_in(self.connection, kind, key)

    async def tell(self, *events: Event) -> None:
        """Publish events with this unit."""
        await self._post.add(self.connection, *events)


class Store:
    """All units of work of the deployments service.

    Args:
        database: where the tables stand.
        post: accepts events.
    """

    def __init__(
        self,
        database: Database,
        post: Post,
    ) -> None:
        self._database, self._post = database, post
        self._work: Work | None = None
        self._after: Callable[[frozenset[str]], None] | None = None

    def use(self, work: Work) -> None:
        """Take what accepts durable work, which is made after this."""
        self._work = work

    def tell(self, after: Callable[[frozenset[str]], None]) -> None:
        """Take what is called after each unit with the deployments whose history grew."""
        self._after = after

    @asynccontextmanager
    async def unit(self) -> AsyncIterator[Unit]:
        """Open a unit of work: it stands when the block ends, and never was when it raises."""
        if self._work is None:
            raise RuntimeError("the store was not told what accepts durable work")
        async with self._database.begin() as connection:
            unit = Unit(connection, self._database, self._work, self._post)
            yield unit
        self._work.look()
        self._post.wake()
        if self._after is not None:
            self._after(frozenset(unit.noted))

    @asynccontextmanager
    async def view(self) -> AsyncIterator[View]:
        """Open a consistent view."""
        async with self._database.read() as connection:
            yield View(connection)
