"""Reading deployments: single records, lists and pages within one consistent view."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Select, Table, and_, func, or_, select

from twinfra.core.database import Connection
from twinfra.orchestration.deployments.model.records import (
    Attempt,
    Deployment,
    Entry,
    Hold,
    Node,
    NodeRun,
    Placement,
    Policy,
)
from twinfra.orchestration.deployments.model.states import AttemptState, RunState, Status
from twinfra.orchestration.deployments.store import tables
from twinfra.orchestration.deployments.store.rows import TABLES, record_of

T = TypeVar("T")


@dataclass(frozen=True)
class Wanted:
    """Which deployments a list shows.

    Attributes:
        issuer: with `sub`, the person who asks; none of both: everything is visible.
        groups: whose deployments they may see besides their own.
        owner: only those of this (issuer, sub).
        group: only those of this group.
        status: only those in this status; none: all but deleted ones.
        oldest_first: the order; newest first otherwise.
    """

    issuer: str | None = None
    sub: str | None = None
    groups: tuple[str, ...] = ()
    owner: tuple[str, str] | None = None
    group: str | None = None
    status: Status | None = None
    oldest_first: bool = False


class View:
    """One consistent look at the tables."""

    lock = False

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def deployment(self, deployment_id: str) -> Deployment | None:
        """Return a deployment, or none."""
        return await self._one(Deployment, tables.DEPLOYMENTS.c.id == deployment_id)

    async def deployments(
        self, wanted: Wanted, *, offset: int, limit: int
    ) -> tuple[list[Deployment], int]:
        """Return one page of what `wanted` shows, and how many there are on all pages."""
        table, condition = tables.DEPLOYMENTS, _shown(wanted)
        stamp, key = table.c.created_at, table.c.id
        ordered = (stamp, key) if wanted.oldest_first else (stamp.desc(), key)
        query = select(table).where(condition).order_by(*ordered).offset(offset).limit(limit)
        count = select(func.count()).select_from(table).where(condition)
        total = (await self.connection.execute(count)).scalar_one()
        return await self._read(Deployment, query), int(total)

    async def deleted_before(self, moment: Any, *, limit: int) -> list[str]:
        """Return deployments whose deletion was finished before `moment`."""
        table = tables.DEPLOYMENTS
        query = (
            select(table.c.id)
            .where(table.c.status == Status.DELETE_COMPLETE, table.c.updated_at < moment)
            .limit(limit)
        )
        return [row.id for row in await self.connection.execute(query)]

    async def nodes(self, deployment_id: str) -> list[Node]:
        """Return the nodes of a deployment in the order of building."""
        table = tables.NODES
        query = select(table).where(table.c.deployment == deployment_id).order_by(table.c.place)
        return await self._read(Node, query)

    async def node(self, node_id: str) -> Node | None:
        """Return a node by its id, or none."""
        return await self._one(Node, tables.NODES.c.id == node_id)

    async def node_named(self, deployment_id: str, name: str) -> Node | None:
        """Return a node by its name in the template, or none."""
        table = tables.NODES
        return await self._one(
            Node, and_(table.c.deployment == deployment_id, table.c.name == name)
        )

    async def run(self, run_id: str) -> NodeRun | None:
        """Return a run, or none."""
        return await self._one(NodeRun, tables.RUNS.c.id == run_id)

    async def runs(self, deployment_id: str, node: str | None = None) -> list[NodeRun]:
        """Return the runs of a deployment, or of one of its nodes, oldest first."""
        table = tables.RUNS
        condition = table.c.deployment == deployment_id
        if node is not None:
            condition = and_(condition, table.c.node == node)
        query = select(table).where(condition).order_by(table.c.created_at, table.c.number)
        return await self._read(NodeRun, query)

    async def runs_in(self, *wanted: RunState) -> list[NodeRun]:
        """Return all runs in one of these states."""
        table = tables.RUNS
        return await self._read(NodeRun, select(table).where(table.c.state.in_(wanted)))

    async def attempt(self, attempt_id: str) -> Attempt | None:
        """Return an attempt, or none."""
        return await self._one(Attempt, tables.ATTEMPTS.c.id == attempt_id)

    async def attempts(
        self, *, run: str | None = None, deployment: str = "", newest: int = 10_000
    ) -> list[Attempt]:
        """Return the newest attempts of a run, or of a whole deployment, in their order."""
        table = tables.ATTEMPTS
        condition = table.c.run == run if run else table.c.deployment == deployment
        query = select(table).where(condition)
        query = query.order_by(table.c.created_at.desc(), table.c.number.desc()).limit(newest)
        return (await self._read(Attempt, query))[::-1]

    async def open_attempts(self) -> list[Attempt]:
        """Return all attempts under way."""
        table = tables.ATTEMPTS
        return await self._read(Attempt, select(table).where(table.c.state == AttemptState.OPEN))

    async def holds(self, attempt_id: str) -> list[Hold]:
        """Return the rules that keep data for an attempt."""
        table = tables.HOLDS
        return await self._read(Hold, select(table).where(table.c.attempt == attempt_id))

    async def holders(self, rule_id: str) -> list[str]:
        """Return the attempts that a rule keeps data for."""
        table = tables.HOLDS
        query = select(table.c.attempt).where(table.c.rule == rule_id)
        return [row.attempt for row in await self.connection.execute(query)]

    async def placements(self, deployment_id: str) -> list[Placement]:
        """Return what ranking said for the runs of a deployment, oldest first."""
        table = tables.PLACEMENTS
        query = select(table).where(table.c.deployment == deployment_id).order_by(table.c.at)
        return await self._read(Placement, query)

    async def policies(self, deployment_id: str | None = None) -> list[Policy]:
        """Return the policies of a deployment, or all that are in force."""
        table = tables.POLICIES
        query = select(table).where(table.c.removed.is_(False))
        if deployment_id is not None:
            query = select(table).where(table.c.deployment == deployment_id)
        return await self._read(Policy, query.order_by(table.c.name, table.c.node))

    async def calls(self, deployment_id: str) -> list[int]:
        """Return the statuses that the callback URL is still to be told, oldest first."""
        table = tables.CALLS
        query = select(table.c.number).where(table.c.deployment == deployment_id)
        rows = await self.connection.execute(query.order_by(table.c.number))
        return [row.number for row in rows]

    async def followers(self) -> list[Node]:
        """Return the service nodes that follow data and are still wanted."""
        table = tables.NODES
        query = select(table).where(table.c.port.is_not(None), table.c.removed.is_(False))
        return [node for node in await self._read(Node, query) if node.follow]

    async def history(self, deployment_id: str, *, after: int = 0, limit: int = 500) -> list[Entry]:
        """Return lines of the history above number `after`, oldest first."""
        table = tables.HISTORY
        query = (
            select(table)
            .where(table.c.deployment == deployment_id, table.c.seq > after)
            .order_by(table.c.seq)
            .limit(limit)
        )
        return await self._read(Entry, query)

    async def history_tail(self, deployment_id: str, *, limit: int) -> list[Entry]:
        """Return the newest lines of the history, oldest first."""
        table = tables.HISTORY
        query = (
            select(table)
            .where(table.c.deployment == deployment_id)
            .order_by(table.c.seq.desc())
            .limit(limit)
        )
        return (await self._read(Entry, query))[::-1]

    async def repeat(self, issuer: str, sub: str, key: str) -> tuple[str, str] | None:
        """Return digest and deployment of a request that this person sent under `key` before."""
        table = tables.REPEATS
        query = select(table).where(
            table.c.issuer == issuer, table.c.sub == sub, table.c.key == key
        )
        row = (await self.connection.execute(query)).one_or_none()
        return (row.digest, row.deployment) if row else None

    async def _one(self, kind: type[T], condition: Any) -> T | None:
        query = select(TABLES[kind]).where(condition)
        if self.lock:
            query = query.with_for_update()
        found = await self._read(kind, query)
        return found[0] if found else None

    async def _read(self, kind: type[T], query: Select[Any]) -> list[T]:
        rows = (await self.connection.execute(query)).mappings().all()
        return [record_of(kind, dict(row)) for row in rows]


def _shown(wanted: Wanted) -> Any:
    table: Table = tables.DEPLOYMENTS
    conditions: list[Any] = []
    if wanted.sub is not None:
        own = and_(table.c.issuer == wanted.issuer, table.c.sub == wanted.sub)
        conditions.append(or_(own, table.c.group.in_(wanted.groups)))
    if wanted.owner is not None:
        conditions += [table.c.issuer == wanted.owner[0], table.c.sub == wanted.owner[1]]
    if wanted.group is not None:
        conditions.append(table.c.group == wanted.group)
    if wanted.status is not None:
        conditions.append(table.c.status == wanted.status.value)
    else:
        conditions.append(table.c.status != Status.DELETE_COMPLETE.value)
    return and_(*conditions)


def page_of(items: Sequence[T], *, page: int, size: int) -> Sequence[T]:
    """Return page number `page` (from 0) of `items`."""
    return items[page * size : (page + 1) * size]
