"""Records as rows and back: enumerations as their words, tuples and small records as JSON."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, is_dataclass
from enum import StrEnum
from typing import Any, TypeVar

from sqlalchemy import Table

from twinfra.orchestration.deployments.model import records, states
from twinfra.orchestration.deployments.store import tables
from twinfra.orchestration.infrastructure.model import Target

T = TypeVar("T")
Read = Callable[[Any], Any]

TABLES: Mapping[type[Any], Table] = {
    records.Deployment: tables.DEPLOYMENTS,
    records.Node: tables.NODES,
    records.NodeRun: tables.RUNS,
    records.Attempt: tables.ATTEMPTS,
    records.Hold: tables.HOLDS,
    records.Placement: tables.PLACEMENTS,
    records.Policy: tables.POLICIES,
    records.Entry: tables.HISTORY,
    records.Call: tables.CALLS,
}


def _failure(word: str | None) -> states.Failure | None:
    return None if word is None else states.Failure(word)


_READ: Mapping[type[Any], Mapping[str, Read]] = {
    records.Deployment: {
        "status": states.Status,
        "task": states.Task,
        "wishes": lambda body: records.Wishes(**body),
    },
    records.Node: {
        "role": states.Role,
        "state": states.NodeState,
        "depends_on": tuple,
        "follow": tuple,
    },
    records.NodeRun: {
        "trigger": states.Trigger,
        "state": states.RunState,
        "candidates": tuple,
    },
    records.Attempt: {
        "target": lambda body: Target(**body),
        "state": states.AttemptState,
        "reached": states.RunState,
        "failure": _failure,
    },
    records.Policy: {"types": tuple},
}


def row_of(record: Any) -> dict[str, Any]:
    """Return the column values of `record`."""
    return {each.name: _plain(getattr(record, each.name)) for each in fields(record)}


def record_of(kind: type[T], row: Mapping[str, Any]) -> T:
    """Return the record of class `kind` that `row` holds."""
    read = _READ.get(kind, {})
    values = {
        each.name: read[each.name](row[each.name]) if each.name in read else row[each.name]
        for each in fields(kind)  # type: ignore[arg-type] # every record is a dataclass
    }
    return kind(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, tuple):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return dict(value) if isinstance(value, Mapping) else value
