"""The back end ``slurm``: keepers as batch jobs of a Slurm cluster.

A job is an intent first, then submitted under its name, then a row with Slurm's id, so a crash
between any two is mended by asking Slurm for the name. The batch script becomes the keeper in the
foreground; both sides meet in the job's folder on a file system that this machine and the nodes
share. Needs no rights but those of a user of the cluster.

Source: sbatch(1), squeue(1), scancel(1), srun(1), sinfo(1).
"""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any, Self

from twinfra.compute.containers import door
from twinfra.compute.containers.archive import build_keeper
from twinfra.compute.containers.handle import KeeperHandle, LogQuery
from twinfra.compute.containers.keeper import journal
from twinfra.compute.containers.keeper.model import CONTAINER_CREATING, PodState, PodStats
from twinfra.compute.containers.logs import all_written, log_file
from twinfra.compute.containers.logs import follow as follow_log
from twinfra.compute.containers.session import (
    KeeperSession,
    Session,
    Streams,
    attach_request,
    exec_request,
)
from twinfra.compute.sites.changes import Changes
from twinfra.compute.sites.model import JobSpec, JobState, JobStatus, SiteFigures, job_name
from twinfra.compute.sites.ports import CHANGES, EXEC, LOGS, STATS
from twinfra.compute.sites.settings import ComputeSettings
from twinfra.compute.sites.slurm import script, states
from twinfra.compute.sites.slurm.commands import SlurmCommands
from twinfra.compute.sites.slurm.machines import Machines
from twinfra.compute.sites.slurm.nodes import Nodes
from twinfra.compute.sites.slurm.relay import ByteStreams, Relays
from twinfra.compute.sites.slurm.settings import SlurmSettings
from twinfra.compute.sites.slurm.store import MIGRATIONS, SlurmJob, SlurmStore
from twinfra.compute.sites.slurm.watch import LiveJob, Watch
from twinfra.core.database import Database
from twinfra.core.errors import Conflict, NotFound, SiteRejected, Unavailable, UpstreamFault
from twinfra.core.service import Context
from twinfra.core.telemetry import get_logger
from twinfra.core.time import SYSTEM_CLOCK, Clock, rfc3339

log = get_logger(__name__)

FRESH_S = 1.0
PRUNE_EVERY_S = 3600.0
COMMANDS_AT_ONCE = 8
LINES_A_PIECE = 512
FORGOTTEN = "Slurm does not know the job any more; its keeper still runs"


