"""Follows the jobs that have not ended: one question to Slurm for all, and the keepers' files.

What a keeper writes is seen first; that a job is over is believed only when Slurm says so too, or
has forgotten it, and nothing of it is left. Must not submit anything: the neighbour ``site`` does.
"""

import asyncio
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from twinfra.compute.containers.handle import KeeperHandle
from twinfra.compute.containers.keeper import gone, journal
from twinfra.compute.containers.keeper.model import PodState
from twinfra.compute.sites.changes import Changes
from twinfra.compute.sites.model import JobState
from twinfra.compute.sites.slurm import states
from twinfra.compute.sites.slurm.commands import SlurmCommands
from twinfra.compute.sites.slurm.script import last_words
from twinfra.compute.sites.slurm.settings import SlurmSettings
from twinfra.compute.sites.slurm.states import Seen, Waiting
from twinfra.compute.sites.slurm.store import SlurmJob, SlurmStore
from twinfra.compute.sites.slurm.verdict import judge
from twinfra.core.errors import SiteRejected, Unavailable
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock, parse_rfc3339

log = get_logger(__name__)

HURRY_S = 0.5
HURRIES = 8
QUEUE_LOOKS = 5
SIGNAL_AGAIN_S = 3.0
KILL_AFTER_S = 15.0
ALREADY_OVER = ("Invalid job id", "already complet", "already finished", "Job/step already")


@dataclass
class LiveJob:
    """A job under way, and the last that was heard of it."""

    job: SlurmJob
    seen: Seen | None = None
    forgotten: bool = False
    over_since: float | None = None
    signalled_at: float | None = None
    stamp: tuple[int, int] = (0, 0)
    pod: PodState | None = None
    finished: bool = False
    told: object = None

    @property
    def native_id(self) -> str:
        """Slurm's id of it."""
        return self.job.native_id or ""

    @property
    def began(self) -> bool:
        """Whether its keeper has started a container."""
        if self.finished or self.pod is None:
            return self.finished
        statuses = (*self.pod.init_containers, *self.pod.containers)
        return any(status.running or status.terminated for status in statuses)

    def gist(self) -> object:
        """Return what is worth telling: it differs when the job has changed."""
        sequence = self.pod.sequence if self.pod is not None else 0
        seen = self.seen
        return (sequence, self.forgotten, seen and (seen.native, seen.reason, seen.node))


