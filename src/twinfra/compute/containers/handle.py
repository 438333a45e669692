"""The Python side of a keeper: start it, adopt it, watch it, end it.

It talks through the job directory and the keeper's socket only, so it works the same after a
restart of everything but the keeper. It must not run containers itself: the keeper does.
"""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinfra.compute.containers import door
from twinfra.compute.containers.archive import build_keeper, keeper_python
from twinfra.compute.containers.keeper import checks, gone, journal, main, procfs
from twinfra.compute.containers.keeper.model import Identity, PodPlan, PodState, PodStats
from twinfra.compute.containers.logs import LogQuery, all_written, follow, log_file, read_log
from twinfra.compute.containers.session import KeeperSession
from twinfra.core.errors import Conflict, InvalidRequest, NotFound, Unavailable, shorten

__all__ = ["Gone", "KeeperHandle", "LogQuery"]

_START_S = 60.0
_LEAVING_S = 10.0
_POLL_S = 0.1
_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


@dataclass(frozen=True)
class Gone:
    """Proof that no process of a job is left on this machine."""

    killed: tuple[int, ...]
    """Host pids that had to be killed, the keeper's own included."""
    state: PodState | None
    """The settled state: what was unfinished is Failed with reason KeeperLost."""


class KeeperHandle:
    """One job directory and the keeper that runs (or ran) in it. Methods that wait are bounded."""

    def __init__(self, jobdir: Path) -> None:
        self.jobdir = jobdir

    @classmethod
    async def start(
        cls, jobdir: Path, plan: PodPlan, *, keeper: Path | None = None
    ) -> "KeeperHandle":
        """Start a detached keeper for the plan's attempt, or join the one that runs it already.

        Idempotent: an attempt number that was ever started in this directory is not run again, so
        after any doubt the same call may be repeated; read `state()` then. A plan with the next
        attempt number needs the earlier one finished or `prove_gone`.

        Args:
            jobdir: made if missing (0700); one per pod.
            plan: what to run.
            keeper: zipapp made by `build_keeper`; built into the job directory if not given.

        Raises:
            Conflict: another attempt of this job is still running, unsettled, or newer.
            InvalidRequest: the plan is not one that a keeper accepts.
            Unavailable: no interpreter or the keeper did not come up (retryable).
        """
        faults = checks.plan_faults(plan)
        if faults:
            raise InvalidRequest("; ".join(faults))
        handle = cls(jobdir)
        if await asyncio.to_thread(handle._prepare, plan):
            archive = keeper
            if archive is None:
                archive = await asyncio.to_thread(build_keeper, jobdir / "keeper.pyz")
            async with asyncio.timeout(_START_S):
                # What is waited for is another process, which tells nobody when it leaves.
                while not await handle._launch(archive, plan):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        await handle._wait_known(plan)
        return handle

    async def _wait_known(self, plan: PodPlan) -> None:
        """Wait for the keeper's first state; one that was killed before it never writes any."""
        for _ in range(int(_LEAVING_S / _POLL_S)):
            state = self.state()
            if state is not None and state.attempt >= plan.attempt:
                return
            await asyncio.sleep(_POLL_S)

    def _prepare(self, plan: PodPlan) -> bool:
        """Lay the plan down; False if its attempt has been started before."""
        self.jobdir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if journal.attempt_dir(self.jobdir, plan.attempt).is_dir():
            return False
        there = journal.read(PodPlan, self.jobdir / journal.PLAN)
        if there is not None and there.attempt > plan.attempt:
            raise Conflict(f"attempt {there.attempt} of this job exists already")
        journal.write(self.jobdir / journal.PLAN, plan)
        return True

    async def _launch(self, archive: Path, plan: PodPlan) -> bool:
        """Start the program once; False if an earlier keeper is just leaving."""
        # In a thread, so that a cancelled caller leaves no child of ours unwaited.
        code, text = await asyncio.to_thread(self._execute, archive)
        match code:
            case main.UP | main.USED:
                return True
            case main.LOCKED:
                return await self._join(plan)
            case main.UNSETTLED:
                raise Conflict(f"an earlier attempt is not settled: {text}")
            case main.BAD_PLAN:
                raise InvalidRequest(text)
        raise Unavailable(f"the keeper did not come up: {text}")

    def _execute(self, archive: Path) -> tuple[int, str]:
        try:
            done = subprocess.run(
                [keeper_python(), "-I", "-S", "-B", archive, self.jobdir],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=_ENVIRONMENT,
                cwd="/",
                start_new_session=True,
                timeout=_START_S,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise Unavailable("the keeper's program cannot be run") from error
        return done.returncode, shorten(done.stderr.decode(errors="replace"))

    async def _join(self, plan: PodPlan) -> bool:
        """Somebody holds the lock: our own attempt, an earlier one, or one that is leaving."""
        for _ in range(int(_LEAVING_S / _POLL_S)):
            if journal.attempt_dir(self.jobdir, plan.attempt).is_dir():
                return True
            state = self.state()
            if state is not None and state.final:
                return False
            if state is not None and self.alive():
                break
            await asyncio.sleep(_POLL_S)
        raise Conflict("another attempt of this job is running")

    @classmethod
    def adopt(cls, jobdir: Path) -> "KeeperHandle":
        """Return a handle to a job that somebody else started; the keeper may be dead by now.

        Raises:
            NotFound: no keeper was ever started in this directory.
        """
        if not (jobdir / journal.ATTEMPTS).is_dir():
            raise NotFound("no keeper was ever started for this job")
        return cls(jobdir)

    def identity(self) -> Identity | None:
        """Return which process the last keeper was."""
        return journal.read(Identity, self.jobdir / journal.IDENTITY)

    def plan(self) -> PodPlan | None:
        """Return the plan of the latest attempt that was started."""
        attempt = journal.last_attempt(self.jobdir)
        folder = journal.attempt_dir(self.jobdir, attempt)
        return journal.read(PodPlan, folder / journal.PLAN)

    def state(self) -> PodState | None:
        """Return the last state written; None before the first."""
        return journal.read(PodState, self.jobdir / journal.STATE)

    def alive(self) -> bool:
        """Tell whether the keeper's own process still runs (pid, start time and boot agree)."""
        identity = self.identity()
        return (
            identity is not None
            and identity.boot_id == procfs.boot_id()
            and procfs.runs(identity.pid, identity.start_ticks)
        )

    async def stats(self) -> PodStats | None:
        """Return real figures: live from the keeper, else as last written."""
        try:
            answer = await door.ask(self.jobdir, {"do": "stats"})
        except Unavailable:
            return journal.read(PodStats, self.jobdir / journal.STATS)
        stats: PodStats = journal.build(PodStats, answer["stats"])
        return stats

    async def cancel(self, grace_s: float | None = None) -> None:
        """Ask the keeper to end the pod: SIGTERM, after the grace SIGKILL. Returns at once.

        A finished job stays as it is. `grace_s` None takes the plan's own.

        Raises:
            Unavailable: the keeper is dead but its job is not settled: `prove_gone`.
        """
        try:
            await door.ask(self.jobdir, {"do": "cancel", "grace_s": grace_s})
        except Unavailable:
            state = self.state()
            if state is None or not state.final:
                raise

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a byte stream to 127.0.0.1:port in the pod's own network.

        Raises:
            Unavailable: nothing listens there, or the keeper is gone (retryable).
        """
        return await door.connect(self.jobdir, port)

    async def join(self, request: Mapping[str, Any]) -> KeeperSession:
        """Run a command in a container, or join its own process; see `door.join`."""
        return await door.join(self.jobdir, request)

    def read_logs(self, query: LogQuery) -> Iterator[bytes]:
        """Yield the wanted lines as they stand now, each with its newline.

        Raises:
            NotFound: no such container, or no log of that attempt.
        """
        return read_log(log_file(self.jobdir, query), query)

    async def follow_logs(self, query: LogQuery) -> AsyncIterator[bytes]:
        """Yield the wanted lines and then new ones until this run of the container has ended.

        Raises:
            NotFound: no such container, or no log of that attempt.
        """
        path = log_file(self.jobdir, query)
        async for line in follow(path, query, lambda: self._over(path)):
            yield line

    def _over(self, path: Path) -> bool:
        """Tell whether nothing will be added to a log file any more."""
        state = self.state()
        return state is None or all_written(path, state) or not self.alive()

    async def wait_change(
        self, after: int = 0, *, timeout_s: float | None = None
    ) -> PodState | None:
        """Return the state as soon as its sequence exceeds `after` or the keeper is dead.

        Returns None after the time-out. A dead keeper with an unfinished state is returned as it
        is: ask `alive()`.
        """
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    state = self.state()
                    if state is not None and (state.sequence > after or state.final):
                        return state
                    try:
                        await door.ask(self.jobdir, {"do": "wait", "after": after}, timeout_s=None)
                    except Unavailable:
                        if not self.alive():
                            return self.state()
                        await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return None

    async def wait_finished(self, *, timeout_s: float | None = None) -> PodState | None:
        """Return the final state, or None after the time-out or when the keeper died before."""
        try:
            async with asyncio.timeout(timeout_s):
                state = await self.wait_change()
                while state is not None and not state.final and self.alive():
                    state = await self.wait_change(state.sequence)
        except TimeoutError:
            return None
        state = self.state()
        return state if state is not None and state.final else None

    async def prove_gone(self, *, timeout_s: float = 10.0) -> Gone:
        """Kill whatever of the job is left, the keeper too, and return once nothing is.

        Holds the job's lock meanwhile, so no attempt can begin. An unfinished state is settled as
        Failed with reason KeeperLost.

        Raises:
            Unavailable: something survived the time-out (an uninterruptible process); retryable.
        """
        try:
            killed, state = await asyncio.to_thread(gone.prove_gone, self.jobdir, timeout_s)
        except (gone.StillThereError, gone.LockedError) as error:
            raise Unavailable(f"the job is not gone: {error}") from error
        return Gone(tuple(killed), state)
