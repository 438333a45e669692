"""SQL of replicas: registered, listed and judged by the set."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, and_, case, delete, func, select, true, update
from sqlalchemy.sql.expression import ColumnElement
from typing_extensions import override

from twinfra.core.database import Connection, Database
from twinfra.data.datasets.model import ReplicaState
from twinfra.data.datasets.ports.rows import Owner, ReplicaRow, ReplicaSummary
from twinfra.data.datasets.ports.storage import ReplicaCareStore, ReplicaStore
from twinfra.data.datasets.store.rows import (
    DID_COLUMNS,
    chunks,
    did_row,
    files_below,
    select_dids,
)
from twinfra.data.datasets.store.tables import (
    bad_replicas,
    contents,
    dids,
    locks,
    replicas,
    rses,
)

AVAILABLE = ReplicaState.AVAILABLE.value


class SqlReplicas(ReplicaStore):
    """Replicas in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def register(
        self,
        rse_id: int,
        files: Mapping[int, tuple[int | None, str | None]],
        owner: Owner,
        state: ReplicaState,
        now: datetime,
    ) -> set[int]:
        changed: set[int] = set()
        for some in chunks(sorted(files), 500):
            values = [
                {
                    "did_id": did_id,
                    "rse_id": rse_id,
                    "state": state.value,
                    "path": files[did_id][1],
                    "size_bytes": files[did_id][0],
                    "account": owner.account,
                    "group_name": owner.group,
                    "deployment": owner.deployment,
                    "created_at": now,
                    "updated_at": now,
                }
                for did_id in some
            ]
            insert = self._database.insert(replicas)
            kept = ("path", "size_bytes", "account", "group_name", "deployment", "updated_at")
            insert = insert.on_conflict_do_update(
                index_elements=["did_id", "rse_id"],
                set_={
                    "state": insert.excluded.state,
                    "tombstone_at": None,
                    **{name: insert.excluded[name] for name in kept},
                },
                where=and_(
                    replicas.c.state != insert.excluded.state, replicas.c.state != AVAILABLE
                ),
            ).returning(replicas.c.did_id)
            changed |= set((await self._connection.execute(insert, values)).scalars())
        return changed

    @override
    async def each(
        self,
        root_ids: Collection[int],
        rse_ids: Collection[int] | None,
        states: Collection[ReplicaState] | None,
    ) -> AsyncIterator[ReplicaRow]:
        for some in chunks(root_ids):
            query = _listing(some, rse_ids, states)
            async with self._connection.stream(query) as rows:
                async for row in rows:
                    yield ReplicaRow(
                        did_row(row),
                        row.rse_id,
                        ReplicaState(row.replica_state) if row.replica_state else None,
                        row.path,
                    )

    @override
    async def at(self, rse_id: int, did_ids: Collection[int]) -> dict[int, ReplicaState]:
        found: dict[int, ReplicaState] = {}
        for some in chunks(did_ids):
            query = select(replicas.c.did_id, replicas.c.state).where(
                replicas.c.rse_id == rse_id, replicas.c.did_id.in_(some)
            )
            rows = await self._connection.execute(query)
            found |= {row.did_id: ReplicaState(row.state) for row in rows}
        return found

    @override
    async def set_state(
        self, rse_id: int, did_ids: Collection[int], state: ReplicaState, now: datetime
    ) -> set[int]:
        changed: set[int] = set()
        for some in chunks(did_ids):
            change = (
                update(replicas)
                .where(
                    replicas.c.rse_id == rse_id,
                    replicas.c.did_id.in_(some),
                    replicas.c.state != state.value,
                )
                .values(state=state.value, updated_at=now)
                .returning(replicas.c.did_id)
            )
            changed |= set((await self._connection.execute(change)).scalars())
        return changed

    @override
    async def remove(self, rse_id: int, did_ids: Collection[int]) -> None:
        for some in chunks(did_ids):
            await self._connection.execute(
                delete(replicas).where(replicas.c.rse_id == rse_id, replicas.c.did_id.in_(some))
            )

    @override
    async def summaries(self, dataset_ids: Sequence[int]) -> list[ReplicaSummary]:
        found: list[ReplicaSummary] = []
        for some in chunks(dataset_ids):
            rows = await self._connection.execute(_summary(contents.c.parent_id.in_(some)))
            found += [_summary_row(row) for row in rows]
        return found


