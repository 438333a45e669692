"""SQL of wanted replicas on their way; their submissions are in ``transfers``."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, delete, exists, func, literal, or_, select, update
from sqlalchemy.sql.expression import ColumnElement
from typing_extensions import override

from twinfra.core.database import Connection, Database
from twinfra.data.datasets.model import LockState, ReplicaState, RequestState
from twinfra.data.datasets.ports.keeping import RequestCareStore, RequestStore
from twinfra.data.datasets.ports.rows import RequestRow, SourceRow
from twinfra.data.datasets.store.rows import DID_COLUMNS, chunks, did_row
from twinfra.data.datasets.store.tables import (
    dids,
    locks,
    replicas,
    requests,
    rules,
    source_failures,
)

ABANDONED = "ABANDONED"
QUEUED = RequestState.QUEUED.value
REQUEST_COLUMNS = (
    requests.c.id,
    requests.c.rse_id,
    requests.c.rule_id,
    requests.c.attempts,
    requests.c.state,
)
WAITING = (QUEUED, RequestState.NO_SOURCES.value, RequestState.FAILED.value)


class SqlRequests(RequestStore):
    """Requests in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def enqueue(self, rule_id: str, now: datetime) -> int:
        moment = literal(now, type_=requests.c.created_at.type)
        known = exists().where(
            requests.c.did_id == locks.c.did_id, requests.c.rse_id == locks.c.rse_id
        )
        open_locks = (
            locks.c.rule_id == rule_id,
            locks.c.state == LockState.REPLICATING.value,
            ~known,
        )
        await self._mark_copying(open_locks, now)
        made = select(
            locks.c.did_id, locks.c.rse_id, literal(rule_id), literal(QUEUED), moment, moment
        ).where(*open_locks)
        columns = ["did_id", "rse_id", "rule_id", "state", "created_at", "updated_at"]
        insert = (
            self._database.insert(requests)
            .from_select(columns, made)
            .on_conflict_do_nothing()
            .returning(requests.c.id)
        )
        return len((await self._connection.execute(insert)).scalars().all())

    async def _mark_copying(self, open_locks: Sequence[ColumnElement[bool]], now: datetime) -> None:
        moment = literal(now, type_=replicas.c.created_at.type)
        owner = (rules.c.account, rules.c.group_name, rules.c.deployment)
        made = (
            select(
                locks.c.did_id,
                locks.c.rse_id,
                literal(ReplicaState.COPYING.value),
                locks.c.size_bytes,
                *owner,
                moment,
                moment,
            )
            .join(rules, rules.c.id == locks.c.rule_id)
            .where(*open_locks)
        )
        columns = [
            "did_id", "rse_id", "state", "size_bytes", "account", "group_name", "deployment",
            "created_at", "updated_at",
        ]  # fmt: skip
        insert = self._database.insert(replicas).from_select(columns, made)
        await self._connection.execute(
            insert.on_conflict_do_update(
                index_elements=["did_id", "rse_id"],
                set_={"state": insert.excluded.state, "path": None, "updated_at": now},
                where=replicas.c.state != ReplicaState.AVAILABLE.value,
            )
        )

    @override
    async def due(self, rule_id: str, now: datetime, limit: int) -> list[RequestRow]:
        ready = or_(requests.c.next_try_at.is_(None), requests.c.next_try_at <= now)
        query = (
            select(*REQUEST_COLUMNS, *DID_COLUMNS)
            .join(dids, dids.c.id == requests.c.did_id)
            .where(requests.c.rule_id == rule_id, requests.c.state == QUEUED, ready)
            .order_by(requests.c.id)
            .limit(limit)
        )
        return [request_row(row) for row in await self._connection.execute(query)]

    @override
    async def sources(
        self, request_ids: Collection[int], rse_ids: Collection[int]
    ) -> list[SourceRow]:
        found: list[SourceRow] = []
        for some in chunks(request_ids):
            query = (
                select(
                    requests.c.id,
                    replicas.c.rse_id,
                    replicas.c.path,
                    func.coalesce(source_failures.c.strikes, 0).label("strikes"),
                    func.coalesce(source_failures.c.excluded, literal(value=False)).label(
                        "excluded"
                    ),
                )
                .join(replicas, replicas.c.did_id == requests.c.did_id)
                .outerjoin(
                    source_failures,
                    and_(
                        source_failures.c.request_id == requests.c.id,
                        source_failures.c.rse_id == replicas.c.rse_id,
                    ),
                )
                .where(
                    requests.c.id.in_(some),
                    replicas.c.rse_id != requests.c.rse_id,
                    replicas.c.rse_id.in_(rse_ids),
                    replicas.c.state == ReplicaState.AVAILABLE.value,
                )
            )
            rows = await self._connection.execute(query)
            found += [
                SourceRow(row.id, row.rse_id, row.path, row.strikes, bool(row.excluded))
                for row in rows
            ]
        return found

    @override
    async def set_state(
        self,
        request_ids: Collection[int],
        state: str,
        *,
        now: datetime,
        reason: str | None = None,
        next_try_at: datetime | None = None,
        failed: bool = False,
    ) -> None:
        for some in chunks(request_ids):
            await self._connection.execute(
                update(requests)
                .where(requests.c.id.in_(some))
                .values(
                    state=state,
                    reason=reason,
                    next_try_at=next_try_at,
                    transfer_id=None,
                    attempts=requests.c.attempts + (1 if failed else 0),
                    updated_at=now,
                )
            )

    @override
    async def remove(self, request_ids: Collection[int]) -> None:
        for some in chunks(request_ids):
            await self._connection.execute(delete(requests).where(requests.c.id.in_(some)))

    @override
    async def next_try(self, rule_id: str) -> datetime | None:
        query = (
            select(requests.c.next_try_at)
            .where(
                requests.c.rule_id == rule_id,
                requests.c.state == QUEUED,
                requests.c.next_try_at.is_not(None),
            )
            .order_by(requests.c.next_try_at)
            .limit(1)
        )
        return (await self._connection.execute(query)).scalar_one_or_none()


