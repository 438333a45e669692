"""One container of the pod: starts it, watches it, ends it, says how it is.

It must not decide about restarts or about other containers: its neighbour `pod.py` does.
"""

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Optional

from . import journal, model, procfs, spawn
from .ending import end_command
from .health import Health
from .hooks import HookRun
from .joined import Joined
from .loop import Timer
from .output import Recorder
from .surroundings import Surroundings, note_launched
from .usage import Usage
from .verdict import START_ERROR_CODE, End, judge

if TYPE_CHECKING:
    import resource

_WATCH_S = 0.1
_EARLY_SAMPLES_S = (0.05, 0.25)
_STUBBORN_S = 2.0
_SETTLE_S = 0.002


class Container:
    """The life of one container; `changed` is called after every change of `status`."""

    def __init__(
        self,
        around: Surroundings,
        plan: model.ContainerPlan,
        changed: Callable[[], None],
        ended: Callable[["Container"], None],
    ) -> None:
        self.plan = plan
        self._around = around
        self._changed = changed
        self._ended = ended
        self.usage = Usage(plan.name)
        self.status = model.ContainerStatus(
            name=plan.name,
            image=plan.image,
            image_id=plan.image_id,
            waiting=model.Waiting(model.POD_INITIALIZING),
        )
        name = f"twinfra-{around.plan.uid}-{around.plan.attempt}-{plan.name}"
        self.group = around.groups.open(name)
        if self.group is not None:
            self.group.limit(plan.limits)
        self.pid: Optional[int] = None
        self.run_s = 0.0
        """How long the last run lasted."""
        self._started = 0.0
        self._recorder: Optional[Recorder] = None
        self._health: Optional[Health] = None
        self._hook: Optional[HookRun] = None
        self._inner: Optional[int] = None
        self._timers: dict[str, Timer] = {}
        self._stop_reason = ""
        self._stop_message = ""
        self._kill_at = math.inf
        self._oom_seen = 0
        self._starved = False
        self._killed = False
        self._settling = False
        self._stopping = False
        self._guests: set[int] = set()
        self.joined = Joined(plan)

    @property
    def alive(self) -> bool:
        """Whether its process runs or what it left is being ended."""
        return self.pid is not None or self._settling

    def start(self) -> None:
        """Start its process, the first time or again."""
        again = self.status.terminated or self.status.last_terminated
        restarts = self.status.restart_count + (1 if again else 0)
        self._stop_reason = self._stop_message = ""
        self._kill_at = math.inf
        self._starved = self._killed = self._stopping = False
        self._oom_seen = self.group.oom_kills() if self.group else 0
        self._started = time.monotonic()
        began = journal.now_text()
        try:
            self.pid = self._spawn(restarts)
        except (spawn.StartFailedError, OSError) as error:
            self._set(restart_count=restarts, last_terminated=again)
            now, why = journal.now_text(), str(error)
            self._finish(
                model.Terminated(START_ERROR_CODE, model.START_ERROR, began, now, None, why)
            )
            return
        self.usage.begin(self.pid)
        if self._recorder is not None:
            self.joined.begin(self.pid, self._recorder)
        self._around.reaper.wait(self.pid, self._reaped)
        self._set(
            waiting=None,
            terminated=None,
            last_terminated=again,
            restart_count=restarts,
            running=model.Running(began),
        )
        self._watch()
        self._health = None
        if self.plan.post_start is None:
            self._begin_health()
        else:
            hook, loop = self.plan.post_start, self._around.loop
            self._hook = HookRun(loop, hook, self.run, self._post_started)
        self._changed()

    def _begin_health(self) -> None:
        self._health = Health(self._around.loop, self.plan, self.run, self._told, self._unhealthy)
        self._set(started=self._health.started, ready=self._health.ready)

    def _post_started(self, good: bool) -> None:
        self._hook = None
        if self.pid is None or self._stop_reason:
            return
        if good:
            self._begin_health()
            self._changed()
            return
        grace_s = self._around.plan.termination_grace_s
        self.stop(model.POST_START_ERROR, "the hook after the start failed", grace_s)

    def _spawn(self, run: int) -> int:
        recorder = Recorder(
            self._around.loop,
            self._around.folder / "logs" / self.plan.name / f"{run}.log",
            self._around.plan.log_limit_bytes,
            self.plan,
        )
        self._recorder = recorder
        ends = recorder.open_ends()
        mark = model.job_mark(self._around.plan.uid, self._around.plan.attempt)
        try:
            pid = spawn.start(self.plan.launch, ends, self.group, {model.MARK: mark})
        except spawn.StartFailedError:
            recorder.close()
            raise
        finally:
            for end in {*ends[:3]} - {-1}:
                os.close(end)
        note_launched(self._around.folder, pid)
        return pid

    def run(self, command: tuple[str, ...], ended: Callable[[int], None]) -> int:
        """Run a command within the container, its output dropped; return the pid.

        Raises:
            StartFailedError: the container does not run.
        """
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        try:
            return self.execute(command, spawn.Ends(null, null), ended)
        finally:
            os.close(null)

    def execute(
        self, command: tuple[str, ...], ends: spawn.Ends, ended: Callable[[int], None]
    ) -> int:
        """Run a command within the container; return the pid. It ends with the container's run.

        Raises:
            StartFailedError: the container does not run.
        """
        if self.pid is None:
            raise spawn.StartFailedError(f"container {self.plan.name} does not run")
        pid = spawn.enter(self.plan.launch, self.pid, command, ends, self.group)
        self._guests.add(pid)

        def reaped(code: int, usage: "resource.struct_rusage") -> None:
            self._guests.discard(pid)
            self.usage.add_child(usage)
            ended(code)

        self._around.reaper.wait(pid, reaped)
        return pid

    def stop(self, reason: str, message: str, grace_s: float) -> None:
        """Ask the container's process to end (hook, SIGTERM), make it after the grace (SIGKILL).

        Asked again, only a shorter grace changes anything.
        """
        kill_at = time.monotonic() + max(0.0, grace_s)
        if self.pid is None or kill_at >= self._kill_at:
            return
        self._kill_at = kill_at
        if not self._stop_reason:
            self._stop_reason, self._stop_message = reason, message
        if self._health is not None:
            self._health.stop()
        inner = procfs.below(self.pid, self.plan.launch.depth)
        if inner is None or grace_s <= 0:
            self.kill()
            return
        self._after("kill", grace_s, self.kill)
        if self._stopping:
            return
        self._stopping = True
        if self._hook is not None:
            self._hook.stop()
        if self.plan.pre_stop is None:
            self._terminate()
        else:
            hook, loop = self.plan.pre_stop, self._around.loop
            self._hook = HookRun(loop, hook, self.run, lambda _: self._terminate())

    def _terminate(self) -> None:
        """Send SIGTERM, once whatever was to come before is over."""
        inner = None
        if self.pid is not None:
            inner = procfs.below(self.pid, self.plan.launch.depth)
        if inner is not None:
            _signal(inner, signal.SIGTERM)

    def kill(self) -> None:
        """End every process of the container now.

        The sandbox command comes last, so that its own end means that all within has ended.
        """
        if self.pid is None:
            return
        self._killed = True
        members = [pid for pid in self.usage.members(self.group) if pid != self.pid]
        if self.plan.launch.traced:
            members += procfs.traced_by(self.pid)
        if not members:
            _signal(self.pid, signal.SIGKILL)
        for pid in members:
            _signal(pid, signal.SIGKILL)
        self._after("stubborn", _STUBBORN_S, self._kill_stubborn)

    def _kill_stubborn(self) -> None:
        if self.pid is not None:
            _signal(self.pid, signal.SIGKILL)
            self.kill()

    def _after(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        """Call later, unless the run ends before; one call of each name at most."""
        earlier = self._timers.get(name)
        if earlier is not None:
            earlier.cancel()
        self._timers[name] = self._around.loop.after(delay_s, call)

    def _watch(self) -> None:
        self._timers = {}
        for delay_s in _EARLY_SAMPLES_S:
            self._after(f"sample {delay_s}", delay_s, self._sample)
        if self.group is None and self.plan.limits.memory_bytes is not None:
            self._after("memory", _WATCH_S, self._watch_memory)
        if self.plan.launch.traced:
            self._inner = None
            self._watch_inner()

    def _watch_inner(self) -> None:
        """End the container when its own process has, though the sandbox waits for others."""
        if self.pid is None:
            return
        if self._inner is None:
            self._inner = procfs.below(self.pid, self.plan.launch.depth)
        elif procfs.process(self._inner) is None:
            for pid in procfs.traced_by(self.pid):
                _signal(pid, signal.SIGKILL)
        pause_s = _SETTLE_S if self._inner is None else _WATCH_S
        self._after("inner", pause_s, self._watch_inner)

    def _sample(self) -> None:
        if self.pid is not None:
            self.usage.sample(self.group)

    def _watch_memory(self) -> None:
        limit_bytes = self.plan.limits.memory_bytes
        if self.pid is None or limit_bytes is None:
            return
        if self.usage.sample(None) > limit_bytes:
            used_bytes = procfs.proportional_bytes(self.usage.members(None))
            if used_bytes > limit_bytes:
                self._starved = True
                self.kill()
                return
        self._after("memory", _WATCH_S, self._watch_memory)

    def _told(self, started: bool, ready: bool) -> None:
        if self.pid is not None:
            self._set(started=started, ready=ready)
            self._changed()

    def _unhealthy(self, message: str, probe: model.Probe) -> None:
        grace_s = self._around.plan.termination_grace_s
        self.stop(model.ERROR, message, grace_s if probe.grace_s is None else probe.grace_s)

    def _reaped(self, code: int, usage: "resource.struct_rusage") -> None:
        """The sandbox command has ended; what hung below it is the keeper's child now."""
        self.pid = None
        self.run_s = time.monotonic() - self._started
        for timer in self._timers.values():
            timer.cancel()
        if self._health is not None:
            self._health.stop()
        if self._hook is not None:
            self._hook.stop()
            self._hook = None
        for guest in self._guests:
            end_command(guest)
        self._settling = True
        self._settle([usage], code, journal.now_text(), time.monotonic() + _STUBBORN_S)

    def _settle(
        self, usages: "list[resource.struct_rusage]", code: int, ended_at: str, until: float
    ) -> None:
        """End and count what the sandbox left, then say how the run went."""
        around = self._around
        around.reaper.collect()
        usages += around.reaper.take_strays()
        left = set(self.group.pids() if self.group is not None else ()) | self._orphans()
        if left and time.monotonic() < until:
            for pid in left:
                _signal(pid, signal.SIGKILL)
            around.loop.after(_SETTLE_S, lambda: self._settle(usages, code, ended_at, until))
            return
        self._settling = False
        self.usage.end(usages, self.run_s)
        self._finish(judge(self.plan.launch, self._end(code, ended_at)))

    def _orphans(self) -> set[int]:
        """Return inherited processes, except those that another container's sandbox traces."""
        own = set(procfs.children(os.getpid())) - self._around.reaper.expected
        return {pid for pid in own if not procfs.traced(pid)}

    def _end(self, code: int, ended_at: str) -> End:
        recorder = self._recorder
        if recorder is not None:
            recorder.close()
        return End(
            code=code,
            began_at=self.status.running.started_at if self.status.running else "",
            ended_at=ended_at,
            error_tail=recorder.error_tail.decode(errors="replace") if recorder else "",
            notes=tuple(recorder.sieve.notes) if recorder else (),
            inner=self._inner,
            killed=self._killed,
            starved=self._starved
            or (self.group is not None and self.group.oom_kills() > self._oom_seen),
            stop_reason=self._stop_reason,
            stop_message=self._stop_message,
        )

    def _finish(self, terminated: model.Terminated) -> None:
        self._set(waiting=None, running=None, terminated=terminated, ready=False, started=False)
        self.joined.end()
        self._ended(self)

    def wait_for_restart(self, message: str) -> None:
        """Show that it will be started again after a while."""
        self._set(
            waiting=model.Waiting(model.CRASH_LOOP_BACK_OFF, message),
            last_terminated=self.status.terminated,
            terminated=None,
        )

    def settle(self) -> None:
        """Show how its last run ended, now that there will be no other."""
        if self.status.terminated is None and self.status.last_terminated is not None:
            self._set(waiting=None, terminated=self.status.last_terminated, last_terminated=None)

    def mark_ready(self) -> None:
        """Show a completed init container as ready, as Kubernetes does."""
        self._set(ready=True)

    def _set(self, **changes: object) -> None:
        self.status = replace(self.status, **changes)  # type: ignore[arg-type] # names are ours


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
