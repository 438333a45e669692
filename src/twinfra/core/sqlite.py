"""SQLite in the event loop's own thread: a statement of ours costs less than a hop to another.

A statement takes some ten to a hundred microseconds; handing it to a thread, and its answer back,
takes longer, and holds the interpreter for longer too. So units of work are carried out where they
are written, one after the other, and the loop has its turn between them. What could take long does
not happen here: the write lock of another process is asked for again and again, a thread makes the
checkpoints, and large answers are read piece by piece. `database` opens its files here.

Source: SQLite, "Write-Ahead Logging", ``PRAGMA busy_timeout`` and ``sqlite3_close_v2``.
"""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, cast
from weakref import WeakSet

from sqlalchemy import (
    URL,
    Connection,
    CursorResult,
    Executable,
    NullPool,
    Transaction,
    create_engine,
    event,
)
from sqlalchemy.exc import DBAPIError, OperationalError

from twinfra.core.errors import Unavailable
from twinfra.core.tasks import end
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)

ROWS_AT_ONCE = 256
BUSY_TIMEOUT_S = 30
LOCK_WAIT_S = 0.01
LOCK_AGAIN_S = 0.05
READERS_MOST = 64
UNITS_A_CHECKPOINT = 256
P = ParamSpec("P")
T = TypeVar("T")
Answer = CursorResult[*tuple[Any, ...]]
"""Of a statement, with rows of any shape."""
_DISK = ThreadPoolExecutor(2, "sqlite-log")  # not the loop's own: image pulls may fill that


class InlineConnection:
    """One unit of work, called as on PostgreSQL; no call of it waits for anything.

    Args:
        connection: in a transaction.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def execute(self, statement: Executable, parameters: Any = None) -> Answer:
        """Carry out a statement."""
        return self._connection.execute(statement, parameters)

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> Answer:
        """Carry out a statement in SQLite's own words."""
        return self._connection.exec_driver_sql(statement, parameters)

    @asynccontextmanager
    async def stream(self, statement: Executable) -> AsyncIterator[AsyncIterator[Any]]:
        """Read a large answer; the loop has its turn between its pieces."""
        by_piece = {"yield_per": ROWS_AT_ONCE}
        with self._connection.execute(statement, execution_options=by_piece) as result:
            yield _rows(result)

    async def run_sync(
        self, fn: Callable[Concatenate[Connection, P], T], *arg: P.args, **kw: P.kwargs
    ) -> T:
        """Call `fn` with SQLAlchemy's plain connection."""
        return fn(self._connection, *arg, **kw)


async def _rows(answer: Answer) -> AsyncIterator[Any]:
    for piece in answer.partitions():
        for row in piece:
            yield row
        await asyncio.sleep(0)


class SqliteFile:
    """The connections to one file: one writes, the others read.

    Args:
        url: of SQLAlchemy, with the path.
    """

    def __init__(self, url: URL) -> None:
        self._path = url.database or ""
        self._writers, self._readers = (
            _Connections(url, reads_only=False),
            _Connections(url, reads_only=True),
        )
        self._lock, self._room = asyncio.Lock(), asyncio.Semaphore(READERS_MOST)
        self._units = 0
        self._checkpointing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[InlineConnection]:
        """Open a unit of work, which holds the file's write lock."""
        await asyncio.sleep(0)  # nothing below waits by itself: others have their turn here
        async with self._lock, self._writers.lend() as writer:
            begun = await _patiently(writer.begin)
            with _unit(writer, begun):
                yield InlineConnection(writer)
        self._units += 1
        if self._units % UNITS_A_CHECKPOINT == 0 and self._checkpointing is None:
            self._checkpointing = asyncio.create_task(self._checkpoint())

    @asynccontextmanager
    async def read(self) -> AsyncIterator[InlineConnection]:
        """Open a view of one moment, which refuses to write.

        Raises:
            Unavailable: too many are read for too long.
        """
        await asyncio.sleep(0)
        async with self._place(), self._readers.lend() as reader:
            begun = await _patiently(reader.begin)
            with _unit(reader, begun):
                yield InlineConnection(reader)

    async def close(self) -> None:
        """Close all connections; one in use closes with its unit of work."""
        if self._checkpointing is not None:
            await end([self._checkpointing])
        self._readers.close()
        self._writers.close()

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(BUSY_TIMEOUT_S):
                await self._room.acquire()
        except TimeoutError as error:
            raise Unavailable("too many readers at once; try again later") from error
        try:
            yield
        finally:
            self._room.release()

    async def _checkpoint(self) -> None:
        """Have a thread copy the write-ahead log into the file: that waits for the disk.

        SQLite begins the log anew only once all of it is copied, so what was written meanwhile is
        copied while our writers wait.
        """
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(_DISK, _checkpoint, self._path)
            async with self._lock:
                await loop.run_in_executor(_DISK, _checkpoint, self._path)
        except sqlite3.Error as error:  # the next one does what this one could not
            log.warning("sqlite_not_checkpointed", path=self._path, why=str(error))
        finally:
            self._checkpointing = None


