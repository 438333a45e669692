"""A site in memory whose jobs do what the test says, when it says so."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from twinfra.compute.containers.handle import LogQuery
from twinfra.compute.containers.keeper.model import (
    FAILED,
    PENDING,
    RUNNING,
    SUCCEEDED,
    ContainerStatus,
    PodState,
    PodStats,
    Running,
    Terminated,
    Waiting,
)
from twinfra.compute.containers.session import Streams
from twinfra.compute.sites.changes import Changes
from twinfra.compute.sites.model import JobSpec, JobState, JobStatus, SiteFigures
from twinfra.compute.sites.ports import CHANGES, EXEC, LOGS, STATS
from twinfra.core.errors import InvalidRequest, NotFound, Unavailable
from twinfra.core.time import SYSTEM_CLOCK, Clock, rfc3339
from twinfra.testkit.fake_session import FakeSession


@dataclass
class FakeJob:
    """One job of the fake."""

    native_id: str
    spec: JobSpec
    submitted_at: datetime
    state: JobState = JobState.QUEUED
    reason: str = ""
    exit_code: int | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    log: bytes = b""
    port: int | None = None
    cancels: int = 0
    sequence: int = field(default=1)


class FakeSite:
    """A `Site` with all capabilities; jobs queue until the test starts and ends them.

    Args:
        clock: tells the moments of its jobs.
        autostart: jobs run as soon as they are submitted.
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK, autostart: bool = False) -> None:
        self.capabilities = frozenset({LOGS, STATS, CHANGES, EXEC})
        self.jobs: dict[str, FakeJob] = {}
        self.submissions: list[str] = []
        self.sessions: list[FakeSession] = []
        self.figures = SiteFigures(
            cpus=4,
            memory_bytes=8 << 30,
            slots=4,
            free_cpus=4,
            free_memory_bytes=8 << 30,
            free_slots=4,
        )
        self.down = False
        self._clock, self._autostart = clock, autostart
        self._changes = Changes()

    async def submit(self, spec: JobSpec) -> str:
        """Take a job; see `Site.submit`."""
        self._check_up()
        self.submissions.append(spec.name)
        if known := await self.find(spec.name):
            return known
        job = FakeJob(str(1000 + len(self.jobs)), spec, self._clock.now())
        self.jobs[job.native_id] = job
        if self._autostart:
            self.start(spec.name)
        return job.native_id

    async def find(self, name: str) -> str | None:
        """Find a job by its name; see `Site.find`."""
        self._check_up()
        return next((job.native_id for job in self.jobs.values() if job.spec.name == name), None)

    async def status(self, native_ids: Sequence[str]) -> Mapping[str, JobStatus]:
        """Say how jobs are; see `Site.status`."""
        self._check_up()
        return {key: _status(self.jobs[key]) for key in native_ids if key in self.jobs}

    async def cancel(self, native_id: str) -> None:
        """End a job at once; see `Site.cancel`."""
        self._check_up()
        job = self.jobs.get(native_id)
        if job is not None and not job.state.final:
            job.cancels += 1
            self._end(job, JobState.CANCELLED, "Cancelled", 143)

    async def ping(self) -> SiteFigures:
        """Give the figures that the test set; see `Site.ping`."""
        self._check_up()
        return self.figures

    async def connect(
        self, native_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect to the port that the test opened for the job; see `Site.connect`."""
        job = self.jobs.get(native_id)
        if job is None:
            raise NotFound(f"no job {native_id}")
        if job.state is not JobState.RUNNING or job.port is None:
            raise Unavailable(f"nothing listens at port {port}")
        return await asyncio.open_connection("127.0.0.1", job.port)

    async def logs(
        self, native_id: str, query: LogQuery, *, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """Yield what the test had the job write; see `LogSite.logs`."""
        job = self.jobs.get(native_id)
        if job is None or query.container not in _names(job.spec):
            raise NotFound(f"no container {query.container} of job {native_id}")
        told = 0
        while True:
            lines = job.log.splitlines(keepends=True)
            for line in lines[-query.tail_lines :] if query.tail_lines else lines[told:]:
                yield line
            told = len(lines)
            if not follow or job.state.final:
                return
            await asyncio.sleep(0.01)

    async def exec(
        self, native_id: str, container: str, command: Sequence[str], streams: Streams
    ) -> FakeSession:
        """Run a command on this machine; see `ExecSite.exec`."""
        self._running(native_id, container)
        session = FakeSession()
        await session.run(command, streams)
        self.sessions.append(session)
        return session

    async def attach(self, native_id: str, container: str, streams: Streams) -> FakeSession:
        """Follow what the test has the job write; see `ExecSite.attach`."""
        job = self._running(native_id, container)
        plan = next(c for c in job.spec.plan.containers if c.name == container)
        if streams.stdin and not plan.stdin:
            raise InvalidRequest(f"container {container} has no input")
        if streams.tty and not plan.tty:
            raise InvalidRequest(f"container {container} has no terminal")
        session = FakeSession()
        session.follow(lambda: job.log, lambda: job.state.final)
        self.sessions.append(session)
        return session

    def _running(self, native_id: str, container: str) -> FakeJob:
        job = self.jobs.get(native_id)
        if job is None or container not in _names(job.spec):
            raise NotFound(f"no container {container} of job {native_id}")
        if job.state is not JobState.RUNNING:
            raise Unavailable(f"job {native_id} does not run")
        return job

    async def stats(self, native_id: str) -> PodStats | None:
        """Return figures of a job that has started; see `StatsSite.stats`."""
        job = self.jobs.get(native_id)
        if job is None or job.started_at is None:
            return None
        until = job.finished_at or self._clock.now()
        wall_s = (until - job.started_at).total_seconds()
        plan = job.spec.plan
        return PodStats(
            plan.uid, plan.attempt, rfc3339(until), wall_s / 2, wall_s, 1 << 20, 2 << 20
        )

    def changes(self) -> AsyncIterator[str]:
        """Yield native ids as jobs change; see `ChangeSite.changes`."""
        return self._changes.read()

    def start(self, name: str) -> None:
        """Let a queued job run."""
        job = self._job(name)
        job.state, job.started_at = JobState.RUNNING, self._clock.now()
        self._changed(job)

    def write(self, name: str, output: bytes) -> None:
        """Let a job write to its log."""
        self._job(name).log += output

    def finish(self, name: str, exit_code: int = 0, *, reason: str = "") -> None:
        """Let a running job end."""
        state = JobState.FAILED if exit_code else JobState.COMPLETED
        why = reason or ("Error" if exit_code else "Completed")
        self._end(self._job(name), state, why, exit_code)

    def lose(self, name: str) -> None:
        """Let the keeper of a running job die; it is proved gone."""
        self._end(self._job(name), JobState.FAILED, "KeeperLost", 137)

    def _job(self, name: str) -> FakeJob:
        return next(job for job in self.jobs.values() if job.spec.name == name)

    def _end(self, job: FakeJob, state: JobState, reason: str, exit_code: int) -> None:
        job.started_at = job.started_at or self._clock.now()
        job.state, job.reason, job.exit_code = state, reason, exit_code
        job.finished_at = self._clock.now()
        self._changed(job)

    def _changed(self, job: FakeJob) -> None:
        job.sequence += 1
        self._changes.tell(job.native_id)

    def _check_up(self) -> None:
        if self.down:
            raise Unavailable("the fake batch system is down")


def _names(spec: JobSpec) -> list[str]:
    return [entry.name for entry in (*spec.plan.init_containers, *spec.plan.containers)]


def _status(job: FakeJob) -> JobStatus:
    status = JobStatus(
        state=job.state,
        reason=job.reason,
        exit_code=job.exit_code,
        submitted_at=job.submitted_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
    )
    if job.state is JobState.QUEUED:
        return replace(status, reason="Priority", queue_position=1)
    return replace(status, pod=pod_state(job))


def pod_state(job: FakeJob) -> PodState:
    """Return what a keeper would say of this job."""
    plan = job.spec.plan
    phase = {JobState.RUNNING: RUNNING, JobState.COMPLETED: SUCCEEDED}.get(job.state, FAILED)
    start = rfc3339(job.started_at or job.submitted_at)
    end = rfc3339(job.finished_at or job.submitted_at)

    def of(name: str, image: str, image_id: str) -> ContainerStatus:
        base = ContainerStatus(name, image, image_id)
        if phase == PENDING:
            return replace(base, waiting=Waiting("ContainerCreating"))
        if phase == RUNNING:
            return replace(base, running=Running(start), ready=True, started=True)
        code = 0 if job.exit_code is None else job.exit_code
        return replace(base, terminated=Terminated(code, job.reason, start, end))

    return PodState(
        uid=plan.uid,
        attempt=plan.attempt,
        sequence=job.sequence,
        phase=phase,
        containers=tuple(of(c.name, c.image, c.image_id) for c in plan.containers),
        reason="" if job.reason in {"Completed", "Error"} else job.reason,
        started_at=start,
        finished_at=end if job.state.final else "",
        ready=phase == RUNNING,
    )
