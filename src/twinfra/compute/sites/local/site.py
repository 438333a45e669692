"""The back end ``local``: keepers on this machine, behind a queue with slots.

A job is a row first (queued, starting, running, ended), so nothing that was accepted is lost. A
keeper outlives us: at start the living ones are joined again, the dead ones proved gone. Never
runs a container itself: the keeper does.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Self

from twinfra.compute.containers.handle import KeeperHandle, LogQuery
from twinfra.compute.containers.keeper.model import (
    CONTAINER_CREATING,
    KEEPER_LOST,
    SUCCEEDED,
    PodState,
    PodStats,
)
from twinfra.compute.containers.machine import this_machine
from twinfra.compute.containers.session import (
    Session,
    Streams,
    attach_request,
    exec_request,
)
from twinfra.compute.sites.changes import Changes
from twinfra.compute.sites.local import queue
from twinfra.compute.sites.local.queue import Offer, Size
from twinfra.compute.sites.local.store import BUSY, MIGRATIONS, STARTING, QueuedJob, QueueStore
from twinfra.compute.sites.model import JobSpec, JobState, JobStatus, SiteFigures, exit_code_of
from twinfra.compute.sites.ports import CHANGES, EXEC, LOGS, STATS
from twinfra.compute.sites.settings import ComputeSettings
from twinfra.core.database import Database
from twinfra.core.errors import (
    Conflict,
    InsufficientCapacity,
    InvalidRequest,
    NotFound,
    SiteRejected,
    TwinfraError,
    Unavailable,
    shorten,
)
from twinfra.core.service import Context
from twinfra.core.telemetry import get_logger
from twinfra.core.time import SYSTEM_CLOCK, Clock

log = get_logger(__name__)

START_TRIES = 5
LEAVE_WITHIN_S = 5.0
LOOK_S = 0.02
TRY_AGAIN_S = 1.0
PRUNE_EVERY_S = 3600.0
LINES_A_PIECE = 512


class LocalSite:
    """A `Site` on this machine.

    Args:
        database: keeps the queue.
        settings: how much there is.
        clock: tells the moment.
    """

    capabilities = frozenset({LOGS, STATS, CHANGES, EXEC})

    def __init__(
        self, database: Database, settings: ComputeSettings, *, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._store, self._settings, self._clock = QueueStore(database), settings, clock
        self._offer = Offer(
            Size(
                settings.cpus,
                settings.memory_bytes,
                sum(settings.gpus.values()),
                settings.slots,
            ),
            settings.reserved_cpus,
            settings.gpus,
        )
        self._machine = this_machine()
        self._changes = Changes()
        self._news = asyncio.Event()
        self._states: dict[int, PodState] = {}
        self._watched: dict[int, asyncio.Task[None]] = {}

    @classmethod
    def build(cls, ctx: Context, site: str) -> Self:
        """Return the back end of `site`, its queue in the site's own folder."""
        database = ctx.database("local", folder=ctx.home.site(site).db)
        return cls(database, ctx.settings(ComputeSettings, site), clock=ctx.clock)

    async def open(self) -> None:
        """Make the tables ready."""
        await self._store.database.migrate(MIGRATIONS)

    async def run(self) -> None:
        """Join living keepers again, then start what has room, for ever."""
        async with asyncio.TaskGroup() as group:
            try:
                for job in await self._store.busy():
                    self._follow(group, job)
                group.create_task(self._prune())
                while True:
                    self._news.clear()
                    await self._start_next(group)
                    await self._news.wait()
            finally:
                for task in self._watched.values():
                    task.cancel()
                self._watched.clear()

    async def close(self) -> None:
        """Close the queue's file; jobs go on."""
        await self._store.database.close()

    # ------------------------------------------------------------------ the port

    async def submit(self, spec: JobSpec) -> str:  # noqa: D102 - see the port
        if known := await self.find(spec.name):
            return known
        size = Size(spec.cpus, spec.memory_bytes, spec.gpus)
        if why := self._offer.refusal(size):
            raise SiteRejected(why)
        waiting = len(await self._store.queued())
        if not self._settings.queue:
            room = queue.free(self._offer, [job.size for job in await self._store.busy()])
            if waiting or not size.within(room):
                raise InsufficientCapacity("the site has no room now, and does not queue")
        elif waiting >= self._settings.queue_limit:
            raise InsufficientCapacity("the queue is full", retry_after_s=30)
        limit_s = spec.plan.active_deadline_s
        if spec.wall_limit_s is not None:
            limit_s = min(spec.wall_limit_s, limit_s or spec.wall_limit_s)
        spec = replace(spec, plan=replace(spec.plan, active_deadline_s=limit_s))
        native_id = await self._store.add(spec, self._clock.now())
        self._news.set()
        return str(native_id)

    async def find(self, name: str) -> str | None:  # noqa: D102 - see the port
        found = await self._store.find(name)
        return None if found is None else str(found)

    async def status(  # noqa: D102 - see the port
        self, native_ids: Sequence[str]
    ) -> Mapping[str, JobStatus]:
        ids = [int(key) for key in native_ids if key.isdigit()]
        return {str(job.id): await self._status(job) for job in await self._store.get(ids)}

    async def cancel(self, native_id: str) -> None:  # noqa: D102 - see the port
        job = await self._job(native_id)
        if job is None or job.state not in {JobState.QUEUED, *BUSY}:
            return
        if await self._store.ask_cancel(job.id, self._clock.now()):
            self._changed(job)
        elif job.state == JobState.RUNNING:
            await self._ask_keeper(job)

    async def ping(self) -> SiteFigures:  # noqa: D102 - see the port
        busy = [job.size for job in await self._store.busy()]
        waiting = len(await self._store.queued())
        figures = queue.figures(self._offer, busy, waiting, await self._store.recent_wall_s())
        return replace(figures, machine=self._machine)

    async def connect(  # noqa: D102 - see the port
        self, native_id: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await (await self._running(native_id)).connect(port)

    async def exec(
        self, native_id: str, container: str, command: Sequence[str], streams: Streams
    ) -> Session:
        """Run a command in a container; see `ExecSite.exec`."""
        handle = await self._running(native_id)
        return await handle.join(exec_request(container, tuple(command), streams))

    async def attach(self, native_id: str, container: str, streams: Streams) -> Session:
        """Join a container's own process; see `ExecSite.attach`."""
        return await (await self._running(native_id)).join(attach_request(container, streams))

    async def logs(
        self, native_id: str, query: LogQuery, *, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """Yield lines; see `LogSite.logs`."""
        job = await self._job(native_id)
        if job is None:
            raise NotFound(f"no job {native_id}")
        handle = KeeperHandle(job.job_dir)
        query = replace(query, attempt=query.attempt or job.attempt)
        if follow:
            async for line in handle.follow_logs(query):
                yield line
            return
        lines = await asyncio.to_thread(handle.read_logs, query)
        while piece := await asyncio.to_thread(_piece, lines):
            yield piece

    async def stats(self, native_id: str) -> PodStats | None:
        """Return figures; see `StatsSite.stats`."""
        job = await self._job(native_id)
        if job is None or job.started_at is None:
            return None
        found = await KeeperHandle(job.job_dir).stats()
        return found if found is not None and found.attempt == job.attempt else None

    def changes(self) -> AsyncIterator[str]:
        """Yield native ids of jobs as they change; see `ChangeSite.changes`."""
        return self._changes.read()

    # ------------------------------------------------------------------ starting and following

    async def _start_next(self, group: asyncio.TaskGroup) -> None:
        waiting = [(job.id, job.size) for job in await self._store.queued()]
        room = queue.free(self._offer, [job.size for job in await self._store.busy()])
        for job_id in queue.startable(room, waiting):
            if await self._store.take(job_id, self._clock.now()):
                for job in await self._store.get([job_id]):
                    self._follow(group, job)

    def _follow(self, group: asyncio.TaskGroup, job: QueuedJob) -> None:
        task = group.create_task(self._live(job))
        self._watched[job.id] = task
        task.add_done_callback(lambda _: self._watched.pop(job.id, None))

    async def _live(self, job: QueuedJob) -> None:
        """See a job from its start to its end; an error of ours is tried again, never dropped."""
        while True:
            try:
                if job.state == STARTING and not await self._started(job):
                    return
                state = await self._watch(job)
                await self._settle(job, state)
            except TwinfraError as error:
                log.warning("job_not_settled", job=job.name, exc_info=error)
            except OSError as error:
                log.warning("job_folder_not_read", job=job.name, exc_info=error)
            else:
                return
            await self._clock.sleep(TRY_AGAIN_S)
            later = await self._store.get([job.id])
            if not later or later[0].state not in BUSY:
                return
            job = later[0]

    async def _started(self, job: QueuedJob) -> bool:
        """Start the keeper, or join the one that a former process of ours started."""
        plan = await self._store.plan(job.id)
        if plan is None:
            raise Conflict(f"the plan of job {job.name} is gone")
        for attempt in range(1, START_TRIES + 1):
            try:
                await KeeperHandle.start(job.job_dir, plan)
                break
            except Unavailable as error:
                if attempt == START_TRIES:
                    await self._end(job, JobState.FAILED, "StartError", error.detail, 1)
                    return False
                await self._clock.sleep(attempt * 0.5)
            except (Conflict, InvalidRequest) as error:
                await self._end(job, JobState.FAILED, "StartError", error.detail, 1)
                return False
        await self._store.running(job.id)
        log.info("job_started", job=job.name, native_id=job.id)
        self._changed(job)
        return True

    async def _watch(self, job: QueuedJob) -> PodState | None:
        """Follow a keeper until its job is over and no process of it is left."""
        handle = KeeperHandle(job.job_dir)
        await self._pass_on_cancel(job)
        sequence = 0
        while True:
            state = await handle.wait_change(sequence)
            if state is None or state.attempt != job.attempt:
                break
            if state.final:
                await self._let_leave(handle)
                break
            if not handle.alive():
                break
            sequence = state.sequence
            self._states[job.id] = state
            self._changed(job)
        gone = await handle.prove_gone()
        return gone.state

    async def _let_leave(self, handle: KeeperHandle) -> None:
        """Give a keeper whose job is over the time to write its last figures."""
        until = self._clock.monotonic() + LEAVE_WITHIN_S
        while handle.alive() and self._clock.monotonic() < until:  # noqa: ASYNC110 - not our child
            await asyncio.sleep(LOOK_S)

    async def _settle(self, job: QueuedJob, state: PodState | None) -> None:
        """Write down how a job ended, of which nothing is left."""
        asked = any(row.cancel_asked for row in await self._store.get([job.id]))
        if state is None or state.attempt != job.attempt:
            lost = JobState.CANCELLED if asked else JobState.FAILED
            await self._end(job, lost, KEEPER_LOST, "its keeper died before it said anything", 137)
            return
        if state.phase == SUCCEEDED:
            await self._end(job, JobState.COMPLETED, "Completed", "", 0)
            return
        cancelled = asked or state.cancelled
        ending = JobState.CANCELLED if cancelled else JobState.FAILED
        reason = state.reason or ("Cancelled" if cancelled else "Error")
        await self._end(job, ending, reason, state.message, exit_code_of(state))

    async def _end(
        self, job: QueuedJob, state: JobState, reason: str, message: str, exit_code: int | None
    ) -> None:
        # first: who asks right after the end is written must not hear what was before it
        self._states.pop(job.id, None)
        await self._store.end(
            job.id,
            state,
            self._clock.now(),
            reason=reason,
            message=shorten(message),
            exit_code=exit_code,
        )
        log.info("job_ended", job=job.name, state=state.value, reason=reason, exit_code=exit_code)
        self._changed(job)
        self._news.set()

    async def _pass_on_cancel(self, job: QueuedJob) -> None:
        """Tell a keeper what was asked while it was being started."""
        if any(row.cancel_asked for row in await self._store.get([job.id])):
            await self._ask_keeper(job)

    @staticmethod
    async def _ask_keeper(job: QueuedJob) -> None:
        with suppress(Unavailable):  # a dead keeper is settled by who watches it
            await KeeperHandle(job.job_dir).cancel()

    async def _running(self, native_id: str) -> KeeperHandle:
        job = await self._job(native_id)
        if job is None:
            raise NotFound(f"no job {native_id}")
        if job.state != JobState.RUNNING:
            raise Unavailable(f"job {native_id} does not run")
        return KeeperHandle(job.job_dir)

    async def _job(self, native_id: str) -> QueuedJob | None:
        found = await self._store.get([int(native_id)]) if native_id.isdigit() else []
        return found[0] if found else None

    async def _status(self, job: QueuedJob) -> JobStatus:
        starting, queued = job.state == STARTING, job.state == JobState.QUEUED
        pod = None
        if not (starting or queued):
            pod = self._states.get(job.id) or KeeperHandle(job.job_dir).state()
        return JobStatus(
            state=JobState.QUEUED if starting else JobState(job.state),
            reason=CONTAINER_CREATING if starting else job.reason,
            message=job.message,
            exit_code=job.exit_code,
            queue_position=await self._store.position(job.id) if queued else None,
            node=socket.gethostname(),
            submitted_at=job.submitted_at,
            started_at=job.started_at,
            finished_at=job.finished_at,
            pod=pod if pod is not None and pod.attempt == job.attempt else None,
        )

    async def _prune(self) -> None:
        while True:
            age = timedelta(seconds=self._settings.history_s)
            await self._store.prune(self._clock.now() - age)
            await self._clock.sleep(PRUNE_EVERY_S)

    def _changed(self, job: QueuedJob) -> None:
        self._changes.tell(str(job.id))


def _piece(lines: Iterator[bytes]) -> bytes:
    """Return some more lines in one piece; empty at the end."""
    return b"".join(islice(lines, LINES_A_PIECE))
