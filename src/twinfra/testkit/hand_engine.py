"""The durable engine turned by hand: steps run when the test says so, on virtual time.

It can repeat each step, as a crash between a step and the writing of its outcome would, and says
what it did in which order.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from twinfra.core.database import Database
from twinfra.core.time import Clock
from twinfra.core.workflow import (
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

TURNS_MOST = 3000


@dataclass
class HandRow:
    """A piece of work as the engine keeps it."""

    kind: str
    key: str
    step: str
    due_at: datetime
    data: dict[str, Any] = field(default_factory=dict)
    state: WorkState = WorkState.RUNNING
    reason: str = ""
    leg: Leg = field(default_factory=Leg)


class HandEngine:
    """Takes and wakes work like ``core.workflow.Engine``; `turn` carries out what is due.

    Args:
        clock: says what is due.
        twice: carry out each step twice, the outcome of the first time lost.
        database: of the steps that have writes of their own.
    """

    def __init__(
        self, clock: Clock, *, twice: bool = False, database: Database | None = None
    ) -> None:
        self._clock, self.twice, self._database = clock, twice, database
        self._workflows: dict[str, Workflow] = {}
        self.rows: dict[tuple[str, str], HandRow] = {}
        self.trail: list[tuple[str, str]] = []

    def use(self, workflows: Sequence[Workflow]) -> None:
        """Take the kinds of work, which are made after this."""
        self._workflows = {each.kind: each for each in workflows}

    async def start(self, _connection: Any, kind: str, key: str, data: dict[str, Any]) -> None:
        """Accept work once."""
        first = self._workflows[kind].steps[0].name
        row = HandRow(kind, key, first, self._clock.now(), copy.deepcopy(data))
        self.rows.setdefault((kind, key), row)

    async def wake_in(self, _connection: Any, kind: str, key: str) -> None:
        """Let waiting work be due."""
        if (row := self.rows.get((kind, key))) is not None:
            row.due_at = self._clock.now()

    def look(self) -> None:
        """Do nothing: the test turns it."""

    async def turn(self) -> None:
        """Carry out steps until nothing is due.

        Raises:
            AssertionError: it does not come to rest.
        """
        for _ in range(TURNS_MOST):
            due = [row for row in self.rows.values() if self._is_due(row)]
            if not due:
                return
            await self._advance(min(due, key=lambda row: row.due_at))
        raise AssertionError(f"work never rests: {self.trail[-20:]}")

    def at(self, kind: str) -> dict[str, str]:
        """Return the step that each running work of `kind` is at, by key."""
        return {
            row.key: row.step
            for row in self.rows.values()
            if row.kind == kind and row.state is WorkState.RUNNING
        }

    def soonest(self) -> datetime | None:
        """Return when the next work is due, or none."""
        waiting = [r.due_at for r in self.rows.values() if r.state is WorkState.RUNNING]
        return min(waiting, default=None)

    def _is_due(self, row: HandRow) -> bool:
        return row.state is WorkState.RUNNING and row.due_at <= self._clock.now()

    async def _advance(self, row: HandRow) -> None:
        workflow = self._workflows[row.kind]
        step = workflow.steps[workflow.index[row.step]]
        self.trail.append((row.kind, row.step))
        before = row.due_at
        if self.twice:
            lost = Leg(memo=dict(row.leg.memo))
            await step.do(Run(row.kind, row.key, row.step, 1, copy.deepcopy(row.data), lost))
        run = Run(row.kind, row.key, row.step, 2 if self.twice else 1, row.data, row.leg)
        outcome = await step.do(run)
        if getattr(outcome, "written", True):
            await self._write(row.leg.end())
        await self._settle(workflow, row, outcome, woken=row.due_at != before)

    async def _write(self, leg: Leg) -> None:
        if leg.writes and self._database is not None:
            async with self._database.begin() as connection:
                for write in leg.writes:
                    await write(connection)
        for call in leg.after:
            await call()

    async def _settle(
        self, workflow: Workflow, row: HandRow, outcome: Outcome, *, woken: bool
    ) -> None:
        now = self._clock.now()
        match outcome:
            case Next() if workflow.index[row.step] + 1 < len(workflow.steps):
                row.step = workflow.steps[workflow.index[row.step] + 1].name
            case Goto(step):
                row.step = step
            case Wait(timeout_s, reason):
                row.reason = reason
                row.due_at = now if woken else now + timedelta(seconds=timeout_s)
            case Next() | Done():
                row.state = WorkState.DONE
            case Fail(reason):
                row.state, row.reason = WorkState.FAILED, reason
                run = Run(row.kind, row.key, row.step, 1, row.data)
                if workflow.on_end is not None:
                    await workflow.on_end(run, WorkState.FAILED, reason)
