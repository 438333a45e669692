"""The pod: order of init containers, sidecars and main ones, restarts, deadline, the end.

It decides; `container.py` acts. Source: Kubernetes, "Pod Lifecycle" and "Init Containers".
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Optional

from . import journal, model, places, procfs
from .container import Container
from .loop import Timer
from .surroundings import Surroundings, note_launched

_SWEEP_S = 0.05
_WRITE_AGAIN_S = 1.0
_STATS_FILE_EVERY = 5


class Pod:
    """One attempt at one pod, from its first container to the proof that none is left."""

    def __init__(self, around: Surroundings, sequence: int) -> None:
        """Take the sequence of the attempt before: it grows over all attempts of a job."""
        self.sequence = sequence
        self.on_change: Callable[[int], None] = lambda _: None
        self.plan = around.plan
        self._around = around
        self._inits = [self._container(item) for item in around.plan.init_containers]
        self._mains = [self._container(item) for item in around.plan.containers]
        self._init_at = 0
        self._phase = model.PENDING
        self._reason = ""
        self._message = ""
        self._cancelled = False
        self._ending: Optional[str] = None
        """The phase in which it will end, once the end has begun."""
        self._grace_s = around.plan.termination_grace_s
        self._backoffs: dict[str, Timer] = {}
        self._crashes: dict[str, int] = {}
        self._began = time.monotonic()
        self._started_at = journal.now_text()
        self._finished_at = ""
        self._sweeping = False
        self._final_written = False
        self._writing_later: Optional[Timer] = None
        self._memory_peak_bytes = 0
        self._samples = 0
        self._noted: set[int] = set()

    def _container(self, plan: model.ContainerPlan) -> Container:
        return Container(self._around, plan, self._changed, self._ended)

    @property
    def _all(self) -> list[Container]:
        return [*self._inits, *self._mains]

    @property
    def groups(self) -> tuple[str, ...]:
        """Control groups made for the pod."""
        return tuple(path for item in self._all if item.group for path in item.group.paths)

    # -- what others ask ---------------------------------------------------------------------

    def begin(self) -> None:
        """Publish the first state and start."""
        deadline_s = self.plan.active_deadline_s
        if deadline_s is not None:
            self._around.loop.after(deadline_s, self._deadline)
        self._around.loop.after(self.plan.stats_period_s, self._sample)
        if self.plan.folder_limits:
            self._around.loop.after(self.plan.folders_period_s, self._measure)
        self._advance()

    def cancel(self, grace_s: Optional[float] = None) -> None:
        """End the pod; asked again with less grace, it ends sooner."""
        self._cancelled = True
        self._grace_s = self.plan.termination_grace_s if grace_s is None else grace_s
        if self._ending is None:
            self._end(model.FAILED, model.CANCELLED, "somebody asked for its end")
        else:
            self._stop_next()
            self.publish()

    def fail(self, reason: str, message: str) -> None:
        """End the pod before any container could start."""
        self._end(model.FAILED, reason, message)

    def state(self) -> model.PodState:
        """Return the present state."""
        keepers = {item.group.version if item.group else "watch" for item in self._all}
        return model.PodState(
            uid=self.plan.uid,
            attempt=self.plan.attempt,
            sequence=self.sequence,
            phase=self._phase,
            reason=self._reason,
            message=self._message,
            init_containers=tuple(item.status for item in self._inits),
            containers=tuple(item.status for item in self._mains),
            started_at=self._started_at,
            finished_at=self._finished_at,
            ready=self._phase == model.RUNNING and all(item.status.ready for item in self._mains),
            cancelled=self._cancelled,
            limits_kept_by=" ".join(sorted(keepers)),
        )

    def find(self, name: str) -> Optional[Container]:
        """Return the container of this name, or none."""
        return next((item for item in self._all if item.plan.name == name), None)

    def stats(self, *, fresh: bool = False) -> model.PodStats:
        """Return the figures; the last sample is at most one period old, unless `fresh`."""
        for item in self._alive() if fresh else ():
            item.usage.sample(item.group)
        figures = tuple(item.usage.figures() for item in self._all)
        memory_bytes = sum(item.memory_bytes for item in figures)
        largest_bytes = max((item.memory_peak_bytes for item in figures), default=0)
        self._memory_peak_bytes = max(self._memory_peak_bytes, memory_bytes, largest_bytes)
        return model.PodStats(
            uid=self.plan.uid,
            attempt=self.plan.attempt,
            at=journal.now_text(),
            cpu_time_s=round(sum(item.cpu_time_s for item in figures), 6),
            wall_time_s=round(time.monotonic() - self._began, 6),
            memory_bytes=memory_bytes,
            memory_peak_bytes=self._memory_peak_bytes,
            containers=figures,
        )

    def publish(self) -> None:
        """Write the state; after the final one nothing more.

        A full disk must not end the job: the state is written as soon as there is room again, and
        the keeper stays until its last word is written, or nobody can read it: its folder is gone.
        """
        if self._final_written:
            return
        self.sequence += 1
        try:
            journal.write(self._around.folder.parent.parent / journal.STATE, self.state())
        except OSError:
            if self._phase in model.FINAL_PHASES and _folder_deleted():
                self._around.loop.stop()
            elif self._writing_later is None:
                self._writing_later = self._around.loop.after(_WRITE_AGAIN_S, self._write_later)
            return
        self.on_change(self.sequence)
        if self._phase in model.FINAL_PHASES:
            self._final_written = True
            self._around.loop.stop()

    def _write_later(self) -> None:
        self._writing_later = None
        self.publish()

    # -- what containers tell ----------------------------------------------------------------

    def _changed(self) -> None:
        at = self._init_at
        if self._phase == model.PENDING and at < len(self._inits):
            current = self._inits[at]
            if current.plan.sidecar and current.status.started and current.alive:
                self._init_at += 1
                self._advance()
                return
        self.publish()

    def _ended(self, container: Container) -> None:
        if self._ending is not None:
            self._stop_next()
            self.publish()
        elif container in self._inits and not container.plan.sidecar:
            self._init_ended(container)
        elif self._restarts(container):
            self._restart(container)
        elif all(item.status.terminated for item in self._mains):
            self._all_ended()
        else:
            self.publish()

    def _init_ended(self, container: Container) -> None:
        ended = container.status.terminated
        if ended is not None and ended.exit_code == 0:
            container.mark_ready()
            self._init_at += 1
            self._advance()
        elif self.plan.restart_policy == model.NEVER:
            self._end_by(container)
        else:
            self._restart(container)

    def _restarts(self, container: Container) -> bool:
        ended = container.status.terminated
        if container.plan.sidecar or self.plan.restart_policy == model.ALWAYS:
            return True
        failed = ended is not None and ended.exit_code != 0
        return failed and self.plan.restart_policy == model.ON_FAILURE

    # -- decisions ---------------------------------------------------------------------------

    def _advance(self) -> None:
        """Start the next init container, or all main ones."""
        if self._init_at < len(self._inits):
            self._inits[self._init_at].start()
            return
        self._phase = model.RUNNING
        for item in self._mains:
            if self._ending is None:
                item.start()

    def _restart(self, container: Container) -> None:
        """Once at once, then after a delay that doubles (Kubernetes CrashLoopBackOff)."""
        name = container.plan.name
        if container.run_s > 2 * self.plan.backoff_limit_s:
            self._crashes[name] = 0
        crashes = self._crashes.get(name, 0)
        self._crashes[name] = crashes + 1
        initial_s, limit_s = self.plan.backoff_initial_s, self.plan.backoff_limit_s
        delay_s = min(limit_s, initial_s * 2.0 ** min(crashes - 1, 32)) if crashes else 0.0
        container.wait_for_restart(f"back-off {delay_s:g}s before the next start")
        self._backoffs[name] = self._around.loop.after(delay_s, container.start)
        self.publish()

    def _all_ended(self) -> None:
        failed = [item for item in self._mains if _exit_code(item) != 0]
        if failed:
            self._end_by(failed[0])
        else:
            self._end(model.SUCCEEDED, model.COMPLETED, "")

    def _end_by(self, container: Container) -> None:
        ended = container.status.terminated
        reason = ended.reason if ended else model.ERROR
        text = f"container {container.plan.name} exited with code {_exit_code(container)}"
        if ended and ended.message:
            text += f": {ended.message}"
        self._end(model.FAILED, reason, text)

    def _deadline(self) -> None:
        if self._ending is None:
            limit = f"the pod ran longer than {self.plan.active_deadline_s:g}s"
            self._end(model.FAILED, model.DEADLINE_EXCEEDED, limit)

    def _end(self, phase: str, reason: str, message: str) -> None:
        self._ending, self._reason, self._message = phase, reason, message
        for timer in self._backoffs.values():
            timer.cancel()
        self._stop_next()
        self.publish()

    def _stop_next(self) -> None:
        """Stop main containers first, then sidecars, the last started first; then finish."""
        alive = [item for item in self._all if item.alive]
        sidecars = [item for item in alive if item.plan.sidecar]
        others = [item for item in alive if not item.plan.sidecar]
        for item in others or sidecars[-1:]:
            item.stop(self._reason, self._message, self._grace_s)
        if not alive and not self._sweeping:
            self._sweeping = True
            self._around.reaper.when_childless(self._finish)
            self._sweep()

    def _sweep(self) -> None:
        """Kill whatever still hangs below the keeper, orphans too, until nothing does."""
        left = procfs.descendants(os.getpid())[1:]
        for pid in left:
            _kill(pid)
        if left:
            self._around.loop.after(_SWEEP_S, self._sweep)
        self._around.reaper.collect()

    def _finish(self) -> None:
        self._phase = self._ending or model.FAILED
        self._finished_at = journal.now_text()
        for item in self._all:
            item.settle()
            if item.group is not None:
                item.group.remove()
        self._write_stats()
        self.publish()

    def _measure(self) -> None:
        """Evict a pod that keeps more than it may."""
        began = time.monotonic()
        for folder in self.plan.folder_limits:
            if self._ending is None and places.size_bytes(folder.path) > folder.limit_bytes:
                text = f"volume {folder.name} holds more than its limit of {folder.limit_bytes}"
                self._end(model.FAILED, model.EVICTED, f"{text} bytes")
        took_s = time.monotonic() - began
        self._around.loop.after(max(self.plan.folders_period_s, 20 * took_s), self._measure)

    # -- figures -----------------------------------------------------------------------------

    def _sample(self) -> None:
        for item in self._alive():
            item.usage.sample(item.group)
        for pid in set(procfs.children(os.getpid())) - self._noted - self._around.reaper.expected:
            # An orphan that may have shed every other trace of its origin.
            self._noted.add(pid)
            note_launched(self._around.folder, pid)
        self.stats()
        self._samples += 1
        if self._samples % _STATS_FILE_EVERY == 1:
            self._write_stats()
        self._around.loop.after(self.plan.stats_period_s, self._sample)

    def _alive(self) -> Iterable[Container]:
        return [item for item in self._all if item.alive]

    def _write_stats(self) -> None:
        path = self._around.folder.parent.parent / journal.STATS
        with contextlib.suppress(OSError):  # figures can be late; a full disk comes first
            journal.write(path, self.stats(), durable=self._finished_at != "")


def _folder_deleted() -> bool:
    """Tell whether the job's folder, in which this process stands, has no name any more."""
    return os.stat(".").st_nlink == 0


def _exit_code(container: Container) -> int:
    ended = container.status.terminated
    return ended.exit_code if ended else -1


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
