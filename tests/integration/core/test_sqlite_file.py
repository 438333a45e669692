"""SQLite in the loop's thread: what would hold the loop up happens elsewhere, or piece by piece."""

import asyncio
import sqlite3
import sys
from asyncio.subprocess import PIPE

import pytest
from sqlalchemy import text

from twinfra.core.database import Database
from twinfra.core.sqlite import ROWS_AT_ONCE, UNITS_A_CHECKPOINT
from twinfra.testkit.waiting import wait_for

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


async def test_the_log_of_writes_is_brought_home_now_and_then(notes, tmp_path):
    kept_bytes = (tmp_path / "notes.sqlite").stat().st_size
    for number in range(UNITS_A_CHECKPOINT):
        await write(notes, str(number) * 100)
    await wait_for(lambda: (tmp_path / "notes.sqlite").stat().st_size > kept_bytes)


async def test_a_connection_in_use_closes_with_its_unit_of_work(notes):
    async with notes.begin() as connection:
        await notes.close()
        await connection.execute(text("INSERT INTO notes VALUES ('kept')"))
    assert await words(notes) == ["kept"]
