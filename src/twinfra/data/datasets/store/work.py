"""The unit of work: all stores on one connection, the outbox and the engine beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from typing_extensions import override

from twinfra.core.bus import HUB, Event, Outbox
from twinfra.core.database import Connection, Database
from twinfra.core.time import Clock
from twinfra.core.workflow import Engine
from twinfra.data.datasets.ports import Tx
from twinfra.data.datasets.store.catalogue import SqlAccounts, SqlDids, SqlMeta, SqlScopes
from twinfra.data.datasets.store.contents import SqlContents, SqlTrees
from twinfra.data.datasets.store.replicas import SqlReplicaCare, SqlReplicas
from twinfra.data.datasets.store.requests import SqlRequestCare, SqlRequests
from twinfra.data.datasets.store.rses import SqlRseFacts, SqlRses
from twinfra.data.datasets.store.rules import SqlLocks, SqlPlacements, SqlRules
from twinfra.data.datasets.store.transfers import SqlTransfers
from twinfra.data.datasets.store.usage import SqlUsage


class SqlTx(Tx):
    """All stores on one connection."""

    def __init__(self, work: "SqlWork", connection: Connection) -> None:
        self._work, self._connection = work, connection
        self._events: list[Event] = []
        database = work.database
        self.accounts = SqlAccounts(database, connection)
        self.scopes = SqlScopes(database, connection)
        self.dids = SqlDids(database, connection)
        self.meta = SqlMeta(database, connection)
        self.contents = SqlContents(database, connection)
        self.trees = SqlTrees(connection)
        self.rses = SqlRses(database, connection)
        self.rse_facts = SqlRseFacts(database, connection)
        self.replicas = SqlReplicas(database, connection)
        self.care = SqlReplicaCare(connection)
        self.rules = SqlRules(database, connection)
        self.placements = SqlPlacements(connection)
        self.locks = SqlLocks(connection)
        self.requests = SqlRequests(database, connection)
        self.request_care = SqlRequestCare(database, connection)
        self.transfers = SqlTransfers(connection)
        self.usage = SqlUsage(database, connection)

    @override
    async def emit(
        self, type_: str, subject: str, data: dict[str, Any], *, group: str | None, site: str = HUB
    ) -> None:
        work = self._work
        event = Event(
            type_, work.source, subject, data, site=site, group=group, time=work.clock.now()
        )
        self._events.append(event)

    async def flush(self) -> None:
        """Write the events of this transaction, all at once, in the order in which they came."""
        await self._work.outbox.add(self._connection, *self._events)
        self._events.clear()

    @override
    async def start(self, kind: str, key: str, data: dict[str, Any]) -> None:
        await self._work.engine.start(self._connection, kind, key, data)

    @override
    async def wake(self, kind: str, key: str) -> None:
        await self._work.engine.wake_in(self._connection, kind, key)


class SqlWork:
    """Opens units of work on one database.

    Args:
        database: of the service.
        outbox: takes the events.
        clock: dates them.
        source: the service's base URL, as the events name it.
    """

    def __init__(self, database: Database, outbox: Outbox, clock: Clock, source: str) -> None:
        self.database, self.outbox, self.clock, self.source = database, outbox, clock, source
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The engine behind durable work."""
        if self._engine is None:
            raise RuntimeError("the engine is set in wiring, before the first unit of work")
        return self._engine

    def set_engine(self, engine: Engine) -> None:
        """Set the engine; its workflows need the service, which needs this."""
        self._engine = engine

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[SqlTx]:
        """Open a unit of work: committed when the block ends, rolled back when it raises."""
        async with self.database.begin() as connection:
            tx = SqlTx(self, connection)
            yield tx
            await tx.flush()
        self.outbox.wake()
        self.engine.look()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[SqlTx]:
        """Open a consistent view for reading; nothing is written."""
        async with self.database.read() as connection:
            yield SqlTx(self, connection)
