r"""Metadata filters as SQL: an OR of ANDs of ``key[.operator]`` against columns or JSON values.

Source: Rucio's filter engine: operators .gt .gte .lt .lte .ne, ``*`` as wildcard in text.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, null, or_, true
from sqlalchemy.sql.functions import Function

from twinfra.data.datasets.errors import FilterSyntax
from twinfra.data.datasets.store.tables import dids

_COLUMNS: Mapping[str, ColumnElement[Any]] = {
    "name": dids.c.name,
    "scope": dids.c.scope,
    "account": dids.c.account,
    "type": dids.c.type,
    "did_type": dids.c.type,
    "bytes": dids.c.size_bytes,
    "adler32": dids.c.adler32,
    "md5": dids.c.md5,
    "is_open": dids.c.is_open,
    "monotonic": dids.c.monotonic,
    "created_at": dids.c.created_at,
    "updated_at": dids.c.updated_at,
    "closed_at": dids.c.closed_at,
    "expired_at": dids.c.expires_at,
}
_MOMENTS = {"created_at", "updated_at", "closed_at", "expired_at"}
_ALIASES = {"created_before": "created_at.lte", "created_after": "created_at.gte"}
_PATTERN = re.compile(r"[A-Za-z0-9/._*@:+ \-]*")
_OPERATORS: Mapping[str, Callable[[ColumnElement[Any], Any], ColumnElement[bool]]] = {
    "": lambda column, value: column == value,
    "ne": lambda column, value: or_(column != value, column.is_(None)),
    "gt": lambda column, value: column > value,
    "gte": lambda column, value: column >= value,
    "lt": lambda column, value: column < value,
    "lte": lambda column, value: column <= value,
}


def condition(filters: Sequence[Mapping[str, Any]], *, is_sqlite: bool) -> ColumnElement[bool]:
    """Return the condition that one of `filters` is met, each with all of its keys.

    Raises:
        FilterSyntax: a key, an operator or a pattern is not understood.
    """
    options = [
        and_(true(), *(_one(_ALIASES.get(k, k), v, is_sqlite) for k, v in entry.items()))
        for entry in filters
    ]
    return or_(*options) if options else true()


def _one(key: str, value: Any, is_sqlite: bool) -> ColumnElement[bool]:
    name, _, operator = key.partition(".")
    if operator not in _OPERATORS:
        raise FilterSyntax(f"filter {key!r}: the operator is none of gt, gte, lt, lte, ne")
    column = _COLUMNS.get(name)
    if column is None:
        column = _json(name, value, is_sqlite)
    elif name in _MOMENTS:
        value = _moment(key, value)
    if isinstance(value, str) and "*" in value:
        return _like(column, value, operator, is_sqlite)
    return _OPERATORS[operator](column, value)


def _json(key: str, value: Any, is_sqlite: bool) -> ColumnElement[Any]:
    """Return the value of a metadata key, null where its kind is not that of `value`."""
    if '"' in key or "\\" in key:
        raise FilterSyntax(f"filter {key!r}: not a metadata key")
    entry = dids.c.meta[key]
    kind: Function[Any] = (
        func.json_type(dids.c.meta, f'$."{key}"') if is_sqlite else func.json_typeof(entry)
    )
    if isinstance(value, bool):
        fits = kind.in_(["true", "false", "boolean"])
        return case((fits, entry.as_boolean()), else_=null())
    if isinstance(value, int | float):
        return case((kind.in_(["integer", "real", "number"]), entry.as_float()), else_=null())
    if isinstance(value, str):
        return case((kind.in_(["text", "string"]), entry.as_string()), else_=null())
    raise FilterSyntax(f"filter {key!r}: {value!r} is no text, number or truth value")


def _like(
    column: ColumnElement[Any], pattern: str, operator: str, is_sqlite: bool
) -> ColumnElement[bool]:
    if operator not in {"", "ne"} or not _PATTERN.fullmatch(pattern):
        raise FilterSyntax(f"pattern {pattern!r} cannot be used so")
    if is_sqlite:
        matches: ColumnElement[bool] = column.op("GLOB", is_comparison=True)(pattern)
    else:
        escaped = pattern.replace("_", r"\_").replace("*", "%")
        matches = column.like(escaped, escape="\\")
    return matches if operator == "" else or_(~matches, column.is_(None))


def _moment(key: str, value: Any) -> datetime:
    for form in ("%Y-%m-%dT%H:%M:%S.%fZ", "%Y-%m-%dT%H:%M:%S", "%a, %d %b %Y %H:%M:%S UTC"):
        try:
            return datetime.strptime(str(value), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise FilterSyntax(f"filter {key!r}: {value!r} is no moment such as 2026-01-31T12:00:00")
