"""From a row of the outbox to the frames that a subscription gets; pure.

A change that dCache tells in two events (created, then closed) is told in two here as well, if both
were asked for. The id of a frame is the row's number times `PER_ROW` plus the frame's place, so ids
strictly grow and a reader can go on between any two.

Source: dCache 12.0, user guide, "Storage events"; inotify(7).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from twinfra.core.errors import InvalidRequest
from twinfra.data.edge.inventory.changes import parent_of

PER_ROW = 1000
SELF = frozenset({"IN_DELETE_SELF", "IN_MOVE_SELF"})
CLOSE = frozenset({"IN_CLOSE_WRITE", "IN_CLOSE_NOWRITE"})
MOVE = frozenset({"IN_MOVED_FROM", "IN_MOVED_TO"})
EVENTS = (
    frozenset({"IN_ACCESS", "IN_ATTRIB", "IN_CREATE", "IN_DELETE", "IN_MODIFY", "IN_OPEN"})
    | SELF
    | CLOSE
    | MOVE
)
GROUPS: Mapping[str, frozenset[str]] = {
    "IN_ALL_EVENTS": EVENTS,
    "IN_CLOSE": CLOSE,
    "IN_MOVE": MOVE,
}
OPTIONS = frozenset({"IN_DONT_FOLLOW", "IN_EXCL_UNLINK", "IN_MASK_ADD", "IN_ONLYDIR"})
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Selector:
    """What a subscription is about.

    Attributes:
        path: a directory or file below ``/dav``.
        flags: events that are wanted, groups taken apart.
        recursive: also everything below (ours, not dCache's).
        only_directory: the path must be a directory.
        text: the selector as it was sent.
    """

    path: str
    flags: frozenset[str]
    recursive: bool
    only_directory: bool
    text: Mapping[str, Any]

    @classmethod
    def from_json(cls, body: Any) -> "Selector":
        """Read a selector.

        Raises:
            InvalidRequest: it is not of its form.
        """
        if not isinstance(body, dict) or set(body) - {"path", "flags", "recursive"}:
            raise InvalidRequest("a selector is an object with path, flags and recursive")
        path = body.get("path")
        if not isinstance(path, str) or not path.startswith("/"):
            raise InvalidRequest("the selector's path is absolute")
        if path != "/" and (path.endswith("/") or "//" in path):
            raise InvalidRequest("the selector's path does not end in a slash")
        recursive = body.get("recursive", False)
        if not isinstance(recursive, bool):
            raise InvalidRequest("recursive is true or false")
        names = body.get("flags", ["IN_ALL_EVENTS"])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidRequest("flags is a list of inotify's names")
        unknown = set(names) - EVENTS - OPTIONS - set(GROUPS)
        if unknown:
            raise InvalidRequest(f"unknown or unavailable flags: {', '.join(sorted(unknown))}")
        flags = frozenset().union(*(GROUPS.get(name, {name}) for name in names)) & EVENTS
        return cls(path, flags, recursive, "IN_ONLYDIR" in names, body)

    def name_of(self, path: str) -> str | None:
        """Return the name that an event about `path` carries; none if it is not about a child."""
        stem = self.path.rstrip("/") + "/"
        if not path.startswith(stem) or path == self.path:
            return None
        if self.recursive or parent_of(path) == self.path:
            return path[len(stem) :]
        return None


def bodies(selector: Selector, row: Row) -> Iterator[dict[str, Any]]:
    """Give the ``event`` objects that a subscription gets for one row of the outbox."""
    is_self = row["path"] == selector.path
    name = selector.name_of(row["path"])
    if name is None and not is_self:
        return
    for flag in _flags(row, is_self=is_self):
        if flag not in selector.flags:
            continue
        mask = [flag, "IN_ISDIR"] if row["directory"] else [flag]
        event: dict[str, Any] = {"mask": mask}
        if not is_self:
            event["name"] = name
            if flag in MOVE:
                event["cookie"] = row["cookie"]
        yield event


def ends(selector: Selector, row: Row) -> bool:
    """Say whether what the subscription is about is gone with this row."""
    return bool(row["path"] == selector.path and row["change"] == "deleted")


def frame(kind: str, data: Mapping[str, Any], number: int | None = None) -> bytes:
    """Return one server-sent event."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    line = "" if number is None else f"id: {number}\n"
    return f"event: {kind}\n{line}data: {text}\n\n".encode()


def _flags(row: Row, *, is_self: bool) -> Iterable[str]:
    moved = row["cookie"] is not None
    if row["change"] == "deleted":
        if is_self:
            return ("IN_MOVE_SELF",) if moved else ("IN_DELETE_SELF",)
        return ("IN_MOVED_FROM",) if moved else ("IN_DELETE",)
    if moved and not is_self:
        return ("IN_MOVED_TO",)
    if row["directory"]:
        return () if is_self else ("IN_CREATE",)
    if row["change"] == "created" and not is_self:
        return ("IN_CREATE", "IN_CLOSE_WRITE")
    return ("IN_MODIFY", "IN_CLOSE_WRITE")
