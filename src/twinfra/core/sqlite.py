"""SQLite connections: one hop to their thread a statement, nothing left behind by cancelled tasks.

A statement that was handed to its thread is carried out whatever happens to the task that sent it;
and a connection that is closed while somebody still holds a cursor of it (a traceback does) keeps
its transaction, and with it the file's one write lock. So here a cancelled task waits for its
statement, a cursor is closed where its last row was read, and a connection rolls back before it
closes. `database` makes its connections here.

Source: sqlite3_close_v2, "zombie" connections; CPython 3.11, ``Connection.close``; PEP 249.
"""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Self

import aiosqlite
import stamina

from twinfra.core.tasks import settled, to_the_end

ROWS_AT_ONCE = 256


class SteadyConnection(aiosqlite.Connection):
    """Lets a cancelled task go once its statement is over, in a state that is known."""

    _begins: bool | None = None
    _read_only = False

    def __del__(self) -> None:
        """Let go in silence: a pool drops a connection right after it told it to stop."""
        if self._connection is not None:
            self.stop()

    def begin(self, *, read_only: bool) -> None:
        """Begin a transaction with the next statement; one that is to write takes the lock then."""
        self._begins = read_only

    def cursor(self) -> "SteadyCursor":  # type: ignore[override] # it needs no waiting for
        """Return a cursor; SQLite hears of it with its first statement."""
        return SteadyCursor(self)

    async def commit(self) -> None:
        """Commit what was begun, if anything was."""
        if self._over():
            await self._execute(self._conn.commit)

    async def rollback(self) -> None:
        """Roll back what was begun, if anything was."""
        if self._over():
            await self._execute(self._conn.rollback)

    def _over(self) -> bool:
        """Say whether the end of this transaction is to be waited for: a reader's is not."""
        self._begins = None
        if not self._conn.in_transaction:
            return False
        if self._read_only:
            self._tx.put_nowait((None, partial(_roll_back, self._conn)))
        return not self._read_only

    async def create_function(self, *args: Any, **kwargs: Any) -> None:
        """Give SQL a function. Never waits: SQLAlchemy does this before its pool knows of us."""
        self._conn.create_function(*args, **kwargs)

    def stop(self) -> "asyncio.Future[Any] | None":
        """End the thread; what is left of a transaction is rolled back before."""
        if self._connection is not None:
            self._tx.put_nowait((None, partial(_let_go, self._connection)))
        return super().stop()

    async def close(self) -> None:
        """Close after what was sent is over; what is left of a transaction is rolled back."""
        if self._connection is not None:
            await self._execute(_roll_back, self._connection)
            await super().close()

    async def in_thread(self, do: Callable[..., None], *arguments: Any) -> None:
        """Do this in the connection's thread, after what it has to do already."""
        await self._execute(do, *arguments)

    def run(
        self, do: Callable[..., sqlite3.Cursor], sql: str, parameters: Any
    ) -> tuple[sqlite3.Cursor, list[Any]]:
        """Begin if that is due, execute, and read the first rows; in the thread."""
        cursor = self._conn.cursor()
        try:
            self._begin_now(cursor)
            do(cursor, sql, parameters)
            rows = cursor.fetchmany(ROWS_AT_ONCE) if cursor.description else []
        except BaseException:
            cursor.close()
            raise
        return cursor, rows

    def _begin_now(self, cursor: sqlite3.Cursor) -> None:
        if (read_only := self._begins) is None:
            return
        if read_only is not self._read_only:
            cursor.execute(f"PRAGMA query_only={'ON' if read_only else 'OFF'}")
            self._read_only = read_only
        cursor.execute("BEGIN" if read_only else "BEGIN IMMEDIATE")
        self._begins = None

    async def _connect(self) -> aiosqlite.Connection:
        try:
            return await to_the_end(super()._connect())
        except BaseException:
            await to_the_end(self.close())
            raise

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._running or not self._connection:
            raise ValueError("Connection closed")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._tx.put_nowait((future, partial(fn, *args, **kwargs)))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await settled(future)
            raise


