"""What durable work is made of: kinds, steps, and what a step answers. No I/O."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class WorkState(StrEnum):
    """The life of a piece of work."""

    RUNNING = "RUNNING"
    UNDOING = "UNDOING"
    DONE = "DONE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True)
class Next:
    """The step is done; go on with the one after it.

    Where `written` is false, that it is done is written down with the outcome of what follows: a
    crash before that begins again here, so it saves a transaction where doing it again is cheap.
    """

    written: bool = True


@dataclass(frozen=True)
class Goto:
    """The step is done; go on with the named one; `written` as above."""

    step: str
    written: bool = True


@dataclass(frozen=True)
class Wait:
    """Nothing to do until woken, or until `timeout_s` passed; then the same step runs again."""

    timeout_s: float
    reason: str = ""


@dataclass(frozen=True)
class Done:
    """The work is finished."""


@dataclass(frozen=True)
class Fail:
    """The work cannot be finished; what was done is undone where a step has an undo."""

    reason: str


Outcome = Next | Goto | Wait | Done | Fail


Write = Callable[[Any], Awaitable[None]]
"""Given the connection of the transaction."""


@dataclass
class Leg:
    """Steps whose outcomes are written down together.

    Attributes:
        writes: what is written with the outcome, in one transaction; dropped where the work is
            somebody else's by then.
        after: called once that is committed.
        memo: what one step leaves to the next; gone with the outcome.
    """

    writes: list[Write] = field(default_factory=list)
    after: list[Callable[[], Awaitable[None]]] = field(default_factory=list)
    memo: dict[str, Any] = field(default_factory=dict)

    def end(self) -> "Leg":
        """Begin anew; return what was left here."""
        left = Leg(self.writes, self.after, self.memo)
        self.writes, self.after, self.memo = [], [], {}
        return left


@dataclass
class Run:
    """One piece of work as a step sees it.

    ``data`` is JSON, changed in place, and kept with the step's outcome in one transaction;
    ``attempt`` counts how often this step has begun without an outcome, from 1.
    """

    kind: str
    key: str
    step: str
    attempt: int
    data: dict[str, Any]
    leg: Leg = field(default_factory=Leg)


Do = Callable[[Run], Awaitable[Outcome]]
Undo = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True)
class Step:
    """One step; `do` may run more than once, so it must be idempotent, and so must `undo`."""

    name: str
    do: Do
    undo: Undo | None = None


@dataclass(frozen=True)
class Workflow:
    """A kind of durable work.

    Attributes:
        kind: its name in the table.
        steps: in order.
        on_end: told when the work is done, failed or cancelled, with state and reason; idempotent.
        max_attempts: how often a step may raise a retryable error in a row before the work fails.
    """

    kind: str
    steps: Sequence[Step]
    on_end: Callable[[Run, WorkState, str], Awaitable[None]] | None = None
    max_attempts: int = 20
    index: Mapping[str, int] = field(init=False)

    def __post_init__(self) -> None:
        index = {step.name: place for place, step in enumerate(self.steps)}
        if len(index) != len(self.steps):
            raise ValueError(f"two steps of {self.kind} share a name")
        object.__setattr__(self, "index", index)
