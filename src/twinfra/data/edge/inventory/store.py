"""The entries and their outbox in SQL: each batch of changes is one transaction.

A change that the entries show already is no change: so whoever tells first, the door or the
watcher, makes the one event, and whoever tells second makes none.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import and_, case, delete, func, insert, literal, or_, select, update

from twinfra.core.database import Connection, Database
from twinfra.data.edge.inventory.changes import (
    Change,
    FilePut,
    FolderMade,
    Moved,
    Removed,
    below,
    parent_of,
)
from twinfra.data.edge.inventory.tables import entries, facts, outbox
from twinfra.data.edge.model import Checksums, Known, Version

MIGRATIONS = "twinfra.data.edge.migrations"
LOOKUP_CHUNK = 400
_COPIED = ("size_bytes", "mtime_ns", "adler32", "md5", "sha256")
Row = dict[str, Any]


class InventoryStore:
    """The tables `entries`, `outbox` and `facts`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def fact(self, key: str, value: str) -> str:
        """Return the fact `key`, which becomes `value` if it was not known."""
        async with self._database.begin() as connection:
            made = self._database.insert(facts).values(key=key, value=value)
            await connection.execute(made.on_conflict_do_nothing())
            found = await connection.execute(select(facts.c.value).where(facts.c.key == key))
            return str(found.scalar_one())

    async def known(self, paths: Iterable[str]) -> dict[str, Known]:
        """Return what is known at `paths`, by path."""
        async with self._database.read() as connection:
            return await _look_up(connection, paths)

    async def children(self, folder: str) -> dict[str, Known]:
        """Return what is known directly in `folder`, by path."""
        async with self._database.read() as connection:
            found = await connection.execute(select(entries).where(entries.c.parent == folder))
            return {row["path"]: known_of(dict(row)) for row in found.mappings()}

    async def folders(self) -> list[str]:
        """Return all directories known."""
        async with self._database.read() as connection:
            found = await connection.execute(select(entries.c.path).where(entries.c.directory))
            return list(found.scalars())

    async def events(self, after: int, limit: int) -> list[Row]:
        """Return up to `limit` outbox rows with an id above `after`, in order."""
        async with self._database.read() as connection:
            query = select(outbox).where(outbox.c.id > after).order_by(outbox.c.id).limit(limit)
            return [dict(row) for row in (await connection.execute(query)).mappings()]

    async def bounds(self) -> tuple[int, int]:
        """Return the ids of the oldest event that is kept and of the newest ever made.

        With nothing kept the oldest is one above the newest.
        """
        async with self._database.read() as connection:
            oldest, newest = (
                await connection.execute(select(func.min(outbox.c.id), func.max(outbox.c.id)))
            ).one()
            if newest is None:
                newest = await _last_sequence(connection)
        return (oldest if oldest is not None else newest + 1), newest

    async def prune(self, before: datetime, keep: int) -> int:
        """Drop events older than `before` and all but the newest `keep`; returns how many."""
        async with self._database.begin() as connection:
            newest = (await connection.execute(select(func.max(outbox.c.id)))).scalar()
            if newest is None:
                return 0
            dropped = await connection.execute(
                delete(outbox).where(or_(outbox.c.at < before, outbox.c.id <= newest - keep))
            )
            return int(dropped.rowcount)

    # ------------------------------------------------------------- changes

    async def apply(self, changes: Sequence[Change], at: datetime) -> int | None:
        """Make `changes` in order, with their events, in one transaction.

        Returns:
            The id of the newest event that is kept.
        """
        async with self._database.begin() as connection:
            group: list[FilePut | FolderMade] = []
            for change in changes:
                if isinstance(change, (FilePut, FolderMade)):
                    group.append(change)
                    continue
                await self._put(connection, group, at)
                group = []
                if isinstance(change, Removed):
                    await _remove(connection, change.path, at, change.cookie)
                else:
                    await _move(connection, change, at)
            await self._put(connection, group, at)
            newest: int | None = (await connection.execute(select(func.max(outbox.c.id)))).scalar()
            return newest

    async def _put(
        self, connection: Connection, group: Sequence[FilePut | FolderMade], at: datetime
    ) -> None:
        if not group:
            return
        now_known = await _look_up(connection, {change.path for change in group})
        events: list[Row] = []
        for change in group:
            old = now_known.get(change.path)
            new = _known_by(change)
            if old is not None and old.is_directory != new.is_directory:
                await _remove(connection, change.path, at, None)
                old = None
            if old is not None and old.version == new.version:
                continue
            now_known[change.path] = new
            if not _is_silent(change, old):
                events.append(_event(change, old, at))
        rows = [_row(now_known[path]) for path in dict.fromkeys(c.path for c in group)]
        made = self._database.insert(entries)
        replaced = {
            column.name: made.excluded[column.name]
            for column in entries.columns
            if column.name != "path"
        }
        await connection.execute(
            made.on_conflict_do_update(index_elements=["path"], set_=replaced), rows
        )
        if events:
            await connection.execute(insert(outbox), events)


