"""SQL of rules and of the locks that they become."""

from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Select,
    and_,
    case,
    cast,
    delete,
    exists,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.sql.expression import CTE, ColumnElement
from typing_extensions import override

from twinfra.core.database import Connection, Database
from twinfra.data.datasets.model import Did, DidType, Grouping, LockState, ReplicaState
from twinfra.data.datasets.model.placement import Presence
from twinfra.data.datasets.ports.keeping import LockStore, PlacementStore, RuleStore
from twinfra.data.datasets.ports.rows import LockCounts, LockRow, RuleRow
from twinfra.data.datasets.store.rows import (
    chunks,
    files_below,
    rule_row,
    rule_values,
    was_inserted,
)
from twinfra.data.datasets.store.tables import (
    contents,
    dids,
    locks,
    placements,
    replicas,
    rules,
    wanted,
)

COLUMNS = {column.name: column for column in rules.columns} | {
    "scope": dids.c.scope,
    "name": dids.c.name,
}


class SqlRules(RuleStore):
    """Rules in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def add(self, rule: RuleRow) -> bool:
        insert = self._database.insert(rules).values(rule_values(rule)).on_conflict_do_nothing()
        return await was_inserted(self._connection, insert, rules.c.id)

    @override
    async def get(self, rule_id: str, *, lock: bool = False) -> RuleRow | None:
        query = _rules().where(rules.c.id == rule_id)
        if lock:
            query = query.with_for_update(of=rules)
        row = (await self._connection.execute(query)).one_or_none()
        return rule_row(row) if row else None

    @override
    async def each(self, filters: Mapping[str, Any]) -> AsyncIterator[RuleRow]:
        query = _rules().order_by(rules.c.created_at.desc(), rules.c.id)
        for key, value in filters.items():
            query = query.where(COLUMNS[key] == value)
        async with self._connection.stream(query) as rows:
            async for row in rows:
                yield rule_row(row)

    @override
    async def update(self, rule_id: str, values: Mapping[str, Any]) -> None:
        await self._connection.execute(update(rules).where(rules.c.id == rule_id).values(**values))

    @override
    async def remove(self, rule_id: str) -> None:
        await self._connection.execute(delete(rules).where(rules.c.id == rule_id))

    @override
    async def on(self, did_ids: Collection[int]) -> list[str]:
        found: list[str] = []
        for some in chunks(did_ids):
            query = select(rules.c.id).where(rules.c.did_id.in_(some)).order_by(rules.c.id)
            found += (await self._connection.execute(query)).scalars()
        return found


class SqlPlacements(PlacementStore):
    """Rules into locks, in SQL: files are staged, clusters chosen, locks made in one statement."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @override
    async def stage(self, rule: RuleRow) -> set[int]:
        await self._connection.execute(delete(wanted).where(wanted.c.rule_id == rule.id))
        below = files_below([rule.did_id])
        if rule.did_type is not DidType.FILE:
            gone = locks.c.did_id.not_in(select(below.c.did_id))
            await self._connection.execute(delete(locks).where(locks.c.rule_id == rule.id, gone))
        have = (
            select(locks.c.did_id, func.count().label("count"))
            .where(locks.c.rule_id == rule.id)
            .group_by(locks.c.did_id)
            .subquery("have")
        )
        lacking = (
            select(literal(rule.id), below.c.did_id, _cluster(rule.grouping, below))
            .select_from(below.outerjoin(have, have.c.did_id == below.c.did_id))
            .where(func.coalesce(have.c.count, 0) < rule.copies)
        )
        await self._connection.execute(
            wanted.insert().from_select(["rule_id", "did_id", "cluster"], lacking)
        )
        query = select(wanted.c.cluster).where(wanted.c.rule_id == rule.id).distinct()
        return set((await self._connection.execute(query)).scalars())

    @override
    async def presence(
        self, rule_id: str, rse_ids: Collection[int]
    ) -> dict[int, dict[int, Presence]]:
        size = func.coalesce(dids.c.size_bytes, 0)
        there = replicas.c.state == ReplicaState.AVAILABLE.value
        coming = replicas.c.state == ReplicaState.COPYING.value
        query = (
            select(
                wanted.c.cluster,
                replicas.c.rse_id,
                func.sum(case((there, size), else_=0)).label("available"),
                func.sum(case((there, 1), else_=0)).label("files"),
                func.sum(case((coming, size), else_=0)).label("coming"),
            )
            .join(replicas, replicas.c.did_id == wanted.c.did_id)
            .join(dids, dids.c.id == wanted.c.did_id)
            .where(wanted.c.rule_id == rule_id, replicas.c.rse_id.in_(rse_ids))
            .group_by(wanted.c.cluster, replicas.c.rse_id)
        )
        found: dict[int, dict[int, Presence]] = defaultdict(dict)
        for row in await self._connection.execute(query):
            found[row.cluster][row.rse_id] = Presence(
                int(row.available), int(row.coming), int(row.files)
            )
        return found

    @override
    async def held(self, rule_id: str, grouping: Grouping) -> dict[int, set[int]]:
        clusters = select(wanted.c.cluster).where(wanted.c.rule_id == rule_id).distinct()
        mine = locks.c.rule_id == rule_id
        if grouping is Grouping.ALL:
            query = select(literal(0).label("cluster"), locks.c.rse_id).where(mine)
        elif grouping is Grouping.NONE:
            query = select(locks.c.did_id.label("cluster"), locks.c.rse_id).where(
                mine, locks.c.did_id.in_(clusters)
            )
        else:
            query = (
                select(contents.c.parent_id.label("cluster"), locks.c.rse_id)
                .join(contents, contents.c.child_id == locks.c.did_id)
                .where(mine, contents.c.parent_id.in_(clusters))
            )
        found: dict[int, set[int]] = defaultdict(set)
        for row in await self._connection.execute(query.distinct()):
            found[row.cluster].add(row.rse_id)
        return found

    @override
    async def place(self, rule_id: str, choices: Sequence[tuple[int, int]], now: datetime) -> None:
        for some in chunks(choices, 5000):
            rows = [{"rule_id": rule_id, "cluster": c, "rse_id": rse} for c, rse in some]
            await self._connection.execute(placements.insert(), rows)
        there = and_(replicas.c.did_id == wanted.c.did_id, replicas.c.rse_id == placements.c.rse_id)
        available = replicas.c.state == ReplicaState.AVAILABLE.value
        state = case((available, LockState.OK.value), else_=LockState.REPLICATING.value)
        held = exists().where(
            locks.c.rule_id == rule_id,
            locks.c.did_id == wanted.c.did_id,
            locks.c.rse_id == placements.c.rse_id,
        )
        made = (
            select(
                literal(rule_id),
                wanted.c.did_id,
                placements.c.rse_id,
                state,
                dids.c.size_bytes,
                literal(now, type_=locks.c.created_at.type),
            )
            .select_from(
                wanted.join(
                    placements,
                    and_(
                        placements.c.rule_id == wanted.c.rule_id,
                        placements.c.cluster == wanted.c.cluster,
                    ),
                )
                .join(dids, dids.c.id == wanted.c.did_id)
                .outerjoin(replicas, there)
            )
            .where(wanted.c.rule_id == rule_id, ~held)
        )
        columns = ["rule_id", "did_id", "rse_id", "state", "size_bytes", "created_at"]
        await self._connection.execute(locks.insert().from_select(columns, made))
        await self._connection.execute(delete(placements).where(placements.c.rule_id == rule_id))
        await self._connection.execute(delete(wanted).where(wanted.c.rule_id == rule_id))


