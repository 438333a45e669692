"""SQL behind one door: SQLite for one machine, PostgreSQL for many, the same code on both.

A store opens a unit of work with ``async with database.begin() as connection`` and speaks
SQLAlchemy Core. On PostgreSQL each service has a schema of its own; no service joins another's.
SQLite runs in WAL mode and serialises writers by ``BEGIN IMMEDIATE``; how is in `sqlite`.
"""

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Concatenate, ParamSpec, Protocol, TypeVar

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from pydantic import field_validator
from sqlalchemy import (
    URL,
    DateTime,
    Dialect,
    Executable,
    Table,
    text,
)
from sqlalchemy import Connection as SyncConnection
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.types import TypeDecorator

from twinfra.core.home import Home
from twinfra.core.settings import SettingsGroup
from twinfra.core.sqlite import Answer, SqliteFile

P = ParamSpec("P")
T = TypeVar("T")


class DatabaseSettings(SettingsGroup):
    """Where services keep their state."""

    section: ClassVar[str] = "database"

    url: str | None = None
    """PostgreSQL as ``postgresql://user@host:port/name``; default: one SQLite file a service."""

    @field_validator("url")
    @classmethod
    def _without_password(cls, url: str | None) -> str | None:
        if url is not None and make_url(url).password is not None:
            raise ValueError("no password here: name a file that holds it, as password_file")
        return url

    password_file: Path | None = None
    """File with the password of that user; default: none is sent."""

    pool_size: int = 5
    """Connections a service keeps; default: enough for one event loop that never blocks."""


class Connection(Protocol):
    """A unit of work: what a store asks of SQLAlchemy's connections."""

    async def execute(self, statement: Executable, parameters: Any = None) -> Answer:
        """Carry out a statement."""
        ...

    async def exec_driver_sql(self, statement: str, parameters: Any = None) -> Answer:
        """Carry out a statement in the database's own words."""
        ...

    def stream(self, statement: Executable) -> AbstractAsyncContextManager[AsyncIterator[Any]]:
        """Read a large answer row by row."""
        ...

    async def run_sync(
        self, fn: Callable[Concatenate[SyncConnection, P], T], *arg: P.args, **kw: P.kwargs
    ) -> T:
        """Call `fn` with SQLAlchemy's plain connection."""
        ...


class UTCDateTime(TypeDecorator[datetime]):
    """A moment, aware and in UTC on the Python side on every database."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse naive moments; hand SQLite the naive UTC that it can hold."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Give back an aware moment."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Database:
    """One service's database.

    Args:
        url: an SQLAlchemy URL; ``sqlite:///path`` or ``postgresql://…``, without a driver.
        schema: the PostgreSQL schema that holds the service's tables; ignored by SQLite.
        pool_size: connections kept open.
    """

    def __init__(self, url: str, *, schema: str | None = None, pool_size: int = 5) -> None:
        self.url = parsed = make_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self.schema = None if self.is_sqlite else schema
        self._at: SqliteFile | _Server = (
            SqliteFile(parsed) if self.is_sqlite else _Server(parsed, schema, pool_size)
        )

    def begin(self) -> AbstractAsyncContextManager[Connection]:
        """Open a unit of work: committed when the block ends, rolled back when it raises."""
        return self._at.begin()

    def read(self) -> AbstractAsyncContextManager[Connection]:
        """Open a view for reading: all its answers are of one moment, and it refuses to write."""
        return self._at.read()

    def insert(self, table: Table) -> Any:
        """Return the dialect's insert, which has ``on_conflict_do_nothing`` and ``…_update``."""
        return sqlite.insert(table) if self.is_sqlite else postgresql.insert(table)

    async def migrate(self, package: str, revision: str = "head") -> None:
        """Bring the tables to `revision` by the Alembic files of `package`.

        Guarantees: running it again changes nothing; two processes at once do it once.
        """
        folder = Path(next(iter(importlib.import_module(package).__path__)))
        async with self.begin() as connection:
            if self.schema:
                await connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('twinfra'))"))
                await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{self.schema}"'))
            else:
                await connection.execute(text("SELECT 1"))  # with it we hold the file's write lock
            await connection.run_sync(_upgrade, folder, self.schema, revision)

    async def close(self) -> None:
        """Close all connections."""
        await self._at.close()


def open_database(home: Home, service: str, folder: Path | None = None) -> Database:
    """Return the database of `service`: PostgreSQL where settings name one, else a SQLite file.

    Args:
        home: the federation's home.
        service: the file's name or the schema's.
        folder: where the SQLite file stands; default: the home's ``db``. A site's own databases are
            always SQLite, and name their folder.
    """
    settings = DatabaseSettings.load(home)
    if settings.url is None or folder is not None:
        return Database(f"sqlite:///{(folder or home.db) / service}.sqlite")
    url = make_url(settings.url)
    if settings.password_file is not None:
        url = url.set(password=settings.password_file.read_text().strip())
    return Database(
        url.render_as_string(hide_password=False), schema=service, pool_size=settings.pool_size
    )


class _Server:
    """Connections to PostgreSQL."""

    def __init__(self, url: URL, schema: str | None, pool_size: int) -> None:
        path = {"options": f"-csearch_path={schema}"} if schema else {}
        self._engine = create_async_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=pool_size,
            pool_pre_ping=True,
            connect_args=path,
        )
        self._reading = self._engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )

    def begin(self) -> AbstractAsyncContextManager[Connection]:
        return self._engine.begin()

    def read(self) -> AbstractAsyncContextManager[Connection]:
        return self._reading.begin()

    async def close(self) -> None:
        await self._engine.dispose()


def _upgrade(connection: SyncConnection, folder: Path, schema: str | None, revision: str) -> None:
    scripts = ScriptDirectory(str(folder), version_locations=[str(folder)])

    def steps(current: Any, _context: Any) -> Any:
        return scripts._upgrade_revs(revision, current)  # noqa: SLF001 - what alembic's own command does

    with EnvironmentContext(Config(), scripts, fn=steps) as environment:
        environment.configure(
            connection=connection,
            version_table_schema=schema,
            transaction_per_migration=False,
            render_as_batch=True,
        )
        environment.run_migrations()