def known_of(row: Row) -> Known:
    """Return the entry that a row of `entries` is."""
    if row["directory"]:
        return Known(row["path"])
    return Known(
        row["path"],
        Version(row["inode"], row["size_bytes"], row["mtime_ns"]),
        checksums_of(row),
    )


def checksums_of(row: Row) -> Checksums | None:
    """Return the checksums of a row, if it has them."""
    if row["adler32"] is None:
        return None
    return Checksums(row["adler32"], row["md5"], row["sha256"])


def _known_by(change: FilePut | FolderMade) -> Known:
    if isinstance(change, FolderMade):
        return Known(change.path)
    return Known(change.path, change.version, change.checksums)


def _is_silent(change: FilePut | FolderMade, old: Known | None) -> bool:
    """Say whether only times differ, which is told to nobody."""
    return (
        isinstance(change, FilePut)
        and not change.rewritten
        and old is not None
        and old.version is not None
        and old.version.inode == change.version.inode
        and old.checksums == change.checksums
    )


def _event(change: FilePut | FolderMade, old: Known | None, at: datetime) -> Row:
    event: Row = {
        "change": "created" if old is None else "modified",
        "directory": isinstance(change, FolderMade),
        "path": change.path,
        "at": at,
        "cookie": change.cookie,
        **dict.fromkeys(_COPIED),
    }
    if isinstance(change, FilePut):
        event["size_bytes"] = change.version.size_bytes
        event["mtime_ns"] = change.version.mtime_ns
        event["adler32"] = change.checksums.adler32
        event["md5"] = change.checksums.md5
        event["sha256"] = change.checksums.sha256
    return event


def _row(known: Known) -> Row:
    version, checksums = known.version, known.checksums
    return {
        "path": known.path,
        "parent": parent_of(known.path),
        "directory": known.is_directory,
        "inode": version.inode if version else None,
        "size_bytes": version.size_bytes if version else None,
        "mtime_ns": version.mtime_ns if version else None,
        "adler32": checksums.adler32 if checksums else None,
        "md5": checksums.md5 if checksums else None,
        "sha256": checksums.sha256 if checksums else None,
    }


async def _look_up(connection: Connection, paths: Iterable[str]) -> dict[str, Known]:
    wanted, found = list(paths), {}
    for start in range(0, len(wanted), LOOKUP_CHUNK):
        chunk = wanted[start : start + LOOKUP_CHUNK]
        rows = await connection.execute(select(entries).where(entries.c.path.in_(chunk)))
        found.update({row["path"]: known_of(dict(row)) for row in rows.mappings()})
    return found


def _at_or_below(path: str) -> Any:
    first, beyond = below(path)
    return or_(
        entries.c.path == path,
        and_(entries.c.path >= first, entries.c.path < beyond),
    )


async def _remove(connection: Connection, path: str, at: datetime, cookie: str | None) -> None:
    """Forget `path` and what is below it; children are told before their directory."""
    await _tell(connection, "deleted", path, at, cookie, down=True)
    await connection.execute(delete(entries).where(_at_or_below(path)))


async def _move(connection: Connection, move: Moved, at: datetime) -> None:
    """Rename rows; each is told as deleted here and created, or modified, there."""
    both = await _look_up(connection, {move.source, move.target})
    moved, there = both.get(move.source), both.get(move.target)
    if moved is None:
        return
    replaces = there is not None and not there.is_directory and not moved.is_directory
    if replaces:
        await connection.execute(delete(entries).where(entries.c.path == move.target))
    elif there is not None:
        await _remove(connection, move.target, at, None)
    await _tell(connection, "deleted", move.source, at, move.cookie, down=True)
    tail = len(move.source) + 1  # SQL counts from one
    await connection.execute(
        update(entries)
        .where(_at_or_below(move.source))
        .values(
            path=literal(move.target) + func.substr(entries.c.path, tail),
            parent=case(
                (entries.c.path == move.source, parent_of(move.target)),
                else_=literal(move.target) + func.substr(entries.c.parent, tail),
            ),
        )
    )
    change = "modified" if replaces else "created"
    await _tell(connection, change, move.target, at, move.cookie, down=False)


async def _tell(
    connection: Connection,
    change: str,
    path: str,
    at: datetime,
    cookie: str | None,
    *,
    down: bool,
) -> None:
    """Add an event for `path` and each entry below it; the cookie is the top one's alone."""
    order = entries.c.path.desc() if down else entries.c.path.asc()
    columns = ["change", "directory", "path", "at", "cookie", *_COPIED]
    source = (
        select(
            literal(change),
            entries.c.directory,
            entries.c.path,
            literal(at, outbox.c.at.type),
            case((entries.c.path == path, literal(cookie)), else_=None),
            *(entries.c[name] for name in _COPIED),
        )
        .where(_at_or_below(path))
        .order_by(order)
    )
    await connection.execute(insert(outbox).from_select(columns, source))


async def _last_sequence(connection: Connection) -> int:
    """Return the last id that SQLite gave, when no row is left to ask."""
    found = await connection.exec_driver_sql(
        "SELECT seq FROM sqlite_sequence WHERE name = 'outbox'"
    )
    return int(found.scalar() or 0)
