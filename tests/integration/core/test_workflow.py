"""The engine of durable work on both databases."""

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from sqlalchemy import MetaData

from twinfra.core.errors import InvalidRequest, Unavailable
from twinfra.core.tasks import end
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.core.workflow import (
    Done,
    Engine,
    Fail,
    Goto,
    Next,
    Step,
    Wait,
    Workflow,
    WorkState,
    workflow_table,
)
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.waiting import wait_for


@pytest.fixture
async def table(database):
    metadata = MetaData()
    made = workflow_table(metadata)
    async with database.begin() as connection:
        if database.schema:
            await connection.exec_driver_sql(f'CREATE SCHEMA "{database.schema}"')
        await connection.run_sync(metadata.create_all)
    return made


@asynccontextmanager
async def working(database, table, *workflows):
    engine = Engine(database, table, SYSTEM_CLOCK, workflows)
    task = asyncio.create_task(engine.run())
    yield engine
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def begin(engine, database, kind, key, data=None):
    async with database.begin() as connection:
        await engine.start(connection, kind, key, data or {})


async def ended(engine, kind, key, state):
    async def look():
        found = await engine.state(kind, key)
        return found is not None and found[0] == state

    await wait_for(look, what=f"{kind} {key} {state}")


async def test_steps_run_in_order_and_keep_data(database, table):
    seen = []

    async def one(run):
        run.data["n"] = 1
        return Next()

    async def two(run):
        seen.append(run.data["n"])
        return Done()

    flow = Workflow("k", [Step("one", one), Step("two", two)])
    async with working(database, table, flow) as engine:
        await begin(engine, database, "k", "a")
        await begin(engine, database, "k", "a")
        await ended(engine, "k", "a", WorkState.DONE)
    assert seen == [1]


async def test_wake_ends_a_long_wait_at_once(database, table):
    turns = []

    async def step(run):
        turns.append(run.attempt)
        return Wait(3600, "for the event") if len(turns) == 1 else Done()

    async with working(database, table, Workflow("k", [Step("s", step)])) as engine:
        await begin(engine, database, "k", "a")
        await wait_for(lambda: turns)
        await engine.wake("k", "a")
        await ended(engine, "k", "a", WorkState.DONE)
    assert turns == [1, 1]


async def test_wake_during_a_step_is_not_lost(database, table):
    inside, turns = asyncio.Event(), []

    async def step(run):
        turns.append(1)
        if len(turns) == 1:
            inside.set()
            await asyncio.sleep(0.1)
            return Wait(3600)
        return Done()

    async with working(database, table, Workflow("k", [Step("s", step)])) as engine:
        await begin(engine, database, "k", "a")
        await inside.wait()
        await engine.wake("k", "a")
        await ended(engine, "k", "a", WorkState.DONE)


async def test_retryable_error_is_tried_again_and_others_fail_at_once(database, table):
    turns = []

    async def flaky(run):
        turns.append(run.attempt)
        if run.attempt < 3:
            raise Unavailable("not yet", retry_after_s=0.01)
        return Done()

    async def wrong(run):
        raise InvalidRequest("never")

    flows = Workflow("flaky", [Step("s", flaky)]), Workflow("wrong", [Step("s", wrong)])
    async with working(database, table, *flows) as engine:
        await begin(engine, database, "flaky", "a")
        await begin(engine, database, "wrong", "a")
        await ended(engine, "flaky", "a", WorkState.DONE)
        await ended(engine, "wrong", "a", WorkState.FAILED)
        assert (await engine.state("wrong", "a"))[1] == "s: never"
    assert turns == [1, 2, 3]


async def test_failure_undoes_in_reverse_and_tells_the_end(database, table):
    trace = []

    def undo(name):
        async def act(run):
            trace.append(name)

        return act

    async def fine(run):
        return Next()

    async def broken(run):
        return Fail("no room")

    async def end(run, state, reason):
        trace.append((state, reason))

    steps = [
        Step("a", fine, undo("a")),
        Step("b", fine, undo("b")),
        Step("c", broken, undo("c")),
    ]
    async with working(database, table, Workflow("k", steps, on_end=end)) as engine:
        await begin(engine, database, "k", "a")
        await ended(engine, "k", "a", WorkState.FAILED)
    assert trace == ["c", "b", "a", (WorkState.FAILED, "no room")]


async def test_cancel_interrupts_the_present_step_and_undoes(database, table):
    inside, undone = asyncio.Event(), []

    async def long(run):
        inside.set()
        await asyncio.Event().wait()
        return Done()

    async def undo(run):
        undone.append(run.step)

    async with working(database, table, Workflow("k", [Step("s", long, undo)])) as engine:
        await begin(engine, database, "k", "a")
        await inside.wait()
        await engine.cancel("k", "a")
        await ended(engine, "k", "a", WorkState.CANCELLED)
    assert undone == ["s"]


