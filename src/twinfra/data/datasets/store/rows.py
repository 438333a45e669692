"""From SQL rows to the records that services know; and small pieces of SQL that stores share."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Column, Select, cast, func, literal, select
from sqlalchemy.sql.expression import CTE, ColumnElement

from twinfra.core.database import Connection
from twinfra.data.datasets.model import Did, DidType, Grouping, ReplicaState, RuleState
from twinfra.data.datasets.ports.rows import DidRow, RuleRow
from twinfra.data.datasets.store.tables import contents, dids, rules

T = TypeVar("T")
CHUNK = 900
FILE = DidType.FILE.value
DATASET = DidType.DATASET.value
DID_COLUMNS = (
    dids.c.id.label("did_id"),
    dids.c.scope,
    dids.c.name,
    dids.c.type,
    dids.c.account.label("did_account"),
    dids.c.size_bytes,
    dids.c.adler32,
    dids.c.md5,
    dids.c.is_open,
    dids.c.monotonic,
    dids.c.expires_at.label("did_expires_at"),
    dids.c.created_at.label("did_created_at"),
    dids.c.updated_at.label("did_updated_at"),
    dids.c.closed_at,
    dids.c.meta.label("did_meta"),
)


def did_row(row: Any) -> DidRow:
    """Read the columns of `DID_COLUMNS`."""
    return DidRow(
        id=row.did_id,
        did=Did(row.scope, row.name),
        type=DidType(row.type),
        account=row.did_account,
        size_bytes=row.size_bytes,
        adler32=row.adler32,
        md5=row.md5,
        is_open=row.is_open,
        monotonic=row.monotonic,
        expires_at=row.did_expires_at,
        created_at=row.did_created_at,
        updated_at=row.did_updated_at,
        closed_at=row.closed_at,
        meta=row.did_meta,
    )


def rule_row(row: Any) -> RuleRow:
    """Read all columns of ``rules`` with ``scope name type`` of the data identifier."""
    return RuleRow(
        id=row.id,
        did_id=row.did_id,
        did=Did(row.scope, row.name),
        did_type=DidType(row.type),
        account=row.account,
        copies=row.copies,
        rse_expression=row.rse_expression,
        grouping=Grouping(row.grouping),
        state=RuleState(row.state),
        activity=row.activity,
        priority=row.priority,
        notify=row.notify,
        created_at=row.created_at,
        updated_at=row.updated_at,
        error=row.error,
        locks_ok=row.locks_ok,
        locks_replicating=row.locks_replicating,
        locks_stuck=row.locks_stuck,
        expires_at=row.expires_at,
        locked=row.locked,
        weight=row.weight,
        source_replica_expression=row.source_replica_expression,
        comment=row.comment,
        meta=row.meta,
        purge_replicas=row.purge_replicas,
        ignore_availability=row.ignore_availability,
        group=row.group_name,
        deployment=row.deployment,
        delegation=row.delegation,
        stuck_at=row.stuck_at,
        repair_at=row.repair_at,
        repairs=row.repairs,
    )


def rule_values(rule: RuleRow) -> dict[str, Any]:
    """Spell a rule as columns."""
    values = {
        column.name: getattr(rule, column.name)
        for column in rules.columns
        if column.name != "group_name"
    }
    return values | {
        "grouping": rule.grouping.value,
        "state": rule.state.value,
        "group_name": rule.group,
        "meta": dict(rule.meta),
        "delegation": dict(rule.delegation) if rule.delegation is not None else None,
    }


def chunks(values: Collection[T], size: int = CHUNK) -> Iterator[Sequence[T]]:
    """Give `values` in pieces that fit a statement's bound of parameters."""
    listed = list(values)
    for start in range(0, len(listed), size):
        yield listed[start : start + size]


def files_below(root_ids: Sequence[int]) -> CTE:
    """Return the files at or below the roots: ``did_id`` and the ``dataset_id`` that holds each.

    A file in several datasets counts once, for the one with the lowest number; one that is a root
    itself has none.
    """
    roots = select(
        dids.c.id.label("did_id"),
        dids.c.type.label("type"),
        cast(literal(0), BigInteger).label("dataset_id"),
    ).where(dids.c.id.in_(root_ids))
    tree = roots.cte("tree", recursive=True)
    below = select(
        contents.c.child_id,
        contents.c.child_type,
        contents.c.parent_id,
    ).join(tree, contents.c.parent_id == tree.c.did_id)
    tree = tree.union(below)
    return (
        select(tree.c.did_id, func.min(tree.c.dataset_id).label("dataset_id"))
        .where(tree.c.type == FILE)
        .group_by(tree.c.did_id)
        .cte("files")
    )


def collections_below(root_ids: Sequence[int], kind: str) -> CTE:
    """Return the numbers of collections of a kind at or below the roots."""
    roots = select(dids.c.id.label("did_id"), dids.c.type.label("type")).where(
        dids.c.id.in_(root_ids), dids.c.type != FILE
    )
    tree = roots.cte("collections", recursive=True)
    below = (
        select(contents.c.child_id, contents.c.child_type)
        .join(tree, contents.c.parent_id == tree.c.did_id)
        .where(contents.c.child_type != FILE)
    )
    tree = tree.union(below)
    return select(tree.c.did_id).where(tree.c.type == kind).cte("chosen")


def above(did_ids: Sequence[int]) -> CTE:
    """Return the given numbers and those of all that holds them."""
    start = select(dids.c.id.label("did_id")).where(dids.c.id.in_(did_ids))
    tree = start.cte("above", recursive=True)
    parents = select(contents.c.parent_id).join(tree, contents.c.child_id == tree.c.did_id)
    return tree.union(parents)


def is_state(column: ColumnElement[str], state: ReplicaState) -> ColumnElement[bool]:
    """Compare a column with a state."""
    return column == state.value


async def was_inserted(connection: Connection, insert: Any, key: Column[Any]) -> bool:
    """Run an insert that does nothing on a conflict; false: there was one."""
    return (await connection.execute(insert.returning(key))).first() is not None


def select_dids() -> Select[Any]:
    """Select what `did_row` reads."""
    return select(*DID_COLUMNS)
