"""Keeps child processes alive: each has its own session, log and pid file, and comes back alone.

A child dies with its supervisor (``PR_SET_PDEATHSIG``), so a killed ``up`` leaves no half
federation; keepers of jobs are no children of ours and live on. What an earlier supervisor left is
ended before a child is started. Knows nothing of what the children do.
"""

import asyncio
import ctypes
import json
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from twinfra.core.errors import Unavailable
from twinfra.core.telemetry import get_logger
from twinfra.core.time import pause_s

log = get_logger(__name__)

STOP_WITHIN_S = 30.0
STEADY_AFTER_S = 30.0
READY_LOOK_S = 0.05
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Child:
    """A process to keep alive.

    Attributes:
        name: of its log and pid file.
        argv: its command.
        ready: says whether it serves; awaited until it does.
        ready_within_s: or starting it has failed.
        stage: children of one stage start and stop together; lower stages start first, stop last.
        drain_signal: asks it to end its work as well as itself; others are only asked to end.
    """

    name: str
    argv: Sequence[str]
    ready: Callable[[], Awaitable[bool]]
    ready_within_s: float = 60.0
    stage: int = 0
    drain_signal: signal.Signals = signal.SIGTERM


class Supervisor:
    """Starts children stage by stage, restarts what ends, stops all in reverse."""

    def __init__(self, children: Sequence[Child], *, logs: Path, pids: Path) -> None:
        self._children, self._logs, self._pids = children, logs, pids
        self._processes: dict[str, Process] = {}
        self._keepers: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Start every child, stage by stage; a stage begins when the one before it is ready.

        Raises:
            Unavailable: a child was not ready in time; the others are stopped.
        """
        self._pids.mkdir(parents=True, exist_ok=True)
        try:
            for stage in self._stages():
                async with asyncio.TaskGroup() as group:
                    for child in stage:
                        group.create_task(self._bring_up(child))
        except BaseExceptionGroup as failures:
            await self.stop()
            raise failures.exceptions[0] from failures
        except BaseException:
            await self.stop()
            raise

    async def stop(self, *, drain: bool = False) -> None:
        """Stop all children, the last stage first: asked by a signal, then killed.

        Args:
            drain: ask them by their `Child.drain_signal`.
        """
        for task in self._keepers:
            task.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        self._keepers.clear()
        for stage in reversed(self._stages()):
            await asyncio.gather(*(self._bring_down(child, drain=drain) for child in stage))

    def _stages(self) -> list[list[Child]]:
        numbers = sorted({child.stage for child in self._children})
        return [[child for child in self._children if child.stage == each] for each in numbers]

    async def _bring_up(self, child: Child) -> None:
        await self._launch(child)
        await self._until_ready(child)
        self._keepers.append(asyncio.create_task(self._keep(child)))

    async def _bring_down(self, child: Child, *, drain: bool) -> None:
        if process := self._processes.pop(child.name, None):
            await _end(process, child.drain_signal if drain else signal.SIGTERM)
        (self._pids / f"{child.name}.pid").unlink(missing_ok=True)

    def pid(self, name: str) -> int | None:
        """Return the process id of a child, if it runs."""
        process = self._processes.get(name)
        return process.pid if process and process.returncode is None else None

    async def _launch(self, child: Child) -> None:
        pid_file = self._pids / f"{child.name}.pid"
        await asyncio.to_thread(_end_leftover, pid_file)
        with (self._logs / f"{child.name}.log").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *child.argv,
                stdin=DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self._processes[child.name] = process
        with suppress(psutil.NoSuchProcess):  # it may have ended by now; its keeper will see
            started_at = psutil.Process(process.pid).create_time()
            pid_file.write_text(json.dumps({"pid": process.pid, "started_at": started_at}))
        log.info("child_started", child=child.name, pid=process.pid)

    async def _until_ready(self, child: Child) -> None:
        try:
            async with asyncio.timeout(child.ready_within_s):
                while not await child.ready():
                    if self._processes[child.name].returncode is not None:
                        break
                    await asyncio.sleep(READY_LOOK_S)
                else:
                    return
        except TimeoutError:
            pass
        where = self._logs / f"{child.name}.log"
        raise Unavailable(f"{child.name} did not become ready; its log is {where}")

    async def _keep(self, child: Child) -> None:
        loop = asyncio.get_running_loop()
        falls = 0
        while True:
            began = loop.time()
            status = await self._processes[child.name].wait()
            falls = 1 if loop.time() - began > STEADY_AFTER_S else falls + 1
            log.warning("child_ended", child=child.name, status=status, falls=falls)
            await asyncio.sleep(pause_s(falls, least_s=0.1, most_s=10.0))
            try:
                await self._launch(child)
            except OSError as error:  # no memory, no such program: the next round tries again
                log.warning("child_not_started", child=child.name, exc_info=error)


async def _end(process: Process, how: signal.Signals) -> None:
    if process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.send_signal(how)
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        log.warning("child_killed", pid=process.pid)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _end_leftover(pid_file: Path) -> None:
    """End the process that an earlier supervisor noted, if it is still that process."""
    with suppress(FileNotFoundError, ValueError, KeyError, psutil.NoSuchProcess):
        noted = json.loads(pid_file.read_text())
        process = psutil.Process(noted["pid"])
        if abs(process.create_time() - noted["started_at"]) > 1:
            return
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(STOP_WITHIN_S)


def _die_with_parent() -> None:
    """Ask the kernel for SIGTERM when the supervisor ends (prctl(2))."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
