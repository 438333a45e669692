"""SQL of what stands in collections."""

from collections.abc import AsyncIterator, Collection, Sequence
from datetime import datetime

from sqlalchemy import delete, func, select
from typing_extensions import override

from twinfra.core.database import Connection, Database
from twinfra.data.datasets.ports.catalogue import ContentStore, TreeStore
from twinfra.data.datasets.ports.rows import DidRow
from twinfra.data.datasets.store.rows import (
    DATASET,
    above,
    chunks,
    collections_below,
    did_row,
    files_below,
    select_dids,
)
from twinfra.data.datasets.store.tables import contents, dids


class SqlContents(ContentStore):
    """One level of content in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def attach(self, parent_id: int, children: Sequence[DidRow], now: datetime) -> set[int]:
        added: set[int] = set()
        for some in chunks(children, 500):
            values = [
                {
                    "parent_id": parent_id,
                    "child_id": child.id,
                    "child_type": child.type.value,
                    "created_at": now,
                }
                for child in some
            ]
            insert = self._database.insert(contents).on_conflict_do_nothing()
            insert = insert.returning(contents.c.child_id)
            added |= set((await self._connection.execute(insert, values)).scalars())
        return added

    @override
    async def detach(self, parent_id: int, child_ids: Collection[int]) -> set[int]:
        removed: set[int] = set()
        for some in chunks(child_ids):
            statement = (
                delete(contents)
                .where(contents.c.parent_id == parent_id, contents.c.child_id.in_(some))
                .returning(contents.c.child_id)
            )
            removed |= set((await self._connection.execute(statement)).scalars())
        return removed

    @override
    async def children(self, parent_id: int) -> AsyncIterator[DidRow]:
        query = (
            select_dids()
            .join(contents, contents.c.child_id == dids.c.id)
            .where(contents.c.parent_id == parent_id)
            .order_by(dids.c.scope, dids.c.name)
        )
        async with self._connection.stream(query) as rows:
            async for row in rows:
                yield did_row(row)

    @override
    async def parents(self, child_ids: Collection[int]) -> list[tuple[int, DidRow]]:
        found: list[tuple[int, DidRow]] = []
        for some in chunks(child_ids):
            query = (
                select_dids()
                .add_columns(contents.c.child_id)
                .join(contents, contents.c.parent_id == dids.c.id)
                .where(contents.c.child_id.in_(some))
                .order_by(dids.c.id)
            )
            rows = await self._connection.execute(query)
            found += [(row.child_id, did_row(row)) for row in rows]
        return found


class SqlTrees(TreeStore):
    """All levels of content in SQL."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @override
    async def files(self, root_ids: Collection[int]) -> AsyncIterator[DidRow]:
        below = files_below(list(root_ids))
        query = select_dids().join(below, below.c.did_id == dids.c.id).order_by(dids.c.id)
        async with self._connection.stream(query) as rows:
            async for row in rows:
                yield did_row(row)

    @override
    async def totals(self, root_id: int) -> tuple[int, int]:
        below = files_below([root_id])
        query = select(func.count(), func.coalesce(func.sum(dids.c.size_bytes), 0)).select_from(
            dids.join(below, below.c.did_id == dids.c.id)
        )
        length, size_bytes = (await self._connection.execute(query)).one()
        return int(length), int(size_bytes)

    @override
    async def ancestors(self, did_ids: Collection[int]) -> set[int]:
        found: set[int] = set()
        for some in chunks(did_ids):
            found |= set((await self._connection.execute(select(above(some)))).scalars())
        return found

    @override
    async def datasets(self, root_id: int) -> list[DidRow]:
        chosen = collections_below([root_id], DATASET)
        query = select_dids().join(chosen, chosen.c.did_id == dids.c.id).order_by(dids.c.id)
        return [did_row(row) for row in await self._connection.execute(query)]
