"""Steps whose outcomes are written down together, with what they want to be written beside."""

import asyncio
from contextlib import suppress

import pytest
from sqlalchemy import Column, MetaData, String, Table, insert, select

from twinfra.core.errors import Unavailable
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.core.workflow import (
    Done,
    Engine,
    Goto,
    Next,
    Step,
    Wait,
    Workflow,
    WorkState,
    workflow_table,
)
from twinfra.testkit.waiting import wait_for

METADATA = MetaData()
TABLE = workflow_table(METADATA)
NOTES = Table("notes", METADATA, Column("text", String(64), primary_key=True))


class Works:
    """A database with one kind of work, and what was written beside it."""

    def __init__(self, database):
        self.database, self.engine, self.task = database, None, None
        self.after = []

    async def begin(self, *steps):
        flow = Workflow("k", [Step(step.__name__, step) for step in steps])
        self.engine = Engine(self.database, TABLE, SYSTEM_CLOCK, [flow])
        self.task = asyncio.create_task(self.engine.run())
        async with self.database.begin() as connection:
            await self.engine.start(connection, "k", "a", {})

    async def end(self):
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task

    async def ended(self):
        async def look():
            return (await self.engine.state("k", "a"))[0] is WorkState.DONE

        await wait_for(look, what="the end")

    async def row(self):
        async with self.database.read() as connection:
            return (await connection.execute(select(TABLE))).one()

    async def notes(self):
        async with self.database.read() as connection:
            return set((await connection.execute(select(NOTES.c.text))).scalars())

    def note(self, run, text):
        async def write(connection):
            await connection.execute(insert(NOTES).values(text=text))

        async def after():
            self.after.append((text, text in await self.notes()))

        run.leg.writes.append(write)
        run.leg.after.append(after)


@pytest.fixture
async def works(database):
    async with database.begin() as connection:
        if database.schema:
            await connection.exec_driver_sql(f'CREATE SCHEMA "{database.schema}"')
        await connection.run_sync(METADATA.create_all)
    made = Works(database)
    yield made
    await made.end()


async def test_all_is_written_with_the_outcome_that_ends_the_leg(works):
    seen = []

    async def first(run):
        works.note(run, "first")
        run.data["n"], run.leg.memo["m"] = 1, "kept"
        return Next(written=False)

    async def second(run):
        seen.append(
            (run.data["n"], run.leg.memo["m"], await works.notes(), (await works.row()).step)
        )
        works.note(run, "second")
        return Goto("last")

    async def last(run):
        seen.append((run.data["n"], dict(run.leg.memo), await works.notes()))
        return Done()

    await works.begin(first, second, last)
    await works.ended()
    assert seen == [(1, "kept", set(), "first"), (1, {}, {"first", "second"})]
    assert works.after == [("first", True), ("second", True)]


async def test_a_pause_stands_at_the_step_that_asked_for_it(works):
    async def first(run):
        return Goto("last", written=False)

    async def middle(run):
        raise AssertionError("passed over")

    async def last(run):
        return Wait(3600, "for the event")

    await works.begin(first, middle, last)

    async def waits():
        return (await works.row()).reason == "for the event"

    await wait_for(waits)
    assert (await works.row()).step == "last"


async def test_a_wake_between_two_steps_of_a_leg_is_not_lost(works):
    turns = []

    async def first(run):
        await works.engine.wake("k", "a")
        return Next(written=False)

    async def last(run):
        turns.append(run.attempt)
        return Wait(3600) if len(turns) == 1 else Done()

    await works.begin(first, last)
    await works.ended()
    assert turns == [1, 1]


async def test_what_a_failed_step_wanted_is_not_written_and_the_rest_is(works):
    turns = []

    async def first(run):
        works.note(run, "first")
        return Next(written=False)

    async def last(run):
        turns.append(run.attempt)
        works.note(run, f"last {len(turns)}")
        if len(turns) == 1:
            raise Unavailable("away")
        return Done()

    await works.begin(first, last)
    await works.ended()
    assert await works.notes() == {"first", "last 2"}


async def test_nothing_is_written_when_another_worker_went_on(works):
    async def first(run):
        works.note(run, "mine")
        async with works.database.begin() as connection:  # as one that took the lapsed lease
            await connection.execute(TABLE.update().values(step="last", lease_until=None))
        return Next()

    async def middle(run):
        raise AssertionError("somebody else's")

    async def last(run):
        return Done()

    await works.begin(first, middle, last)
    await works.ended()
    assert (await works.notes(), works.after) == (set(), [])


async def test_the_leg_begins_again_when_its_writes_fail(works):
    turns = []

    async def first(run):
        turns.append(1)
        return Next(written=False)

    async def last(run):
        works.note(run, "once")
        if len(turns) == 1:
            works.note(run, "once")  # a key twice: the whole transaction is lost
        return Done()

    await works.begin(first, last)
    await works.ended()
    assert len(turns) == 2
    assert await works.notes() == {"once"}
