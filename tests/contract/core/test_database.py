"""Units of work, readers and migrations, on SQLite and PostgreSQL."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from twinfra.core.database import Database, DatabaseSettings, UTCDateTime, open_database
from twinfra.core.home import Home

METADATA = MetaData()
things = Table(
    "things",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(20), unique=True),
    Column("at", UTCDateTime),
    Column("count", Integer, default=0),
)
PACKAGE = "twinfra.orchestration.catalogue.migrations"


@pytest.fixture
async def filled(database):
    """A database with the table of this file."""
    if database.schema:
        async with database.begin() as connection:
            await connection.execute(text(f'CREATE SCHEMA "{database.schema}"'))
    async with database.begin() as connection:
        await connection.run_sync(METADATA.create_all)
    return database


async def _names(database):
    async with database.read() as connection:
        query = select(things.c.name).order_by(things.c.name)
        return list((await connection.execute(query)).scalars())


@pytest.mark.story(
    "SQLite and PostgreSQL behind the same code, migrations with Alembic from the first table"
)
async def test_work_is_kept_when_the_block_ends(filled):
    async with filled.begin() as connection:
        await connection.execute(insert(things).values(name="a"))
    assert await _names(filled) == ["a"]


async def test_work_is_undone_when_the_block_raises(filled):
    async def fail():
        async with filled.begin() as connection:
            await connection.execute(insert(things).values(name="a"))
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError):
        await fail()
    assert await _names(filled) == []


async def test_work_is_undone_when_it_is_cancelled(filled):
    begun = asyncio.Event()

    async def wait():
        async with filled.begin() as connection:
            await connection.execute(insert(things).values(name="a"))
            begun.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(wait())
    await begun.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await _names(filled) == []
    async with filled.begin() as connection:
        await connection.execute(insert(things).values(name="b"))
    assert await _names(filled) == ["b"]


async def test_no_count_is_lost_when_many_write_at_once(filled):
    async with filled.begin() as connection:
        await connection.execute(insert(things).values(name="a", count=0))

    async def add():
        async with filled.begin() as connection:
            await connection.execute(update(things).values(count=things.c.count + 1))

    await asyncio.gather(*(add() for _ in range(25)))
    async with filled.read() as connection:
        assert (await connection.execute(select(things.c.count))).scalar_one() == 25


async def test_readers_go_on_when_a_writer_is_in_the_middle(filled):
    async with filled.begin() as writer:
        await writer.execute(insert(things).values(name="a"))
        async with asyncio.timeout(10):
            assert await _names(filled) == []
    assert await _names(filled) == ["a"]


async def test_a_reader_sees_one_moment_when_others_write_meanwhile(filled):
    async with filled.read() as reader:
        before = (await reader.execute(select(func.count()).select_from(things))).scalar_one()
        async with filled.begin() as writer:
            await writer.execute(insert(things).values(name="a"))
        after = (await reader.execute(select(func.count()).select_from(things))).scalar_one()
    assert (before, after) == (0, 0)
    assert await _names(filled) == ["a"]


async def test_a_reader_is_refused_when_it_writes(filled):
    async def sneak():
        async with filled.read() as connection:
            await connection.execute(insert(things).values(name="a"))

    with pytest.raises(DBAPIError, match=r"(?i)read.?only"):
        await sneak()
    assert await _names(filled) == []
    async with filled.begin() as connection:
        await connection.execute(insert(things).values(name="b"))
    assert await _names(filled) == ["b"]


async def test_doubles_are_left_out_when_the_insert_says_so(filled):
    row = filled.insert(things).values(name="a", count=1)
    async with filled.begin() as connection:
        await connection.execute(row)
        await connection.execute(row.on_conflict_do_nothing(index_elements=["name"]))
        await connection.execute(
            row.on_conflict_do_update(index_elements=["name"], set_={"count": 5})
        )
        found = (await connection.execute(select(things.c.name, things.c.count))).all()
    assert found == [("a", 5)]

    async def double():
        async with filled.begin() as connection:
            await connection.execute(row)

    with pytest.raises(IntegrityError):
        await double()


async def test_a_moment_is_aware_and_utc_when_read_back(filled):
    moment = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    async with filled.begin() as connection:
        await connection.execute(
            insert(things), [{"name": "a", "at": moment}, {"name": "b", "at": None}]
        )
    async with filled.read() as connection:
        query = select(things.c.at).order_by(things.c.name)
        found, nothing = (await connection.execute(query)).scalars()
        later = select(things.c.name).where(things.c.at > moment - timedelta(seconds=1))
        assert (await connection.execute(later)).scalars().all() == ["a"]
    assert (found, found.tzinfo, nothing) == (moment, UTC, None)


async def test_a_naive_moment_is_refused_when_written(filled):
    async def naive():
        async with filled.begin() as connection:
            await connection.execute(insert(things).values(name="a", at=datetime(2026, 1, 1)))  # noqa: DTZ001 - naive on purpose

    with pytest.raises(StatementError, match="time zone"):
        await naive()


async def test_nothing_changes_when_migrated_again(database):
    await database.migrate(PACKAGE)
    async with database.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = version_num"))
    await database.migrate(PACKAGE)
    async with database.read() as connection:
        rows = await connection.execute(text("SELECT version_num FROM alembic_version"))
        assert len(rows.all()) == 1


async def test_tables_are_made_once_when_two_migrate_at_once(database, request, tmp_path):
    if database.is_sqlite:
        other = Database(f"sqlite:///{tmp_path}/test.sqlite")
    else:
        other = Database(request.getfixturevalue("postgres_url"), schema=database.schema)
    try:
        await asyncio.gather(*(each.migrate(PACKAGE) for each in (database, other) * 3))
        async with other.read() as connection:
            rows = await connection.execute(text("SELECT version_num FROM alembic_version"))
            assert len(rows.all()) == 1
    finally:
        await other.close()


async def test_schemas_are_apart_when_two_services_share_a_server(postgres_url):
    one, other = (Database(postgres_url, schema=name) for name in ("apart_a", "apart_b"))
    try:
        for each in (one, other):
            await each.migrate(PACKAGE)
        async with one.begin() as connection:
            await connection.execute(text("DROP TABLE alembic_version"))
        async with other.read() as connection:
            rows = await connection.execute(text("SELECT * FROM alembic_version"))
            assert len(rows.all()) == 1
    finally:
        for each in (one, other):
            await each.close()


async def test_a_file_a_service_is_used_when_settings_name_no_server(home: Home, tmp_path):
    one, other = open_database(home, "datasets"), open_database(home, "plugin", tmp_path / "site")
    (tmp_path / "site").mkdir()
    for each in (one, other):
        async with each.begin() as connection:
            await connection.execute(text("CREATE TABLE t (a INTEGER)"))
        await each.close()
    assert (home.db / "datasets.sqlite").exists()
    assert (tmp_path / "site" / "plugin.sqlite").exists()


@pytest.mark.story("Secrets only by file")
async def test_the_servers_password_comes_from_a_file_when_settings_name_one(home, tmp_path):
    secret = tmp_path / "password"
    secret.write_text("hush\n")
    home.root.mkdir()
    home.settings_file.write_text(
        '[database]\nurl = "postgresql://twin@db.example/twin"\n'
        f'password_file = "{secret}"\npool_size = 3\n'
    )
    made = open_database(home, "datasets")
    assert made.url.password == "hush"
    assert (made.schema, made.is_sqlite) == ("datasets", False)
    shown = DatabaseSettings.origins(home)
    assert "hush" not in repr(shown)
    await made.close()


async def test_the_next_writes_at_once_when_others_were_cancelled_anywhere(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/cancelled.sqlite")
    async with database.begin() as connection:
        await connection.execute(text("CREATE TABLE notes (word TEXT)"))

    async def write():
        async with database.begin() as connection:
            words = [{"word": "one"}, {"word": "two"}]
            await connection.execute(text("INSERT INTO notes VALUES (:word)"), words)

    async def look():
        async with database.read() as connection:
            await connection.execute(text("SELECT count(*) FROM notes"))

    for moment in range(150):
        tasks = [asyncio.create_task(work()) for work in (write, look, write, look)]
        await asyncio.sleep(moment * 0.00005)  # so that each round is cut elsewhere
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.timeout(20):
            await write()
    async with database.read() as connection:
        counted = await connection.execute(text("SELECT word, count(*) FROM notes GROUP BY word"))
        ones, twos = (row[1] for row in counted)
    assert ones == twos >= 150  # a unit of work was kept whole, or not at all
    await database.close()


async def test_nothing_is_left_open_when_tasks_are_cancelled_while_a_connection_is_made(tmp_path):
    path = tmp_path / "made.sqlite"
    for moment in range(100):
        database = Database(f"sqlite:///{path}")

        async def look(database=database):
            async with database.read() as connection:
                await connection.execute(text("SELECT 1"))

        task = asyncio.create_task(look())
        await asyncio.sleep(moment * 0.0001)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await database.close()
    assert not _descriptors(path)


def _descriptors(path):
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            target = descriptor.readlink()
            if target.name.startswith(path.name):
                found.append(target)
    return found