class SqlRequestCare(RequestCareStore):
    """What happens to requests from outside, in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def note_failure(
        self, request_id: int, rse_id: int, *, excluded: bool, reason: str
    ) -> int:
        insert = self._database.insert(source_failures).values(
            {
                "request_id": request_id,
                "rse_id": rse_id,
                "strikes": 1,
                "excluded": excluded,
                "reason": reason,
            }
        )
        insert = insert.on_conflict_do_update(
            index_elements=["request_id", "rse_id"],
            set_={
                "strikes": source_failures.c.strikes + 1,
                "excluded": or_(source_failures.c.excluded, insert.excluded.excluded),
                "reason": insert.excluded.reason,
            },
        ).returning(source_failures.c.strikes)
        return int((await self._connection.execute(insert)).scalar_one())

    @override
    async def failures(self, request_ids: Collection[int]) -> dict[int, list[tuple[int, str]]]:
        found: dict[int, list[tuple[int, str]]] = {}
        for some in chunks(request_ids):
            query = select(source_failures).where(source_failures.c.request_id.in_(some))
            for row in await self._connection.execute(query):
                found.setdefault(row.request_id, []).append((row.rse_id, row.reason))
        return found

    @override
    async def revive(self, did_ids: Collection[int], now: datetime) -> set[str]:
        touched: set[str] = set()
        for some in chunks(did_ids):
            query = select(requests.c.id, requests.c.rse_id, requests.c.did_id).where(
                requests.c.did_id.in_(some),
                requests.c.state.in_([RequestState.NO_SOURCES.value, RequestState.FAILED.value]),
            )
            waiting = (await self._connection.execute(query)).all()
            touched |= await self._requeue([row.id for row in waiting], now)
        return touched

    @override
    async def repair(self, rule_id: str, now: datetime) -> int:
        mine = and_(
            locks.c.rule_id == rule_id,
            locks.c.did_id == requests.c.did_id,
            locks.c.rse_id == requests.c.rse_id,
        )
        query = (
            select(requests.c.id)
            .join(locks, mine)
            .where(requests.c.state.in_([RequestState.NO_SOURCES.value, RequestState.FAILED.value]))
        )
        ids = (await self._connection.execute(query)).scalars().all()
        await self._requeue(list(ids), now)
        return len(ids)

    async def _requeue(self, request_ids: Sequence[int], now: datetime) -> set[str]:
        touched: set[str] = set()
        for some in chunks(request_ids):
            await self._connection.execute(
                delete(source_failures).where(source_failures.c.request_id.in_(some))
            )
            change = (
                update(requests)
                .where(requests.c.id.in_(some))
                .values(state=QUEUED, attempts=0, next_try_at=None, updated_at=now)
                .returning(requests.c.rule_id)
            )
            touched |= set((await self._connection.execute(change)).scalars())
            stuck = exists().where(
                requests.c.id.in_(some),
                requests.c.did_id == locks.c.did_id,
                requests.c.rse_id == locks.c.rse_id,
            )
            reopened = (
                update(locks)
                .where(locks.c.state == LockState.STUCK.value, stuck)
                .values(state=LockState.REPLICATING.value)
                .returning(locks.c.rule_id)
            )
            touched |= set((await self._connection.execute(reopened)).scalars())
        return touched

    @override
    async def abandon(self, rule_id: str, now: datetime) -> tuple[set[str], set[str]]:
        other = (
            select(func.min(locks.c.rule_id))
            .where(
                locks.c.did_id == requests.c.did_id,
                locks.c.rse_id == requests.c.rse_id,
                locks.c.rule_id != rule_id,
            )
            .correlate(requests)
            .scalar_subquery()
        )
        handed = (
            update(requests)
            .where(requests.c.rule_id == rule_id, other.is_not(None))
            .values(rule_id=other, updated_at=now)
            .returning(requests.c.rule_id)
        )
        heirs = set((await self._connection.execute(handed)).scalars())
        mine = requests.c.rule_id == rule_id
        waiting = select(requests.c.did_id, requests.c.rse_id).where(
            mine, requests.c.state.in_(WAITING)
        )
        for did_id, rse_id in (await self._connection.execute(waiting)).all():
            await self._connection.execute(
                delete(replicas).where(
                    replicas.c.did_id == did_id,
                    replicas.c.rse_id == rse_id,
                    replicas.c.state == ReplicaState.COPYING.value,
                )
            )
        await self._connection.execute(delete(requests).where(mine, requests.c.state.in_(WAITING)))
        left = (
            update(requests)
            .where(mine)
            .values(state=ABANDONED, updated_at=now)
            .returning(requests.c.transfer_id)
        )
        under_way = {one for one in (await self._connection.execute(left)).scalars() if one}
        return under_way, heirs

    @override
    async def satisfied(self, rse_id: int, did_ids: Collection[int]) -> None:
        for some in chunks(did_ids):
            await self._connection.execute(
                delete(requests).where(
                    requests.c.rse_id == rse_id,
                    requests.c.did_id.in_(some),
                    requests.c.state.in_(WAITING),
                )
            )


def request_row(row: Any) -> RequestRow:
    """Read the columns of `REQUEST_COLUMNS` and of the file."""
    return RequestRow(
        id=row.id,
        file=did_row(row),
        rse_id=row.rse_id,
        rule_id=row.rule_id,
        attempts=row.attempts,
        abandoned=row.state == ABANDONED,
    )
