"""The back end ``mock``: jobs that only pass time, for load tests and for trying a federation.

A job waits, runs and ends by the clock, as the settings say; its state is a function of the time,
so ten thousand of them cost next to nothing. A job may bring a script of its own in the options
``mock.twinfra.io/queue-s``, ``…/run-s`` and ``…/exit-code``. It keeps nothing: a restart forgets
all.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import ClassVar, Self

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat

from twinfra.compute.containers.keeper.model import (
    COMPLETED,
    ERROR,
    FAILED,
    RUNNING,
    SUCCEEDED,
    ContainerPlan,
    ContainerStatus,
    PodState,
    Running,
    Terminated,
)
from twinfra.compute.sites.changes import Changes
from twinfra.compute.sites.model import JobSpec, JobState, JobStatus, SiteFigures
from twinfra.compute.sites.ports import CHANGES
from twinfra.core.errors import NotFound, SiteRejected, Unavailable
from twinfra.core.service import Context
from twinfra.core.settings import SettingsGroup
from twinfra.core.time import SYSTEM_CLOCK, Clock, rfc3339

CANCELLED_EXIT_CODE = 143
OPTION = "mock.twinfra.io/"


class MockSettings(SettingsGroup):
    """How the jobs of a mock site pass their time."""

    section: ClassVar[str] = "sites.{name}.mock"

    queue_s: NonNegativeFloat = 0.3
    """A job waits for so long."""

    run_s: NonNegativeFloat = 60.0
    """Then it runs for so long."""

    exit_code: NonNegativeInt = 0
    """And ends with this."""

    cpus: PositiveFloat = 10_000.0
    """Cores that it says it has."""

    slots: NonNegativeInt = 10_000
    """Jobs at once that it says it takes."""


@dataclass(frozen=True)
class _Job:
    native_id: str
    spec: JobSpec
    submitted_at: datetime
    starts_at: datetime
    ends_at: datetime
    exit_code: int
    cancelled_at: datetime | None = None


class MockSite:
    """A `Site` whose jobs follow a script."""

    capabilities = frozenset({CHANGES})

    def __init__(self, settings: MockSettings, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._settings, self._clock = settings, clock
        self._jobs: dict[str, _Job] = {}
        self._names: dict[str, str] = {}
        self._changes = Changes()
        self._timers: set[asyncio.Task[None]] = set()

    @classmethod
    def build(cls, ctx: Context, site: str) -> Self:
        """Return the back end of `site`."""
        return cls(ctx.settings(MockSettings, site), clock=ctx.clock)

    async def submit(self, spec: JobSpec) -> str:  # noqa: D102 - see the port
        if spec.name in self._names:
            return self._names[spec.name]
        now = self._clock.now()
        starts_at = now + timedelta(seconds=_option(spec, "queue-s", self._settings.queue_s))
        run_s = _option(spec, "run-s", self._settings.run_s)
        job = _Job(
            native_id=str(len(self._jobs) + 1),
            spec=spec,
            submitted_at=now,
            starts_at=starts_at,
            ends_at=starts_at + timedelta(seconds=run_s),
            exit_code=int(_option(spec, "exit-code", self._settings.exit_code)),
        )
        self._jobs[job.native_id] = job
        self._names[spec.name] = job.native_id
        timer = asyncio.create_task(self._tell(job))
        self._timers.add(timer)
        timer.add_done_callback(self._timers.discard)
        return job.native_id

    async def find(self, name: str) -> str | None:  # noqa: D102 - see the port
        return self._names.get(name)

    async def status(  # noqa: D102 - see the port
        self, native_ids: Sequence[str]
    ) -> Mapping[str, JobStatus]:
        now = self._clock.now()
        return {
            native_id: self._status(self._jobs[native_id], now)
            for native_id in native_ids
            if native_id in self._jobs
        }

    async def cancel(self, native_id: str) -> None:  # noqa: D102 - see the port
        job, now = self._jobs.get(native_id), self._clock.now()
        if job is None or job.cancelled_at is not None or job.ends_at <= now:
            return
        self._jobs[native_id] = replace(job, cancelled_at=now)
        self._changes.tell(native_id)

    async def ping(self) -> SiteFigures:  # noqa: D102 - see the port
        now = self._clock.now()
        states = [self._status(job, now).state for job in self._jobs.values()]
        running, queued = states.count(JobState.RUNNING), states.count(JobState.QUEUED)
        return SiteFigures(
            cpus=self._settings.cpus,
            slots=self._settings.slots,
            free_cpus=max(0.0, self._settings.cpus - running),
            free_slots=max(0, self._settings.slots - running),
            queue_length=queued,
            wait_s=self._settings.queue_s,
        )

    async def connect(  # noqa: D102 - see the port
        self, native_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if native_id not in self._jobs:
            raise NotFound(f"no job {native_id}")
        raise Unavailable(f"nothing listens at port {port}: this site only passes time")

    def changes(self) -> AsyncIterator[str]:
        """Yield native ids of jobs as they change; see `ChangeSite.changes`."""
        return self._changes.read()

    async def _tell(self, job: _Job) -> None:
        await self._clock.sleep((job.starts_at - self._clock.now()).total_seconds())
        self._changes.tell(job.native_id)
        await self._clock.sleep((job.ends_at - self._clock.now()).total_seconds())
        self._changes.tell(job.native_id)

    def _status(self, job: _Job, now: datetime) -> JobStatus:
        status = JobStatus(JobState.QUEUED, submitted_at=job.submitted_at)
        over_at = job.cancelled_at or job.ends_at
        if now < job.starts_at and job.cancelled_at is None:
            return replace(status, reason="Scripted")
        if now < over_at:
            status = replace(status, state=JobState.RUNNING, started_at=job.starts_at)
            return replace(status, pod=_pod(job, status))
        code = job.exit_code if job.cancelled_at is None else CANCELLED_EXIT_CODE
        ended = JobState.FAILED if code else JobState.COMPLETED
        status = replace(
            status,
            state=ended if job.cancelled_at is None else JobState.CANCELLED,
            reason="" if job.cancelled_at is None else "Cancelled",
            exit_code=code,
            started_at=min(job.starts_at, over_at),
            finished_at=over_at,
        )
        return replace(status, pod=_pod(job, status))


def _option(spec: JobSpec, name: str, default: float) -> float:
    spelled = spec.native_options.get(OPTION + name)
    try:
        return default if spelled is None else max(0.0, float(spelled))
    except ValueError as error:
        raise SiteRejected(f"{OPTION}{name}: {spelled!r} is no number") from error


def _pod(job: _Job, status: JobStatus) -> PodState:
    """Return what a keeper would say."""
    plan = job.spec.plan
    phase = {JobState.RUNNING: RUNNING, JobState.COMPLETED: SUCCEEDED}.get(status.state, FAILED)
    begun = rfc3339(status.started_at or job.starts_at)
    over = rfc3339(status.finished_at) if status.finished_at else ""
    code = status.exit_code or 0

    def of(container: ContainerPlan) -> ContainerStatus:
        base = ContainerStatus(container.name, container.image, container.image_id)
        if phase == RUNNING:
            return replace(base, running=Running(begun), ready=True, started=True)
        reason = status.reason or (ERROR if code else COMPLETED)
        return replace(base, terminated=Terminated(code, reason, begun, over))

    return PodState(
        uid=plan.uid,
        attempt=plan.attempt,
        sequence=2 if phase == RUNNING else 3,
        phase=phase,
        containers=tuple(of(container) for container in plan.containers),
        reason=status.reason,
        started_at=begun,
        finished_at=over,
        ready=phase == RUNNING,
    )
