"""Runs what a container wants done after its start and before its end (Kubernetes v1.Lifecycle).

It must not start or end the container: its neighbour `container.py` does.
"""

from collections.abc import Callable
from typing import Optional

from .loop import Loop, Timer
from .model import Hook, Probe
from .probes import Question, Run

_FOREVER_S = 10.0 * 365 * 86400


class HookRun:
    """One run of one hook; `done` is called once, unless it is stopped before."""

    def __init__(self, loop: Loop, hook: Hook, run: Run, done: Callable[[bool], None]) -> None:
        """Begin."""
        self._question: Optional[Question] = None
        self._timer: Optional[Timer] = None
        if hook.sleep_s is not None:
            self._timer = loop.after(hook.sleep_s, lambda: done(True))
            return
        as_probe = Probe(
            http=hook.http,
            tcp_port=hook.tcp_port,
            exec_command=hook.exec_command,
            timeout_s=_FOREVER_S,
        )
        self._question = Question(loop, as_probe, done)
        # Not at once: the sandbox command may not have started the container's process yet.
        self._timer = loop.after(0, lambda: self._ask(loop, run, 100))

    def _ask(self, loop: Loop, run: Run, tries: int) -> None:
        question = self._question
        if question is None:
            return
        if not question.begin(run, last=tries == 0):
            self._timer = loop.after(0.05, lambda: self._ask(loop, run, tries - 1))

    def stop(self) -> None:
        """End it without a word."""
        if self._timer is not None:
            self._timer.cancel()
        if self._question is not None:
            self._question.close()
            self._question = None