class SteadyCursor:
    """What SQLAlchemy asks of a cursor: a statement and its first rows are one hop to the thread.

    Attributes:
        description: of the columns, as PEP 249 has it; none where there are no rows.
        rowcount: rows that the statement changed.
        lastrowid: of the last row inserted.
        arraysize: rows that `fetchmany` returns unless told.
    """

    def __init__(self, connection: SteadyConnection) -> None:
        self._connection = connection
        self._more: sqlite3.Cursor | None = None
        self._rows: deque[Any] = deque()
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None
        self.arraysize = 1

    async def __aenter__(self) -> Self:
        """Return this cursor."""
        return self

    async def execute(self, sql: str, parameters: Any = ()) -> Self:
        """Execute a statement."""
        await self._connection.in_thread(self._run, sqlite3.Cursor.execute, sql, parameters)
        return self

    async def executemany(self, sql: str, parameters: Sequence[Any]) -> Self:
        """Execute a statement for each of `parameters`."""
        await self._connection.in_thread(self._run, sqlite3.Cursor.executemany, sql, parameters)
        return self

    async def fetchone(self) -> Any:
        """Return the next row, or none."""
        rows = await self.fetchmany(1)
        return rows[0] if rows else None

    async def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return up to `size` rows."""
        wanted = self.arraysize if size is None else size
        if len(self._rows) < wanted and self._more is not None:
            await self._connection.in_thread(self._read, max(wanted, ROWS_AT_ONCE))
        return [self._rows.popleft() for _ in range(min(wanted, len(self._rows)))]

    async def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        if self._more is not None:
            await self._connection.in_thread(self._read, None)
        rows = list(self._rows)
        self._rows.clear()
        return rows

    async def close(self) -> None:
        """Drop what was not read."""
        if self._more is not None:
            await self._connection.in_thread(self._end)
        self._rows.clear()

    def _run(self, do: Callable[..., sqlite3.Cursor], sql: str, parameters: Any) -> None:
        self._more, rows = self._connection.run(do, sql, parameters)
        self.description, self.lastrowid = self._more.description, self._more.lastrowid
        self._take(rows, ROWS_AT_ONCE)

    def _read(self, most: int | None) -> None:
        if self._more is not None:
            self._take(self._more.fetchall() if most is None else self._more.fetchmany(most), most)

    def _take(self, rows: list[Any], most: int | None) -> None:
        self._rows.extend(rows)
        if most is None or len(rows) < most:
            self._end()

    def _end(self) -> None:
        if self._more is not None:
            self.rowcount = self._more.rowcount
            self._more.close()
            self._more = None


def connect(path: str, **options: Any) -> SteadyConnection:
    """Return a connection to be awaited; takes what ``sqlite3.connect`` takes."""
    # `begin` says when a transaction begins; calls that never wait are made beside the thread
    options |= {"isolation_level": None, "check_same_thread": False}
    made = SteadyConnection(partial(_open, path, options), ROWS_AT_ONCE)
    made._thread.daemon = True  # noqa: SLF001 - as SQLAlchemy does with those it makes itself
    return made


def _open(path: str, options: dict[str, Any]) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(path, **options)
    try:
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA foreign_keys=ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _is_busy(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


@stamina.retry(on=_is_busy, attempts=None, timeout=30, wait_max=0.1)
def _write_ahead(connection: sqlite3.Connection) -> None:
    """Log ahead of writing; SQLite does not wait where another changes a new file to that just now.

    Source: SQLite, "Write-Ahead Logging" and ``PRAGMA journal_mode``.
    """
    connection.execute("PRAGMA journal_mode=WAL")


def _roll_back(connection: sqlite3.Connection) -> None:
    with suppress(sqlite3.Error):
        connection.rollback()


def _let_go(connection: sqlite3.Connection) -> None:
    _roll_back(connection)
    with suppress(sqlite3.Error):
        connection.close()