class _Connections:
    """The connections to a file that nobody uses just now: all write, or none does."""

    def __init__(self, url: URL, *, reads_only: bool) -> None:
        opened = partial(_open, url.database or "", reads_only=reads_only)
        self._engine = create_engine(url, poolclass=NullPool, creator=opened)
        event.listen(self._engine, "begin", _send_begin)
        self._idle: list[Connection] = []
        self._closed = 0

    @asynccontextmanager
    async def lend(self) -> AsyncIterator[Connection]:
        """Lend one, made where there is none; in a transaction it is not taken back."""
        connection = self._idle.pop() if self._idle else await _patiently(self._engine.connect)
        lent_at = self._closed
        try:
            yield connection
        finally:
            if lent_at == self._closed and not _driver(connection).in_transaction:
                self._idle.append(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Close all; one that is lent is closed when it comes back."""
        self._closed += 1
        while self._idle:
            self._idle.pop().close()


class _Connection(sqlite3.Connection):
    """Knows its cursors: one that is left open keeps its view of the file."""

    begins = "BEGIN IMMEDIATE"

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._cursors: WeakSet[sqlite3.Cursor] = WeakSet()

    def cursor(self) -> sqlite3.Cursor:  # type: ignore[override] # SQLAlchemy asks for no other
        """Return a cursor."""
        made = super().cursor()
        self._cursors.add(made)
        return made

    def end_cursors(self) -> None:
        """Close what was not read to its end."""
        for cursor in list(self._cursors):
            cursor.close()


def _open(path: str, *, reads_only: bool) -> _Connection:
    made = sqlite3.connect(path, timeout=LOCK_WAIT_S, isolation_level=None, factory=_Connection)
    try:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("PRAGMA synchronous=NORMAL")
        made.execute("PRAGMA foreign_keys=ON")
        made.execute("PRAGMA wal_autocheckpoint=0")
        if reads_only:
            made.execute("PRAGMA query_only=ON")
            made.begins = "BEGIN"
    except BaseException:
        made.close()
        raise
    return made


def _send_begin(connection: Connection) -> None:
    driver = _driver(connection)
    try:
        driver.execute(driver.begins)
    except sqlite3.Error as error:
        raise OperationalError(driver.begins, None, error) from error


def _driver(connection: Connection) -> _Connection:
    return cast("_Connection", connection.connection.driver_connection)


@contextmanager
def _unit(connection: Connection, begun: Transaction) -> Iterator[None]:
    """Commit what was begun when the block ends, roll it back when it raises."""
    with begun:
        try:
            yield
        finally:
            _driver(connection).end_cursors()


async def _patiently(do: Callable[[], T]) -> T:
    """Do it again and again while another process holds the file; the loop goes on meanwhile.

    Raises:
        DBAPIError: it holds it for too long, or the trouble is another.
    """
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            return do()
        except DBAPIError as error:
            if not _is_busy(error) or time.monotonic() > until:
                raise
        await asyncio.sleep(LOCK_AGAIN_S)


def _is_busy(error: DBAPIError) -> bool:
    code = getattr(error.orig, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF == sqlite3.SQLITE_BUSY  # the rest of an extended code says why


def _checkpoint(path: str) -> None:
    there = f"{Path(path).absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(there, uri=True)) as connection:
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
