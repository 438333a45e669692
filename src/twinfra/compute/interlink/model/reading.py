"""Small readers of foreign JSON shared by the wire types; each names the field that is wrong."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from twinfra.core.errors import InvalidRequest

Json = dict[str, Any]

FAULT_LIMIT = 256
INVALID_BODY = "invalid request body"
UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?")


def decode(body: bytes) -> Any:
    """Return the JSON value of a request's body.

    Raises:
        InvalidRequest: the body is no JSON; the text is the one that upstream's server answers.
    """
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(INVALID_BODY) from error


def fault_in(body: bytes) -> str:
    """Return the error that an answer of success holds all the same; empty: it holds none.

    Plug-ins are about that answer 200 and ``{"error": "..."}``.
    """
    try:
        return fault_of(json.loads(body))
    except (ValueError, RecursionError):
        return ""


def fault_of(value: Any) -> str:
    """Do as `fault_in` for an answer that has been read."""
    told = value.get("error") if isinstance(value, dict) else None
    return str(told)[:FAULT_LIMIT] if told else ""


def as_object(value: Any, field: str) -> Json:
    """Return `value` as a JSON object.

    Raises:
        InvalidRequest: it is something else; the text names `field`.
    """
    if not isinstance(value, dict):
        raise InvalidRequest(f"{field} must be an object")
    return value


def objects(value: Any, field: str) -> tuple[Json, ...]:
    """Return a list of JSON objects; ``null`` and absence are the empty list.

    Raises:
        InvalidRequest: it is no list, or an entry is no object; the text names it.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidRequest(f"{field} must be a list or null")
    return tuple(as_object(entry, f"{field}[{index}]") for index, entry in enumerate(value))


def text(value: Any, field: str) -> str:
    """Return a string; ``null`` is the empty one.

    Raises:
        InvalidRequest: it is something else, or holds a NUL byte; the text names `field`.
    """
    if value is None:
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(f"{field} must be a string")
    if "\0" in value:  # no argument, variable or path can have one
        raise InvalidRequest(f"{field} holds a NUL byte")
    return value


def strings(value: Any, field: str) -> tuple[str, ...]:
    """Return a list of strings; ``null`` and absence are the empty list.

    Raises:
        InvalidRequest: it is no list, or an entry is no string; the text names it.
    """
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidRequest(f"{field} must be a list")
    return tuple(text(entry, f"{field}[{index}]") for index, entry in enumerate(value))


def flag(value: Any, field: str) -> bool:
    """Return a boolean; ``null`` is false.

    Raises:
        InvalidRequest: it is something else; the text names `field`.
    """
    if value is None:
        return False
    if not isinstance(value, bool):
        raise InvalidRequest(f"{field} must be true or false")
    return value


def whole(value: Any, field: str) -> int:
    """Return a whole number, zero or more; ``null`` is 0.

    Raises:
        InvalidRequest: it is something else; the text names `field`.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"{field} must be a whole number, 0 or more")
    return value


def first(mapping: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the value under the first of `names` that is there, else None."""
    return next((mapping[name] for name in names if name in mapping), None)