class Watch:
    """The jobs under way.

    Args:
        commands: ask Slurm.
        store: told how jobs end.
        settings: of the site.
        changes: told which jobs changed.
        clock: paces it.
    """

    def __init__(
        self,
        commands: SlurmCommands,
        store: SlurmStore,
        settings: SlurmSettings,
        changes: Changes,
        clock: Clock,
    ) -> None:
        self._commands, self._store, self._settings = commands, store, settings
        self._changes, self._clock = changes, clock
        self.live: dict[str, LiveJob] = {}
        self.waiting: list[Waiting] = []
        self._waiting_at = float("-inf")
        self._asking = asyncio.Lock()
        self._asked_at = float("-inf")
        self._failure: Unavailable | None = None
        self._hurries = 0
        self._news = asyncio.Event()

    def add(self, job: SlurmJob) -> None:
        """Follow a job from now on."""
        if job.native_id and job.state is None:
            self.live.setdefault(job.native_id, LiveJob(job))
            self.hurry()

    def hurry(self) -> None:
        """Ask Slurm soon: something is about to change."""
        self._hurries = HURRIES
        self._news.set()

    async def run(self) -> None:
        """Look and ask for ever."""
        while True:
            if not self.live:
                self._news.clear()
                await self._news.wait()
            try:
                await self._round()
            except Unavailable as error:
                log.warning("slurm_not_available", detail=error.detail)
                await self._clock.sleep(self._settings.poll_s)
            await self._clock.sleep(self._settings.look_s)

    async def _round(self) -> None:
        for live in await asyncio.to_thread(self._look, list(self.live.values())):
            self._tell(live)
        pause_s = min(HURRY_S, self._settings.poll_s) if self._hurries else self._settings.poll_s
        if self._clock.monotonic() - self._asked_at >= pause_s:
            self._hurries = max(0, self._hurries - 1)
            await self.refresh(0.0)
            await self._rank()

    def _look(self, jobs: Iterable[LiveJob]) -> list[LiveJob]:
        """Read what keepers have written since the last look; return those with news. Blocks."""
        changed = []
        for live in jobs:
            path = live.job.job_dir / journal.STATE
            try:
                found = os.stat(path)  # noqa: PTH116 - thousands a second
                stamp = (found.st_mtime_ns, found.st_ino)
                if stamp == live.stamp:
                    continue
                state = journal.read(PodState, path)
            except (OSError, journal.MalformedError):
                continue
            live.stamp = stamp
            if state is None or state.attempt != live.job.attempt:
                continue
            if state.final:
                live.finished = True
                self._hurries = HURRIES
            else:
                live.pod = state
                changed.append(live)
        return changed

    async def refresh(self, max_age_s: float) -> None:
        """Ask Slurm for all jobs at once, unless its last answer is young enough.

        Raises:
            Unavailable: it does not answer (retryable).
        """
        async with self._asking:
            if self._clock.monotonic() - self._asked_at < max_age_s:
                if self._failure is not None:
                    raise self._failure
                return
            jobs = list(self.live.values())
            self._asked_at = self._clock.monotonic()
            try:
                seen = await self._ask(jobs)
            except Unavailable as error:
                self._failure = error
                raise
            self._failure = None
            for live in jobs:
                await self._consider(live, seen.get(live.native_id))

    async def _ask(self, jobs: list[LiveJob]) -> dict[str, Seen]:
        squeue = ("squeue", "--me", "--states=all", "--noheader", "--format")
        try:
            seen = states.read_queue(await self._commands.run(*squeue, states.QUEUE_FORMAT))
            missing = [live.native_id for live in jobs if live.native_id not in seen]
            if missing and self._settings.accounting:
                sacct = ("sacct", "--noheader", "--parsable2", "--allocations", "--delimiter=|")
                fields = f"--format={states.ACCOUNTING_FIELDS}"
                told = await self._commands.run(*sacct, fields, f"--jobs={','.join(missing)}")
                seen |= states.read_accounting(told)
        except SiteRejected as error:
            raise Unavailable(f"Slurm does not tell about jobs: {error.detail}") from error
        return seen

    async def _rank(self) -> None:
        """Learn who else waits, now and then, while one of ours does."""
        queued = any(
            live.seen and live.seen.state is JobState.QUEUED for live in self.live.values()
        )
        pause_s = QUEUE_LOOKS * self._settings.poll_s
        if queued and self._clock.monotonic() - self._waiting_at >= pause_s:
            await self.read_waiting()

    async def read_waiting(self) -> list[Waiting]:
        """Return who waits at this site, next one first.

        Raises:
            Unavailable: Slurm does not answer (retryable).
        """
        words = ["squeue", "--states=PENDING", "--noheader", "--format", states.WAITING_FORMAT]
        if self._settings.partition:
            words.append(f"--partition={self._settings.partition}")
        try:
            self.waiting = states.read_waiting(await self._commands.run(*words))
        except SiteRejected as error:
            raise Unavailable(f"Slurm does not tell its queue: {error.detail}") from error
        self._waiting_at = self._clock.monotonic()
        return self.waiting

    async def _consider(self, live: LiveJob, seen: Seen | None) -> None:
        """Draw what follows from Slurm's word on a job; none: it does not know it."""
        if live.native_id not in self.live:
            return
        now = self._clock.monotonic()
        live.seen = seen or live.seen
        if seen is not None and not seen.over:
            live.over_since, live.forgotten = None, False
            await self._press(live)
            self._tell(live)
            return
        self._hurries = max(self._hurries, 1)
        live.over_since = now if live.over_since is None else live.over_since
        patient = now - live.over_since >= self._settings.lost_after_s
        never_ran = seen is not None and not seen.node
        finished = await asyncio.to_thread(_finished, live.job)
        if not (patient or never_ran or finished):
            return
        if seen is None and await asyncio.to_thread(_held, live.job):
            live.forgotten = True
            self._tell(live)
            return
        await self._settle(live, seen)

    async def _settle(self, live: LiveJob, seen: Seen | None) -> None:
        """Prove that nothing is left of a job and write down how it ended."""
        job = live.job
        try:
            state = (await KeeperHandle(job.job_dir).prove_gone()).state
        except Unavailable as error:
            log.warning("job_not_gone", job=job.name, detail=error.detail)
            return
        except (OSError, journal.MalformedError) as error:
            log.warning("job_folder_not_read", job=job.name, exc_info=error)
            state = None
        pod = state if state is not None and state.attempt == job.attempt else None
        words = await asyncio.to_thread(last_words, job.job_dir)
        asked = job.cancel_asked_at is not None
        verdict = judge(pod, seen or live.seen, asked=asked, last_words=words)
        known = seen or live.seen
        await self._store.end(
            job,
            verdict,
            node=known.node if known else "",
            started_at=_moment(pod.started_at if pod else "") or (known and known.started_at),
            finished_at=_moment(pod.finished_at if pod else "")
            or (known and known.over and known.finished_at)
            or self._clock.now(),
        )
        self.live.pop(live.native_id, None)
        log.info(
            "job_ended",
            job=job.name,
            native_id=job.native_id,
            state=verdict.state.value,
            reason=verdict.reason,
            exit_code=verdict.exit_code,
        )
        self._changes.tell(live.native_id)

    def _tell(self, live: LiveJob) -> None:
        gist = live.gist()
        if gist != live.told:
            live.told = gist
            self._changes.tell(live.native_id)

    # ------------------------------------------------------------------ ending jobs

    async def cancel(self, live: LiveJob) -> None:
        """Ask for the end of a job: at once where it waits, else by its keeper's grace.

        Raises:
            Unavailable: Slurm does not answer (retryable).
        """
        live.job = await self._store.ask_cancel(live.job, self._clock.now())
        live.signalled_at = self._clock.monotonic()
        # The keeper is the batch script's process, so it alone gets the signal; a job that begins
        # between the two is signalled, one that is not there yet is asked again.
        await self._scancel("--state=PENDING", live.native_id)
        await self._scancel("--batch", "--signal=TERM", live.native_id)
        self.hurry()

    async def _press(self, live: LiveJob) -> None:
        """Ask again for the end of a job that was to end, after its grace without asking."""
        since = live.job.cancel_asked_at
        if since is None:
            return
        patience = timedelta(seconds=live.job.grace_s + KILL_AFTER_S)
        if self._clock.now() - since > patience:
            await self._scancel(live.native_id)
            return
        last = live.signalled_at
        heard = live.pod is not None and live.pod.cancelled
        if not heard and (last is None or self._clock.monotonic() - last > SIGNAL_AGAIN_S):
            with suppress(Unavailable):
                await self.cancel(live)

    async def _scancel(self, *words: str) -> None:
        try:
            await self._commands.run("scancel", *words, accept=ALREADY_OVER)
        except SiteRejected as error:
            raise Unavailable(f"scancel: {error.detail}") from error


def _finished(job: SlurmJob) -> bool:
    """Say whether the keeper has written its end; blocks.

    A new name in the folder makes a shared file system look at the server again.
    """
    probe = job.job_dir / f".look.{os.getpid()}"
    with suppress(OSError):
        probe.touch()
        probe.unlink()
    try:
        state = journal.read(PodState, job.job_dir / journal.STATE)
    except (OSError, journal.MalformedError):
        return False
    return state is not None and state.attempt == job.attempt and state.final


def _held(job: SlurmJob) -> bool:
    """Say whether a keeper holds the job's lock; blocks."""
    try:
        with gone.locked(job.job_dir, 0.0):
            return False
    except gone.LockedError:
        return True
    except OSError:
        return False


def _moment(spelled: str) -> datetime | None:
    return parse_rfc3339(spelled) if spelled else None
