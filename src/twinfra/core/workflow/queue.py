"""The table of durable work: what is due is taken under a lease, outcomes are written down."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    case,
    select,
    union_all,
    update,
)

from twinfra.core.database import Connection, Database, UTCDateTime
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.core.workflow.model import WorkState, Write

log = get_logger(__name__)

LOOK_AGAIN_S = 15.0
KEYS_AT_ONCE = 500
ACTIVE = (WorkState.RUNNING, WorkState.UNDOING)


def workflow_table(metadata: MetaData) -> Table:
    """Declare the table of durable work beside a service's other tables."""
    return Table(
        "workflow",
        metadata,
        Column("kind", String(64), primary_key=True),
        Column("key", String(255), primary_key=True),
        Column("state", String(16), nullable=False),
        Column("step", String(64), nullable=False),
        Column("attempt", Integer, nullable=False, default=0),
        Column("data", JSON, nullable=False),
        Column("reason", Text, nullable=False, default=""),
        Column("next_run_at", UTCDateTime, nullable=True),
        Column("lease_until", UTCDateTime, nullable=True),
        Column("wakes", Integer, nullable=False, default=0),
        Column("cancelled", Integer, nullable=False, default=0),
        Column("created_at", UTCDateTime, nullable=False),
        Column("updated_at", UTCDateTime, nullable=False),
        Index("workflow_due", "state", "next_run_at"),
    )


@dataclass(frozen=True)
class Held:
    """A row as the worker that holds its lease last saw it.

    ``stands`` is the step at which the row stands where its worker has gone on without writing
    that down; none: at ``step``.
    """

    kind: str
    key: str
    state: str
    step: str
    attempt: int
    data: dict[str, Any]
    reason: str
    wakes: int
    cancelled: int
    stands: str | None = None


NAMES = tuple(entry.name for entry in fields(Held) if entry.name != "stands")


class WorkQueue:
    """The table, seen by one engine.

    Args:
        database: of the service.
        table: from `workflow_table`.
        clock: tells when work is due.
        kinds: the kinds of work that the engine knows.
        lease: how long a worker that says nothing is believed to live.
    """

    def __init__(
        self, database: Database, table: Table, clock: Clock, kinds: Sequence[str], lease: timedelta
    ) -> None:
        self._database, self._clock, self.lease = database, clock, lease
        self._table = table
        held = table.c.lease_until.is_not(None)
        self._new = database.insert(table).on_conflict_do_nothing()
        self._woken = _woken(table)
        self._due = _due(table, kinds)
        self._leased = _one(table).values(lease_until=bindparam("until"))
        self._kept = self._leased.where(held)
        self._released = (
            _one(table).where(held).values(lease_until=None, next_run_at=bindparam("now"))
        )
        self._soonest = _soonest(table, kinds)
        self._changes: dict[tuple[str, ...], Any] = {}
        self._next = clock.now()

    async def add(
        self, connection: Connection, kind: str, key: str, step: str, data: dict[str, Any]
    ) -> None:
        """Add work that is due now; the same kind and key is added once."""
        now = self._clock.now()
        row = {
            "kind": kind, "key": key, "state": WorkState.RUNNING, "attempt": 0, "data": data,
            "step": step, "reason": "", "next_run_at": now,
            "wakes": 0, "cancelled": 0, "created_at": now, "updated_at": now,
        }  # fmt: skip
        await connection.execute(self._new, row)

    async def wake(self, connection: Connection, kind: str, keys: Sequence[str]) -> None:
        """Make work due now, or as soon as its present step is over."""
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            woken = {"of_kind": kind, "some": some, "now": self._clock.now()}
            await connection.execute(self._woken, woken)

    async def cancel(self, kind: str, key: str) -> None:
        """Note that work is not wanted any more."""
        table = self._table
        async with self._database.begin() as connection:
            await connection.execute(
                update(table)
                .where(table.c.kind == kind, table.c.key == key)
                .where(table.c.state == WorkState.RUNNING)
                .values(cancelled=1, next_run_at=self._clock.now(), wakes=table.c.wakes + 1)
            )

    async def state(self, kind: str, key: str) -> tuple[WorkState, str] | None:
        """Return state and reason of a piece of work, or none."""
        table = self._table
        async with self._database.read() as connection:
            query = select(table.c.state, table.c.reason).where(
                table.c.kind == kind, table.c.key == key
            )
            row = (await connection.execute(query)).one_or_none()
        return (WorkState(row.state), row.reason) if row else None

    async def void_leases(self) -> None:
        """End all leases: no other engine lives."""
        async with self._database.begin() as connection:
            await connection.execute(update(self._table).values(lease_until=None))

    async def take(self, most: int) -> tuple[list[Held], datetime | None]:
        """Take up to `most` pieces of due work; if that is all, say when there may be more."""
        now = self._clock.now()
        latest = now + timedelta(seconds=LOOK_AGAIN_S)
        async with self._database.begin() as connection:
            found = await connection.execute(self._due, {"now": now, "most": most})
            taken = [Held(*row) for row in found]
            if taken:  # one statement for all: each is a round trip
                until = now + self.lease
                rows = [{**_key(row), "until": until} for row in taken]
                await connection.execute(self._leased, rows)
            if len(taken) == most:
                return taken, None
            if not now < self._next <= latest:  # passed, or the clock was set back
                self._next = latest  # `expect` may lower it while the answer is on its way
                waiting: list[datetime] = [*(await connection.execute(self._soonest)).scalars()]
                self._next = min([self._next, *waiting])
        return taken, self._next

    def expect(self, moment: datetime) -> None:
        """Know of work that will be due then."""
        self._next = min(self._next, moment)

    async def keep(self, row: Held) -> None:
        """Make the lease last; not after it was given back: the row would wait for its end."""
        async with self._database.begin() as connection:
            kept = {**_key(row), "until": self._clock.now() + self.lease}
            await connection.execute(self._kept, kept)

    async def release(self, row: Held) -> None:
        """Give the lease back, wherever the work has come; it is due at once."""
        async with self._database.begin() as connection:
            free = {**_key(row), "now": self._clock.now()}
            await connection.execute(self._released, free)

    async def was_cancelled(self, row: Held) -> bool:
        """Say whether work is not wanted any more."""
        table = self._table
        async with self._database.read() as connection:
            query = select(table.c.cancelled).where(
                table.c.kind == row.kind, table.c.key == row.key
            )
            return bool((await connection.execute(query)).scalar_one_or_none())

    async def write(
        self,
        row: Held,
        *,
        next_run_at: datetime | None,
        unless_woken: bool = False,
        writes: Sequence[Write] = (),
        **values: Any,
    ) -> Any:
        """Write an outcome, and give the lease back unless the values say otherwise.

        A wake that came while the step ran wins over the pause that the step asked for. Work that
        another worker has brought past this step meanwhile, or that is gone, stays as it is, and
        then none of `writes` is done.

        Returns:
            What the row has now of ``wakes`` and ``cancelled``; none where it stayed as it was.
        """
        now = self._clock.now()
        values = {"lease_until": None, "updated_at": now, **values, "next_run_at": next_run_at}
        names = tuple(values)
        change = self._changes.get(names)
        if change is None:
            change = self._changes[names] = _change(self._table, names)
        parameters = {
            **_key(row), "of_step": row.stands or row.step, "of_state": row.state,
            "woken_since": row.wakes if unless_woken else None, "now": now,
            **{f"new_{name}": value for name, value in values.items()},
        }  # fmt: skip
        async with self._database.begin() as connection:
            found = (await connection.execute(change, parameters)).one_or_none()
            for write in writes if found is not None else ():
                await write(connection)
        if found is None:
            log.warning("workflow_outcome_late", kind=row.kind, key=row.key, step=row.step)
        return found