class SlurmSite:
    """A `Site` whose jobs run under Slurm.

    Args:
        database: keeps what was submitted.
        settings: how Slurm is used.
        keeper: where the keeper's program is kept before it is copied to jobs.
        history_s: how long jobs that ended are remembered.
        clock: tells the moment.
    """

    capabilities = frozenset({LOGS, STATS, CHANGES, EXEC})

    def __init__(
        self,
        database: Database,
        settings: SlurmSettings,
        *,
        keeper: Path,
        history_s: float,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._store, self._settings, self._clock = SlurmStore(database), settings, clock
        self._keeper, self._history = keeper, timedelta(seconds=history_s)
        self._commands = SlurmCommands(settings)
        self._machines = Machines(self._commands, settings.partition)
        self._nodes = Nodes(self._commands, settings.partition)
        self._relays = Relays(self._commands, settings.python)
        self._changes = Changes()
        self._watch = Watch(self._commands, self._store, settings, self._changes, clock)
        self._names: dict[str, asyncio.Lock] = {}
        self._turns = asyncio.Semaphore(COMMANDS_AT_ONCE)

    @classmethod
    def build(cls, ctx: Context, site: str) -> Self:
        """Return the back end of `site`, its notes in the site's own folder."""
        home = ctx.home.site(site)
        return cls(
            ctx.database("slurm", folder=home.db),
            ctx.settings(SlurmSettings, site),
            keeper=home.db / script.KEEPER,
            history_s=ctx.settings(ComputeSettings, site).history_s,
            clock=ctx.clock,
        )

    async def open(self) -> None:
        """Make tables and the keeper's program ready; follow the jobs that are under way."""
        await self._store.database.migrate(MIGRATIONS)
        await asyncio.to_thread(build_keeper, self._keeper)
        for job in await self._store.live():
            self._watch.add(job)

    async def run(self) -> None:
        """Follow jobs for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._prune())
            group.create_task(self._watch.run())

    async def close(self) -> None:
        """End connections to keepers; jobs go on."""
        await self._relays.close()
        await self._store.database.close()

    # ------------------------------------------------------------------ the port

    async def submit(self, spec: JobSpec) -> str:  # noqa: D102 - see the port
        spec = script.limited(spec, self._settings)
        text = script.batch_script(spec, self._settings)
        async with self._named(spec.name):
            if known := await self.find(spec.name):
                return known
            job = SlurmJob(
                spec.name,
                spec.plan.attempt,
                spec.job_dir,
                spec.plan.termination_grace_s,
                self._clock.now(),
            )
            await asyncio.to_thread(self._lay, spec)
            await self._store.intend(job)
            try:
                told = await self._commands.run("sbatch", "--parsable", stdin=text)
            except SiteRejected:
                await self._store.drop(spec.name)
                raise
            native_id = told.strip().splitlines()[-1].partition(";")[0] if told.strip() else ""
            if not native_id.isdigit():
                raise UpstreamFault("sbatch did not say which id the job has")
            await self._take(spec.name, native_id)
            log.info("job_submitted", job=spec.name, native_id=native_id)
            return native_id

    async def find(self, name: str) -> str | None:  # noqa: D102 - see the port
        job = await self._store.by_name(name)
        if job is not None and job.native_id:
            return job.native_id
        if not script.is_name(name):
            return None
        if job is not None and (native_id := script.begun(job.job_dir, job.attempt)):
            return await self._take(name, native_id)
        rows = await self._squeue_name(name)
        if not rows:
            return None
        native_id, folder = max(rows, key=lambda row: int(row[0]))
        if job is None:
            await self._store.intend(await self._recognised(name, Path(folder)))
        return await self._take(name, native_id)

    async def status(  # noqa: D102 - see the port
        self, native_ids: Sequence[str]
    ) -> Mapping[str, JobStatus]:
        if any(native_id in self._watch.live for native_id in native_ids):
            await self._watch.refresh(min(FRESH_S, self._settings.poll_s))
        jobs = {str(job.native_id): job for job in await self._store.get(native_ids)}
        return {native_id: self._status(native_id, job) for native_id, job in jobs.items()}

    async def cancel(self, native_id: str) -> None:  # noqa: D102 - see the port
        live = self._watch.live.get(native_id)
        if live is not None:
            await self._watch.cancel(live)

    async def ping(self) -> SiteFigures:  # noqa: D102 - see the port
        nodes = await self._nodes.read()
        waiting = await self._watch.read_waiting()
        gpu, now = self._settings.gpu_resource, self._clock.now()
        figures = states.read_nodes(nodes, waiting, now, gpu_resource=gpu)
        return replace(figures, machine=await self._machines.kind())

    async def connect(self, native_id: str, port: int) -> ByteStreams:  # noqa: D102 - see the port
        job = await self._running(native_id)
        handle = KeeperHandle(job.job_dir)
        if self._is_here(handle):
            return await handle.connect(port)
        streams = await self._relay(job)
        try:
            await door.begin(*streams, {"do": "connect", "port": port})
        except BaseException as error:
            streams[1].close()
            if isinstance(error, UpstreamFault):
                raise Unavailable(f"port {port} of the pod: {error.detail}") from error
            raise
        return streams

    async def exec(
        self, native_id: str, container: str, command: Sequence[str], streams: Streams
    ) -> Session:
        """Run a command in a container; see `ExecSite.exec`."""
        return await self._join(native_id, exec_request(container, tuple(command), streams))

    async def attach(self, native_id: str, container: str, streams: Streams) -> Session:
        """Join a container's own process; see `ExecSite.attach`."""
        return await self._join(native_id, attach_request(container, streams))

    async def logs(
        self, native_id: str, query: LogQuery, *, follow: bool = False
    ) -> AsyncIterator[bytes]:
        """Yield lines; see `LogSite.logs`."""
        job = await self._job(native_id)
        query = replace(query, attempt=query.attempt or job.attempt)
        if follow:
            path = await asyncio.to_thread(log_file, job.job_dir, query)
            async for line in follow_log(path, query, lambda: self._written(job, path)):
                yield line
            return
        lines = await asyncio.to_thread(KeeperHandle(job.job_dir).read_logs, query)
        while piece := await asyncio.to_thread(_piece, lines):
            yield piece

    async def stats(self, native_id: str) -> PodStats | None:
        """Return figures; see `StatsSite.stats`."""
        jobs = await self._store.get([native_id])
        if not jobs:
            return None
        found = await KeeperHandle(jobs[-1].job_dir).stats()
        return found if found is not None and found.attempt == jobs[-1].attempt else None

    def changes(self) -> AsyncIterator[str]:
        """Yield native ids of jobs as they change; see `ChangeSite.changes`."""
        return self._changes.read()

    # ------------------------------------------------------------------ submitting and finding

    @asynccontextmanager
    async def _named(self, name: str) -> AsyncIterator[None]:
        """Let one at a time submit a name, and only some at all."""
        lock = self._names.setdefault(name, asyncio.Lock())
        try:
            async with lock, self._turns:
                yield
        finally:
            if not lock.locked():
                self._names.pop(name, None)

    def _lay(self, spec: JobSpec) -> None:
        script.lay_plan(spec)
        shutil.copyfile(self._keeper, spec.job_dir / script.KEEPER)

    async def _take(self, name: str, native_id: str) -> str:
        job = await self._store.taken(name, native_id)
        self._watch.add(job)
        return str(job.native_id)

    async def _squeue_name(self, name: str) -> list[tuple[str, str]]:
        """Return id and folder of the jobs of ours that Slurm knows by a name."""
        words = ("squeue", "--me", "--states=all", "--noheader", f"--name={name}", "--format=%i|%Z")
        try:
            told = await self._commands.run(*words)
        except SiteRejected as error:
            raise Unavailable(f"Slurm does not tell about jobs: {error.detail}") from error
        pairs = [line.split("|", 1) for line in told.splitlines()]
        return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2 and pair[0].isdigit()]

    async def _recognised(self, name: str, folder: Path) -> SlurmJob:
        """Return the job in `folder`, which a twinfra submitted that has lost its notes."""
        plan = await asyncio.to_thread(script.plan_in, folder)
        if plan is None or job_name(plan.uid, plan.attempt) != name:
            raise Conflict(f"Slurm has a job called {name} that is not ours")
        grace_s = plan.termination_grace_s
        return SlurmJob(name, plan.attempt, folder, grace_s, self._clock.now())

    # ------------------------------------------------------------------ looking

    async def _job(self, native_id: str) -> SlurmJob:
        jobs = await self._store.get([native_id])
        if not jobs:
            raise NotFound(f"no job {native_id}")
        return jobs[-1]

    async def _running(self, native_id: str) -> SlurmJob:
        job = await self._job(native_id)
        if job.state is not None or native_id not in self._watch.live:
            raise Unavailable(f"job {native_id} does not run")
        return job

    def _is_here(self, handle: KeeperHandle) -> bool:
        return self._settings.reach == "auto" and handle.alive()

    async def _relay(self, job: SlurmJob) -> ByteStreams:
        if not script.begun(job.job_dir, job.attempt):
            raise Unavailable(f"job {job.native_id} has not begun")
        return await self._relays.open(str(job.native_id), job.job_dir)

    async def _join(self, native_id: str, request: Mapping[str, Any]) -> Session:
        job = await self._running(native_id)
        handle = KeeperHandle(job.job_dir)
        if self._is_here(handle):
            return await handle.join(request)
        streams = await self._relay(job)
        try:
            await door.begin(*streams, request)
        except BaseException:
            streams[1].close()
            raise
        return KeeperSession(*streams)

    def _written(self, job: SlurmJob, path: Path) -> bool:
        """Tell whether nothing will be added to a log any more."""
        if job.native_id not in self._watch.live:
            return True
        state = journal.read(PodState, job.job_dir / journal.STATE)
        return state is not None and state.attempt == job.attempt and all_written(path, state)

    def _status(self, native_id: str, job: SlurmJob) -> JobStatus:
        live = self._watch.live.get(native_id)
        if job.state is not None or live is None:
            return JobStatus(
                state=job.state or JobState.UNKNOWN,
                reason=job.reason,
                message=job.message,
                exit_code=job.exit_code,
                node=job.node,
                submitted_at=job.submitted_at,
                started_at=job.started_at,
                finished_at=job.finished_at,
                pod=job.pod,
            )
        return self._live_status(live)

    def _live_status(self, live: LiveJob) -> JobStatus:
        seen = live.seen
        status = JobStatus(
            JobState.QUEUED,
            node=seen.node if seen else "",
            submitted_at=(seen and seen.submitted_at) or live.job.submitted_at,
        )
        if live.forgotten:
            return replace(
                status, state=JobState.UNKNOWN, reason="Forgotten", message=FORGOTTEN, pod=live.pod
            )
        if live.began or (seen is not None and seen.over):
            return replace(
                status,
                state=JobState.RUNNING,
                started_at=seen.started_at if seen and not _waits(live) else None,
                pod=live.pod,
            )
        if seen is None:
            return replace(status, reason="Submitted")
        if seen.state is JobState.RUNNING:
            return replace(status, reason=CONTAINER_CREATING, pod=live.pod)
        if not _waits(live):
            return replace(status, state=seen.state, reason=seen.reason or seen.native)
        place = states.position(self._watch.waiting, live.native_id)
        return replace(
            status,
            reason=seen.reason or seen.native.capitalize(),
            message=_waiting_text(place, seen),
            queue_position=place,
        )

    async def _prune(self) -> None:
        while True:
            await self._store.prune(self._clock.now() - self._history)
            await self._clock.sleep(PRUNE_EVERY_S)


def _waits(live: LiveJob) -> bool:
    return live.seen is not None and live.seen.state is JobState.QUEUED


def _waiting_text(place: int | None, seen: states.Seen) -> str:
    parts = [f"number {place} in the queue"] if place else []
    if seen.started_at is not None:
        parts.append(f"Slurm expects to start it at {rfc3339(seen.started_at)}")
    return "; ".join(parts)


def _piece(lines: Iterator[bytes]) -> bytes:
    """Return some more lines in one piece; empty at the end."""
    return b"".join(islice(lines, LINES_A_PIECE))
