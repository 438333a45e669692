"""SQLite in the loop's thread: what would hold the loop up happens elsewhere, or piece by piece."""

import asyncio
import contextlib
import sqlite3
import sys
import time
from asyncio.subprocess import PIPE

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from twinfra.core import sqlite
from twinfra.core.database import Database
from twinfra.core.errors import Unavailable
from twinfra.core.sqlite import READERS_MOST, ROWS_AT_ONCE

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
connection.execute("INSERT INTO notes VALUES ('theirs')")
print("held", flush=True)
sys.stdin.read()
connection.execute("COMMIT")
"""


@pytest.fixture
async def notes(tmp_path):
    database = Database(f"sqlite:///{tmp_path}/notes.sqlite")
    async with database.begin() as connection:
        await connection.execute(text("CREATE TABLE notes (word TEXT)"))
    yield database
    await database.close()


async def write(database, *words):
    async with database.begin() as connection:
        rows = [{"word": word} for word in words]
        await connection.execute(text("INSERT INTO notes VALUES (:word)"), rows)


async def words(database):
    async with database.read() as connection:
        return list((await connection.execute(text("SELECT word FROM notes"))).scalars())


async def test_the_loop_goes_on_while_another_process_writes(notes, tmp_path):
    other = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLD, f"{tmp_path}/notes.sqlite", stdin=PIPE, stdout=PIPE
    )
    assert await other.stdout.readline() == b"held\n"
    ours = asyncio.create_task(write(notes, "ours"))
    for _ in range(5):
        assert await words(notes) == []  # readers, too, are served meanwhile
        await asyncio.sleep(0.01)
    assert not ours.done()
    other.stdin.close()
    async with asyncio.timeout(20):
        await ours
    assert await other.wait() == 0
    assert await words(notes) == ["theirs", "ours"]


async def test_others_have_their_turn_while_one_writes_without_a_pause(notes):
    turns = 0

    async def count():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    for _ in range(50):
        await write(notes, "a")
    counting.cancel()
    assert turns >= 50


async def test_a_large_answer_is_read_in_pieces_between_which_others_write(notes):
    await write(notes, *map(str, range(3 * ROWS_AT_ONCE)))
    seen, task = [], None
    async with (
        notes.read() as connection,
        connection.stream(text("SELECT word FROM notes")) as rows,
    ):
        async for row in rows:
            seen.append(row.word)
            if task is None:
                task = asyncio.create_task(write(notes, "late"))
        assert task.done()
    assert seen == list(map(str, range(3 * ROWS_AT_ONCE)))
    assert (await words(notes))[-1] == "late"


async def test_an_answer_that_was_not_read_to_its_end_holds_nothing_up(notes, tmp_path):
    await write(notes, *map(str, range(3 * ROWS_AT_ONCE)))
    kept = []
    async with notes.read() as connection:
        answer = await connection.execute(text("SELECT word FROM notes"))
        kept.append((answer, answer.fetchone()))
    await write(notes, "next")
    with sqlite3.connect(tmp_path / "notes.sqlite") as plain:
        busy, in_log, copied = plain.execute("PRAGMA wal_checkpoint(FULL)").fetchone()
    plain.close()
    assert (busy, in_log) == (0, copied)


async def test_the_log_of_writes_is_begun_anew_while_one_writes_without_a_pause(notes, tmp_path):
    """Else it would grow for ever. Its header counts how often: SQLite, "File Format" 4.1."""
    log = tmp_path / "notes.sqlite-wal"

    def times():
        with log.open("rb") as file:
            return int.from_bytes(file.read(16)[12:], "big")

    first, until = times(), time.monotonic() + 60
    while times() == first:
        assert time.monotonic() < until
        for _ in range(64):
            await write(notes, "word " * 200)


async def test_a_reader_is_refused_when_too_many_read_for_too_long(notes, monkeypatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.05)
    async with contextlib.AsyncExitStack() as open_views:
        for _ in range(READERS_MOST):
            await open_views.enter_async_context(notes.read())
        with pytest.raises(Unavailable):
            await words(notes)
    assert await words(notes) == []


async def test_a_file_that_another_has_for_itself_does_not_hold_the_loop_up(tmp_path):
    path = tmp_path / "theirs.sqlite"
    theirs = sqlite3.connect(path, isolation_level=None)
    theirs.execute("PRAGMA locking_mode=EXCLUSIVE")
    theirs.execute("CREATE TABLE notes (word TEXT)")
    database = Database(f"sqlite:///{path}")
    looking = asyncio.create_task(words(database))
    await asyncio.sleep(0.1)
    assert not looking.done()
    theirs.close()
    async with asyncio.timeout(20):
        assert await looking == []
    await database.close()


async def test_a_connection_in_use_closes_with_its_unit_of_work(notes):
    async with notes.begin() as connection:
        await notes.close()
        await connection.execute(text("INSERT INTO notes VALUES ('kept')"))
    assert await words(notes) == ["kept"]


async def test_nothing_is_lost_and_work_goes_on_when_the_disk_was_full(notes):
    await write(notes, "before")
    async with notes.begin() as connection:
        pages = (await connection.exec_driver_sql("PRAGMA page_count")).scalar_one()
        await connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1}")
    with pytest.raises(OperationalError, match="full"):
        await write(notes, *("much " * 1000 for _ in range(10)))
    assert await words(notes) == ["before"]
    async with notes.begin() as connection:
        await connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 1000}")
    await write(notes, "after")
    assert await words(notes) == ["before", "after"]