# Statements are built once: building one costs more than SQLite needs to carry it out.


def _due(table: Table, kinds: Sequence[str]) -> Any:
    now = bindparam("now", type_=UTCDateTime)
    return (
        select(*(table.c[name] for name in NAMES))
        .where(table.c.state.in_(ACTIVE), table.c.next_run_at <= now)
        .where((table.c.lease_until.is_(None)) | (table.c.lease_until <= now))
        .where(table.c.kind.in_(kinds))
        .order_by(table.c.next_run_at)
        .limit(bindparam("most"))
        .with_for_update(skip_locked=True)
    )


def _woken(table: Table) -> Any:
    return (
        update(table)
        .where(table.c.kind == bindparam("of_kind"), table.c.state.in_(ACTIVE))
        .where(table.c.key.in_(bindparam("some", expanding=True)))
        .values(next_run_at=bindparam("now"), wakes=table.c.wakes + 1)
    )


def _soonest(table: Table, kinds: Sequence[str]) -> Any:
    """Find when there may be work again; what a lost worker held is found by the next look.

    One search of the index a state: ten thousand that wait are not sorted at each look.
    """
    first = [
        select(table.c.next_run_at)
        .where(table.c.state == state, table.c.next_run_at.is_not(None))
        .where(table.c.lease_until.is_(None), table.c.kind.in_(kinds))
        .order_by(table.c.next_run_at)
        .limit(1)
        .subquery()
        for state in ACTIVE
    ]
    return union_all(*(select(each) for each in first))


def _change(table: Table, names: Sequence[str]) -> Any:
    """Change columns of a row that stands where its worker took it; a pause yields to a wake."""
    values: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    values["next_run_at"] = case(
        (
            table.c.wakes != bindparam("woken_since", type_=Integer),
            bindparam("now", type_=UTCDateTime),
        ),
        else_=bindparam("new_next_run_at", type_=UTCDateTime),
    )
    return (
        _one(table)
        .where(table.c.step == bindparam("of_step"), table.c.state == bindparam("of_state"))
        .values(values)
        .returning(table.c.wakes, table.c.cancelled, table.c.next_run_at)
    )


def _key(row: Held) -> dict[str, Any]:
    return {"of_kind": row.kind, "of_key": row.key}


def _one(table: Table) -> Any:
    here = (table.c.kind == bindparam("of_kind"), table.c.key == bindparam("of_key"))
    return update(table).where(*here)
