"""The engine behind all durable work: a table, leases, and wake-ups instead of polling.

A row is a piece of work: kind, key, step, attempts, ``next_run_at``, ``lease_until``. A worker
takes a due row under a lease (``SKIP LOCKED`` on PostgreSQL), runs its step, writes outcome and
data in one transaction, and goes on with the next step under the same lease until the work waits.
After a crash the lease ends and the step runs again, so steps are idempotent.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Table

from twinfra.core.database import Connection, Database
from twinfra.core.errors import TwinfraError, shorten
from twinfra.core.telemetry import get_logger, span
from twinfra.core.time import Clock, pause_s
from twinfra.core.workflow.model import (
    Done,
    Fail,
    Goto,
    Leg,
    Next,
    Outcome,
    Run,
    Wait,
    Workflow,
    WorkState,
)
from twinfra.core.workflow.queue import Held, WorkQueue

log = get_logger(__name__)

LEASE_S = 60.0
WORKERS = 16


@dataclass(frozen=True)
class _Again(Wait):
    """A pause after an error: the count of attempts goes on."""


class Engine:
    """Runs the work of one service.

    Args:
        database: of the service.
        table: from `workflow_table`.
        clock: tells when work is due.
        workflows: the kinds this engine knows.
        workers: pieces of work in progress at once.
        lease_s: how long a worker that says nothing is believed to live.
    """

    def __init__(
        self,
        database: Database,
        table: Table,
        clock: Clock,
        workflows: Sequence[Workflow],
        *,
        workers: int = WORKERS,
        lease_s: float = LEASE_S,
    ) -> None:
        self._workflows = {workflow.kind: workflow for workflow in workflows}
        self._clock, self._database = clock, database
        self._queue = WorkQueue(
            database, table, clock, list(self._workflows), timedelta(seconds=lease_s)
        )
        self._room = asyncio.Semaphore(workers)
        self._busy: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._rests_until: datetime | None = None

    async def start(
        self, connection: Connection, kind: str, key: str, data: dict[str, Any]
    ) -> None:
        """Accept work within the caller's unit of work; the same kind and key is accepted once."""
        await self._queue.add(connection, kind, key, self._workflows[kind].steps[0].name, data)
        self._news.set()

    async def wake(self, kind: str, *keys: str) -> None:
        """Let waiting work look again at once; a wake during a step is not lost."""
        async with self._database.begin() as connection:
            await self.wake_in(connection, kind, *keys)
        self.look()

    async def wake_in(self, connection: Connection, kind: str, *keys: str) -> None:
        """Do as `wake` within the caller's unit of work."""
        await self._queue.wake(connection, kind, keys)
        self._news.set()

    def look(self) -> None:
        """Look for due work at once; after the commit of `start` or `wake_in` in another's unit."""
        self._news.set()

    async def cancel(self, kind: str, key: str) -> None:
        """Stop work: its present step is interrupted, what was done is undone in reverse."""
        await self._queue.cancel(kind, key)
        if task := self._busy.get((kind, key)):
            task.cancel()
        self._news.set()

    async def state(self, kind: str, key: str) -> tuple[WorkState, str] | None:
        """Return state and reason of a piece of work, or none."""
        return await self._queue.state(kind, key)

    async def run(self) -> None:
        """Work for ever; runs until cancelled. What a dead process held is taken over at once.

        An SQLite file has one engine, so its leases are void at start; on PostgreSQL others may
        live, and a lease ends by itself.
        """
        if self._database.is_sqlite:
            await self._queue.void_leases()
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                self._rests_until = None
                until = await self._take_due(group)
                if until is not None:
                    await self._rest(until)

    async def _rest(self, until: datetime) -> None:
        self._rests_until = until
        seconds = (until - self._clock.now()).total_seconds()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, seconds)):
                await self._news.wait()

    def _expect(self, moment: datetime | None) -> None:
        """Look for due work at that moment at the latest."""
        if moment is None:
            return
        self._queue.expect(moment)
        if self._rests_until is None or moment < self._rests_until:
            self._news.set()

    async def _take_due(self, group: asyncio.TaskGroup) -> datetime | None:
        """Begin what is due, as far as there is room; return until when to rest, if at all."""
        free = self._room._value  # noqa: SLF001 - the room left bounds what is taken
        if not free:
            await self._room.acquire()
            self._room.release()
            return None
        taken, until = await self._queue.take(free)
        for row in taken:
            await self._room.acquire()
            task = group.create_task(self._advance(row))
            task.add_done_callback(self._finished)
        return until

    def _finished(self, _: asyncio.Task[None]) -> None:
        """Give the room back, also of a task that was cancelled before it began."""
        self._room.release()

    async def _advance(self, row: Held) -> None:
        """Run the steps of one piece of work until it waits or ends."""
        heart = asyncio.create_task(self._keep_lease(row))
        if (task := asyncio.current_task()) is not None:
            self._busy[row.kind, row.key] = task
        following: Held | None = row
        leg = Leg()
        try:
            while following is not None:
                row = following
                following = await self._step(row, leg)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or not await self._queue.was_cancelled(row):
                raise
            task.uncancel()
            await self._queue.release(row)
            self._news.set()
        except Exception:
            # the edge of a task: other work goes on; this step runs again, as after a crash
            log.exception("workflow_outcome_lost", kind=row.kind, key=row.key, step=row.step)
            await self._put_off(row, row.attempt + 1)
        finally:
            heart.cancel()
            self._busy.pop((row.kind, row.key), None)

    async def _step(self, row: Held, leg: Leg) -> Held | None:
        """Run one step, write down what came of it, and return what follows at once."""
        workflow = self._workflows[row.kind]
        run = Run(row.kind, row.key, row.step, row.attempt + 1, dict(row.data), leg)
        with span(f"{row.kind} {row.step}"):
            if row.cancelled or row.state == WorkState.UNDOING:
                state = WorkState.CANCELLED if row.cancelled else WorkState.FAILED
                return await self._undo(workflow, run, row, state)
            return await self._do(workflow, run, row)

    async def _put_off(self, row: Held, attempt: int) -> None:
        """Let a step whose outcome could not be written run again after a pause."""
        later = self._clock.now() + timedelta(seconds=pause_s(attempt))
        try:
            await self._write(row, Leg(), attempt=attempt, next_run_at=later)
        except Exception:
            # then the lease ends by itself
            log.exception("workflow_not_put_off", kind=row.kind, key=row.key)

    async def _keep_lease(self, row: Held) -> None:
        while True:
            await self._clock.sleep(self._queue.lease.total_seconds() / 3)
            try:
                await self._queue.keep(row)
            except Exception:
                # two more beats fit into the lease; without any, another would begin the step too
                log.exception("workflow_lease_not_kept", kind=row.kind, key=row.key)

    async def _do(self, workflow: Workflow, run: Run, row: Held) -> Held | None:
        step = workflow.steps[workflow.index[run.step]]
        earlier = len(run.leg.writes), len(run.leg.after)
        try:
            outcome = await step.do(run)
        except TwinfraError as error:
            outcome = self._retried(workflow, run, error, error.detail, error.retryable)
        except Exception as error:  # noqa: BLE001 - the edge of a task: it is logged and named
            outcome = self._retried(workflow, run, error, repr(error), retryable=run.attempt < 4)
        else:
            return await self._settle(workflow, run, row, outcome)
        del run.leg.writes[earlier[0] :], run.leg.after[earlier[1] :]
        return await self._settle(workflow, run, row, outcome)

    def _retried(
        self, workflow: Workflow, run: Run, error: Exception, text: str, retryable: bool
    ) -> Outcome:
        if retryable and run.attempt < workflow.max_attempts:
            after = getattr(error, "retry_after_s", None) or pause_s(run.attempt)
            log.warning(
                "workflow_step_retried", kind=run.kind, key=run.key, step=run.step,
                attempt=run.attempt, after_s=after, exc_info=error,
            )  # fmt: skip
            return _Again(after, shorten(text))
        log.warning(
            "workflow_step_failed", kind=run.kind, key=run.key, step=run.step, exc_info=error
        )
        return Fail(f"{run.step}: {text}")

    async def _settle(
        self, workflow: Workflow, run: Run, row: Held, outcome: Outcome
    ) -> Held | None:
        match outcome:
            case Next(written) if workflow.index[run.step] + 1 < len(workflow.steps):
                step = workflow.steps[workflow.index[run.step] + 1].name
                return await self._go_on(row, run, step, written=written)
            case Goto(step, written):
                return await self._go_on(row, run, step, written=written)
            case Wait(timeout_s, reason):
                later = self._clock.now() + timedelta(seconds=timeout_s)
                attempt = run.attempt if isinstance(outcome, _Again) else 0
                await self._write(
                    row, run.leg, step=run.step, attempt=attempt, data=run.data, reason=reason,
                    next_run_at=later, unless_woken=True,
                )  # fmt: skip
            case Next() | Done():
                await self._end(workflow, run, row, WorkState.DONE, "")
            case Fail(reason):
                failed = replace(row, state=WorkState.UNDOING, reason=reason)
                return await self._go_on(failed, run, row.step, was=row)
        return None

    async def _go_on(
        self, row: Held, run: Run, step: str, *, was: Held | None = None, written: bool = True
    ) -> Held | None:
        """Keep the lease for another step; `row` has the state and reason that it begins with."""
        now = self._clock.now()
        following = replace(row, step=step, attempt=0, data=run.data)
        if not written:
            return replace(following, stands=row.stands or row.step)
        found = await self._write(
            was or row, run.leg, state=row.state, reason=row.reason, step=step, attempt=0,
            data=run.data, next_run_at=now, lease_until=now + self._queue.lease,
        )  # fmt: skip
        if found is None:
            return None
        return replace(following, stands=None, wakes=found.wakes, cancelled=found.cancelled)

    async def _undo(self, workflow: Workflow, run: Run, row: Held, state: WorkState) -> Held | None:
        """Undo from the present step backwards, one transaction a step."""
        step = workflow.steps[workflow.index[run.step]]
        try:
            if step.undo is not None:
                await step.undo(run)
        except Exception as error:
            log.warning(
                "workflow_undo_retried", kind=run.kind, key=run.key, step=run.step, exc_info=error
            )
            if run.attempt < workflow.max_attempts:
                later = self._clock.now() + timedelta(seconds=pause_s(run.attempt))
                await self._write(
                    row, run.leg, attempt=run.attempt, data=run.data, next_run_at=later
                )
                return None
        place = workflow.index[run.step]
        if place == 0:
            await self._end(workflow, run, row, state, row.reason)
            return None
        undoing = replace(row, state=WorkState.UNDOING)
        return await self._go_on(undoing, run, workflow.steps[place - 1].name, was=row)

    async def _end(
        self, workflow: Workflow, run: Run, row: Held, state: WorkState, reason: str
    ) -> None:
        if workflow.on_end is not None:
            await workflow.on_end(run, state, reason)
        await self._write(
            row, run.leg, step=run.step, state=state, data=run.data, reason=reason, next_run_at=None
        )

    async def _write(self, row: Held, leg: Leg, **values: Any) -> Any:
        """Write an outcome, as `WorkQueue.write`, and be there when the work is due again.

        What was left to be written with it is, and a new leg begins.
        """
        ended = leg.end()
        found = await self._queue.write(row, writes=ended.writes, **values)
        if found is None:
            self._news.set()  # another has it, or gives it back
            return None
        if values.get("lease_until") is None:
            self._expect(found.next_run_at)
        for call in ended.after:
            await call()
        return found
