"""What every use case and step is given, and the frame that a step of a run looks at."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from twinfra.core.time import Clock, parse_rfc3339, rfc3339
from twinfra.core.workflow import Run, Wait
from twinfra.orchestration.deployments.model.records import Attempt, Deployment, Node, NodeRun
from twinfra.orchestration.deployments.model.states import AttemptState
from twinfra.orchestration.deployments.ports import (
    Callbacks,
    Data,
    Permits,
    Ranking,
    Traffic,
    Webhooks,
)
from twinfra.orchestration.deployments.settings import DeploymentsSettings
from twinfra.orchestration.deployments.store import Store
from twinfra.orchestration.infrastructure.model import Handle, Target
from twinfra.orchestration.infrastructure.ports import Driver

ATTEMPTS_SEEN = 100
BUILD, REMOVE, RUN, CLEAN, CALL = "build", "remove", "run", "clean", "call"


class Watching(Protocol):
    """Following the sites that have something of ours."""

    def ensure(self, target: Target) -> None:
        """Follow `target` from now on, if that is not done already."""
        ...


@dataclass(frozen=True)
class Kit:
    """The ports, the store, the limits, the clock and the source of ids."""

    store: Store
    driver: Driver
    permits: Permits
    ranking: Ranking
    data: Data
    webhooks: Webhooks
    traffic: Traffic
    callbacks: Callbacks
    watching: Watching
    settings: DeploymentsSettings
    clock: Clock
    new_id: Callable[[], str]
    base_url: str


@dataclass(frozen=True)
class Scene:
    """A run with all that a step needs to see of it."""

    deployment: Deployment
    node: Node
    run: NodeRun
    attempts: tuple[Attempt, ...]

    @property
    def attempt(self) -> Attempt:
        """Return the attempt under way.

        Raises:
            LookupError: there is none.
        """
        return next(each for each in self.open_attempts)

    @property
    def open_attempts(self) -> tuple[Attempt, ...]:
        """Return the attempts under way: one or none."""
        return tuple(each for each in self.attempts if each.state is AttemptState.OPEN)

    @property
    def of_cycle(self) -> tuple[Attempt, ...]:
        """Return the attempts since the last ranking."""
        return tuple(each for each in self.attempts if each.cycle == self.run.cycle)

    @property
    def last_number(self) -> int:
        """Return the number of the newest attempt, 0 if there is none."""
        return self.attempts[-1].number if self.attempts else 0

    def handle(self, attempt: Attempt) -> Handle:
        """Return what the site knows `attempt` by."""
        return Handle.of(attempt.id, attempt.node, self.deployment.group)


async def scene_of(kit: Kit, run_id: str) -> Scene | None:
    """Return the scene of a run, or none if it is there no more."""
    async with kit.store.view() as view:
        run = await view.run(run_id)
        if run is None:
            return None
        deployment = await view.deployment(run.deployment)
        node = await view.node_named(run.deployment, run.node)
        if deployment is None or node is None:
            return None
        tried = await view.attempts(run=run_id, newest=ATTEMPTS_SEEN)
        return Scene(deployment, node, run, tuple(tried))


def rest(kit: Kit, work: Run, name: str, seconds: float) -> Wait | None:
    """Return a wait until `seconds` after this was first asked under `name`, none when over.

    A wake that comes meanwhile does not shorten it, as it would a plain wait.
    """
    now = kit.clock.now()
    if work.data.get("rest", ("", ""))[0] != name:
        work.data["rest"] = (name, rfc3339(now + timedelta(seconds=seconds)))
    left_s = (parse_rfc3339(work.data["rest"][1]) - now).total_seconds()
    return Wait(left_s, name) if left_s > 0 else None


def key_of(deployment: Deployment) -> str:
    """Return the key of the work that builds or removes this generation of a deployment."""
    return f"{deployment.id}/{deployment.generation}"


def later(moment: datetime, minutes: float | None) -> datetime | None:
    """Return the moment so many minutes later, or none if there is no limit."""
    return None if minutes is None else moment + timedelta(minutes=minutes)


def seconds_until(now: datetime, *moments: datetime | None, most: float) -> float:
    """Return the seconds from `now` to the soonest of `moments`, at most `most`."""
    left = [(moment - now).total_seconds() for moment in moments if moment is not None]
    return max(0.05, min([most, *left]))
