"""Proves that no process of a job is left: finds them, kills them, looks again.

Found by four traces, because each can be blurred by hostile code: the keeper's own pid, control
groups, the mark in the environment, and the sessions that the keeper made. Must hold the job's
lock meanwhile, so that no new attempt begins.
"""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Optional

from . import cgroups, journal, model, procfs

_LOOK_AGAIN_S = 0.02
_GROUPS_S = 1.0


class StillThereError(Exception):
    """Something survived; the text names the pids."""


class LockedError(Exception):
    """The job's lock is held by somebody whom we may not or could not end."""


@contextlib.contextmanager
def locked(jobdir: Path, until: float) -> Iterator[None]:
    """Hold the job's lock.

    Raises:
        LockedError: not to be had before `until` (monotonic).
    """
    descriptor = os.open(jobdir / journal.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise LockedError(f"{jobdir.name}: the lock is held") from None
                time.sleep(_LOOK_AGAIN_S)
        yield
    finally:
        os.close(descriptor)


def prove_gone(jobdir: Path, timeout_s: float) -> tuple[list[int], Optional[model.PodState]]:
    """Kill what is left of the job's last attempt, settle its state, return pids and state.

    Raises:
        StillThereError: a process survived the time-out.
        LockedError: another keeper holds the job.
    """
    until = time.monotonic() + timeout_s
    killed: set[int] = set()
    identity = journal.read(model.Identity, jobdir / journal.IDENTITY)
    if identity is not None and _kill_keeper(identity):
        killed.add(identity.pid)
    with locked(jobdir, until):
        # A keeper that began after the first look has held the lock and is known by now.
        identity = journal.read(model.Identity, jobdir / journal.IDENTITY)
        if identity is not None:
            _kill_rest(jobdir, identity, killed, until)
            _remove_groups(identity.cgroups)
        return sorted(killed), settle(jobdir)


def _kill_keeper(identity: model.Identity) -> bool:
    if identity.boot_id != procfs.boot_id() or not procfs.runs(identity.pid, identity.start_ticks):
        return False
    with contextlib.suppress(ProcessLookupError):
        os.kill(identity.pid, signal.SIGKILL)
    return True


def _kill_rest(jobdir: Path, identity: model.Identity, killed: set[int], until: float) -> None:
    if identity.boot_id != procfs.boot_id():
        return
    while True:
        left = _left(jobdir, identity)
        if not left:
            return
        if time.monotonic() >= until:
            raise StillThereError(f"still there: {left}")
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        killed.update(left)
        time.sleep(_LOOK_AGAIN_S)


def _remove_groups(paths: tuple[str, ...]) -> None:
    """Remove the groups; what has just been killed may hold them for a moment."""
    until = time.monotonic() + _GROUPS_S
    while any(os.path.isdir(path) for path in paths) and time.monotonic() < until:
        cgroups.remove(paths)
        time.sleep(_LOOK_AGAIN_S / 10)


def _left(jobdir: Path, identity: model.Identity) -> list[int]:
    """Return the processes of the attempt that still run."""
    mark = model.job_mark(identity.uid, identity.attempt)
    leaders = _launched(journal.attempt_dir(jobdir, identity.attempt))
    grouped = set(cgroups.members(identity.cgroups))
    found = []
    for pid in procfs.pids():
        seen = procfs.process(pid)
        if seen is None or seen.dead or pid == os.getpid():
            continue
        if pid == identity.pid:
            ours = seen.start_ticks == identity.start_ticks
        else:
            ours = (
                pid in grouped
                or leaders.get(pid) == seen.start_ticks
                or _in_session(seen, leaders)
                or procfs.environment_value(pid, model.MARK) == mark
            )
        if ours:
            found.append(pid)
    return found


def _in_session(seen: procfs.Process, leaders: dict[int, int]) -> bool:
    """Tell whether the process belongs to a session that the keeper made.

    While a member lives the session's number is not given anew, so a leader that is gone leaves no
    doubt; one that is there must be the very process that was started.
    """
    started = leaders.get(seen.session)
    if started is None or seen.start_ticks < started:
        return False
    leader = procfs.process(seen.session)
    return leader is None or leader.start_ticks == started


def _launched(folder: Path) -> dict[int, int]:
    try:
        lines = (folder / journal.LAUNCHED).read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    pairs = [line.split() for line in lines]
    return {int(pair[0]): int(pair[1]) for pair in pairs if len(pair) == 2}


def settle(jobdir: Path) -> Optional[model.PodState]:
    """Write the end of an attempt whose keeper is lost; a finished one stays as it is."""
    state = journal.read(model.PodState, jobdir / journal.STATE)
    attempt = journal.last_attempt(jobdir)
    if attempt and (state is None or state.attempt < attempt):
        # The keeper died between claiming the attempt and its first word.
        folder = journal.attempt_dir(jobdir, attempt)
        plan = journal.read(model.PodPlan, folder / journal.PLAN)
        plan = plan or journal.read(model.PodPlan, jobdir / journal.PLAN)
        if plan is not None:
            state = _unstarted(replace(plan, attempt=attempt), state.sequence if state else 0)
    if state is None or state.final:
        return state
    now = journal.now_text()
    settled = replace(
        state,
        sequence=state.sequence + 1,
        phase=model.FAILED,
        reason=model.KEEPER_LOST,
        message="the keeper was killed; its processes are proved gone",
        containers=tuple(_lost(item, now) for item in state.containers),
        init_containers=tuple(_lost(item, now) for item in state.init_containers),
        finished_at=now,
        ready=False,
    )
    journal.write(jobdir / journal.STATE, settled)
    return settled


def _unstarted(plan: model.PodPlan, sequence: int) -> model.PodState:
    waiting = model.Waiting(model.POD_INITIALIZING)

    def status(item: model.ContainerPlan) -> model.ContainerStatus:
        return model.ContainerStatus(item.name, item.image, item.image_id, waiting)

    return model.PodState(
        uid=plan.uid,
        attempt=plan.attempt,
        sequence=sequence,
        phase=model.PENDING,
        containers=tuple(status(item) for item in plan.containers),
        init_containers=tuple(status(item) for item in plan.init_containers),
    )


def _lost(status: model.ContainerStatus, now: str) -> model.ContainerStatus:
    if status.running is None:
        return replace(status, ready=status.ready and status.terminated is not None)
    ended = model.Terminated(137, model.KEEPER_LOST, status.running.started_at, now, 9)
    return replace(status, running=None, terminated=ended, ready=False, started=False)