async def test_a_step_runs_again_when_the_process_died_in_it(database, table):
    inside, turns = asyncio.Event(), []

    async def step(run):
        turns.append(1)
        if len(turns) == 1:
            inside.set()
            await asyncio.Event().wait()
        return Done()

    flow = Workflow("k", [Step("s", step)])
    async with working(database, table, flow) as engine:
        await begin(engine, database, "k", "a")
        await inside.wait()
    if not database.is_sqlite:  # on PostgreSQL the dead worker's lease would have to end first
        async with database.begin() as connection:
            await connection.execute(table.update().values(lease_until=None))
    async with working(database, table, flow) as engine:
        await ended(engine, "k", "a", WorkState.DONE)
    assert len(turns) == 2


async def test_many_run_at_once_and_goto_jumps(database, table):
    async def first(run):
        return Goto("last")

    async def never(run):
        raise AssertionError("skipped")

    async def last(run):
        return Done()

    flow = Workflow("k", [Step("first", first), Step("never", never), Step("last", last)])
    async with working(database, table, flow) as engine:
        for n in range(50):
            await begin(engine, database, "k", str(n))
        for n in range(50):
            await ended(engine, "k", str(n), WorkState.DONE)


async def test_other_work_goes_on_when_the_end_of_one_cannot_be_told(database, table):
    told = []

    async def fine(run):
        return Done()

    async def end(run, state, reason):
        told.append(run.key)
        if run.key == "bad" and told.count("bad") < 3:
            raise RuntimeError("the end cannot be told")

    flow = Workflow("k", [Step("s", fine)], on_end=end)
    async with working(database, table, flow) as engine:
        await begin(engine, database, "k", "bad")
        await wait_for(lambda: told)
        await begin(engine, database, "k", "good")
        await ended(engine, "k", "good", WorkState.DONE)
        await ended(engine, "k", "bad", WorkState.DONE)
    assert told.count("bad") == 3


async def test_other_work_goes_on_when_work_vanishes_in_mid_step(database, table):
    async def vanish(run):
        if run.key == "gone":
            async with database.begin() as connection:
                await connection.execute(table.delete().where(table.c.key == "gone"))
            return Wait(0.01)
        return Done()

    async with working(database, table, Workflow("k", [Step("s", vanish)])) as engine:
        await begin(engine, database, "k", "gone")
        await begin(engine, database, "k", "good")
        await ended(engine, "k", "good", WorkState.DONE)
        assert await engine.state("k", "gone") is None


async def test_a_late_outcome_changes_nothing_when_another_worker_went_on(database, table):
    ran = []

    async def slow(run):
        async with database.begin() as connection:  # as a worker that took the lapsed lease would
            await connection.execute(table.update().values(step="third", lease_until=None))
        return Next()

    async def never(run):
        ran.append("second")
        return Done()

    async def last(run):
        ran.append("third")
        return Done()

    flow = Workflow("k", [Step("first", slow), Step("second", never), Step("third", last)])
    async with working(database, table, flow) as engine:
        await begin(engine, database, "k", "a")
        await ended(engine, "k", "a", WorkState.DONE)
    assert ran == ["third"]


class OnceAway:
    """A database that fails the first beat of a lease."""

    def __init__(self, database):
        self._database, self.failed = database, False

    def __getattr__(self, name):
        return getattr(self._database, name)

    def begin(self):
        if not self.failed and asyncio.current_task().get_coro().__name__ == "_keep_lease":
            self.failed = True
            raise ConnectionError("the database was away for a moment")
        return self._database.begin()


async def test_the_lease_is_kept_when_one_beat_fails(database, table):
    clock, away, turns, over = VirtualClock(), OnceAway(database), [], asyncio.Event()

    async def step(run):
        turns.append(run.key)
        if run.key == "long":
            await over.wait()
        return Done()

    engine = Engine(away, table, clock, [Workflow("k", [Step("s", step)])], lease_s=6)
    task = asyncio.create_task(engine.run())
    await begin(engine, database, "k", "long")
    await wait_for(lambda: turns)
    await clock.advance(2)
    await wait_for(lambda: away.failed)
    await clock.advance(2)

    async def kept():
        async with database.read() as connection:
            row = (await connection.execute(table.select())).one()
        return row.lease_until > clock.now() + timedelta(seconds=5)

    await wait_for(kept, what="the second beat")
    await clock.advance(3)
    await begin(engine, database, "k", "other")
    await ended(engine, "k", "other", WorkState.DONE)
    over.set()
    await ended(engine, "k", "long", WorkState.DONE)
    assert turns == ["long", "other"]
    await end([task])