class SqlLocks(LockStore):
    """Locks in SQL."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @override
    async def each(
        self, *, rule_id: str | None = None, did_ids: Collection[int] | None = None
    ) -> AsyncIterator[LockRow]:
        query = (
            select(locks, dids.c.scope, dids.c.name)
            .join(dids, dids.c.id == locks.c.did_id)
            .order_by(locks.c.did_id, locks.c.rse_id, locks.c.rule_id)
        )
        if rule_id is not None:
            query = query.where(locks.c.rule_id == rule_id)
        if did_ids is not None:
            below = files_below(list(did_ids))
            query = query.join(below, below.c.did_id == locks.c.did_id)
        async with self._connection.stream(query) as rows:
            async for row in rows:
                yield LockRow(
                    row.rule_id,
                    Did(row.scope, row.name),
                    row.rse_id,
                    LockState(row.state),
                    row.size_bytes,
                    row.reason,
                )

    @override
    async def set_state(
        self, rse_id: int, did_ids: Collection[int], state: str, reason: str | None = None
    ) -> set[str]:
        touched: set[str] = set()
        for some in chunks(did_ids):
            meant = locks.c.rse_id == rse_id, locks.c.did_id.in_(some)
            query = select(locks.c.rule_id).where(*meant).distinct()
            touched |= set((await self._connection.execute(query)).scalars())
        if not touched:
            return touched
        held = select(rules.c.id).where(rules.c.id.in_(touched)).order_by(rules.c.id)
        await self._connection.execute(held.with_for_update())
        for some in chunks(did_ids):
            meant = locks.c.rse_id == rse_id, locks.c.did_id.in_(some)
            change = update(locks).where(*meant).values(state=state, reason=reason)
            await self._connection.execute(change)
        return touched

    @override
    async def counts(self, rule_ids: Collection[str]) -> dict[str, LockCounts]:
        found = dict.fromkeys(rule_ids, LockCounts())
        for some in chunks(rule_ids):
            query = (
                select(
                    locks.c.rule_id,
                    _count(LockState.OK),
                    _count(LockState.REPLICATING),
                    _count(LockState.STUCK),
                )
                .where(locks.c.rule_id.in_(some))
                .group_by(locks.c.rule_id)
            )
            for rule_id, fine, moving, stuck in await self._connection.execute(query):
                found[rule_id] = LockCounts(int(fine), int(moving), int(stuck))
        return found

    @override
    async def reasons(self, rule_id: str, limit: int) -> list[str]:
        query = (
            select(locks.c.reason)
            .where(
                locks.c.rule_id == rule_id,
                locks.c.state == LockState.STUCK.value,
                locks.c.reason.is_not(None),
            )
            .group_by(locks.c.reason)
            .order_by(func.min(locks.c.did_id))
            .limit(limit)
        )
        return [str(reason) for reason in (await self._connection.execute(query)).scalars()]

    @override
    async def released(self, rule_id: str) -> list[tuple[int, int]]:
        other = locks.alias("other")
        shared = exists().where(
            other.c.did_id == locks.c.did_id,
            other.c.rse_id == locks.c.rse_id,
            other.c.rule_id != rule_id,
        )
        query = select(locks.c.rse_id, locks.c.did_id).where(locks.c.rule_id == rule_id, ~shared)
        rows = await self._connection.execute(query)
        return [(row.rse_id, row.did_id) for row in rows]


def _rules() -> Select[Any]:
    return select(rules, dids.c.scope, dids.c.name, dids.c.type).join(
        dids, dids.c.id == rules.c.did_id
    )


def _cluster(grouping: Grouping, files: CTE) -> ColumnElement[int]:
    """Return what a file stays together with: everything, its dataset, or nothing."""
    if grouping is Grouping.ALL:
        return cast(literal(0), BigInteger)
    return files.c.did_id if grouping is Grouping.NONE else files.c.dataset_id


def _count(state: LockState) -> ColumnElement[int]:
    return func.sum(case((locks.c.state == state.value, 1), else_=0))