class SqlReplicaCare(ReplicaCareStore):
    """What spoke against replicas, in SQL."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @override
    async def note_bad(
        self,
        rse_id: int,
        did_ids: Collection[int],
        state: str,
        reason: str,
        account: str,
        now: datetime,
    ) -> None:
        rows = [
            {
                "did_id": did_id,
                "rse_id": rse_id,
                "state": state,
                "reason": reason,
                "account": account,
                "created_at": now,
            }
            for did_id in did_ids
        ]
        if rows:
            await self._connection.execute(bad_replicas.insert(), rows)

    @override
    async def bad(self, rse_ids: Collection[int] | None, state: str) -> list[dict[str, Any]]:
        query = (
            select(
                dids.c.scope,
                dids.c.name,
                bad_replicas.c.rse_id,
                bad_replicas.c.reason,
                bad_replicas.c.account,
                bad_replicas.c.created_at,
            )
            .join(dids, dids.c.id == bad_replicas.c.did_id)
            .where(bad_replicas.c.state == state)
            .order_by(bad_replicas.c.id.desc())
        )
        if rse_ids is not None:
            query = query.where(bad_replicas.c.rse_id.in_(rse_ids))
        return [dict(row._mapping) for row in await self._connection.execute(query)]  # noqa: SLF001 - SQLAlchemy's documented name

    @override
    async def locked(self, rse_id: int, did_ids: Collection[int]) -> set[int]:
        found: set[int] = set()
        for some in chunks(did_ids):
            query = select(locks.c.did_id).where(locks.c.rse_id == rse_id, locks.c.did_id.in_(some))
            found |= set((await self._connection.execute(query)).scalars())
        return found

    @override
    async def set_tombstones(
        self, rse_id: int, did_ids: Collection[int], at: datetime | None
    ) -> None:
        for some in chunks(did_ids):
            await self._connection.execute(
                update(replicas)
                .where(replicas.c.rse_id == rse_id, replicas.c.did_id.in_(some))
                .values(tombstone_at=at)
            )

    @override
    async def datasets_at(self, rse_id: int) -> list[ReplicaSummary]:
        held = (
            select(contents.c.parent_id)
            .join(replicas, replicas.c.did_id == contents.c.child_id)
            .where(replicas.c.rse_id == rse_id)
            .distinct()
        )
        query = _summary(contents.c.parent_id.in_(held), rse_id)
        return [_summary_row(row) for row in await self._connection.execute(query)]


def _listing(
    root_ids: Sequence[int],
    rse_ids: Collection[int] | None,
    states: Collection[ReplicaState] | None,
) -> Select[Any]:
    below = files_below(root_ids)
    wanted = [replicas.c.did_id == dids.c.id]
    if rse_ids is not None:
        wanted.append(replicas.c.rse_id.in_(rse_ids))
    if states is not None:
        wanted.append(replicas.c.state.in_([state.value for state in states]))
    return (
        select(*DID_COLUMNS)
        .add_columns(replicas.c.rse_id, replicas.c.state.label("replica_state"), replicas.c.path)
        .select_from(
            dids.join(below, below.c.did_id == dids.c.id).outerjoin(replicas, and_(*wanted))
        )
        .order_by(dids.c.id, replicas.c.rse_id)
    )


def _summary(which: ColumnElement[bool], rse_id: int | None = None) -> Select[Any]:
    """Select, by dataset and storage (or at one), how much of the files is available."""
    whole = (
        select(
            contents.c.parent_id,
            func.count().label("length"),
            func.coalesce(func.sum(dids.c.size_bytes), 0).label("whole_bytes"),
        )
        .join(dids, dids.c.id == contents.c.child_id)
        .where(which)
        .group_by(contents.c.parent_id)
        .subquery("whole")
    )
    fine = replicas.c.state == AVAILABLE
    sums = (
        select(
            contents.c.parent_id,
            replicas.c.rse_id,
            func.sum(case((fine, 1), else_=0)).label("available_length"),
            func.sum(case((fine, func.coalesce(replicas.c.size_bytes, 0)), else_=0)).label(
                "available_bytes"
            ),
            func.max(replicas.c.updated_at).label("replica_updated_at"),
        )
        .join(replicas, replicas.c.did_id == contents.c.child_id)
        .where(which, true() if rse_id is None else replicas.c.rse_id == rse_id)
        .group_by(contents.c.parent_id, replicas.c.rse_id)
        .subquery("sums")
    )
    return (
        select_dids()
        .add_columns(
            sums.c.rse_id,
            sums.c.available_length,
            sums.c.available_bytes,
            sums.c.replica_updated_at,
            whole.c.length,
            whole.c.whole_bytes,
        )
        .join(sums, sums.c.parent_id == dids.c.id)
        .join(whole, whole.c.parent_id == dids.c.id)
        .join(rses, rses.c.id == sums.c.rse_id)
        .order_by(dids.c.id, rses.c.name)
    )


def _summary_row(row: Any) -> ReplicaSummary:
    return ReplicaSummary(
        dataset=did_row(row),
        rse_id=row.rse_id,
        available_length=int(row.available_length),
        available_bytes=int(row.available_bytes),
        length=int(row.length),
        size_bytes=int(row.whole_bytes),
        updated_at=row.replica_updated_at,
    )
