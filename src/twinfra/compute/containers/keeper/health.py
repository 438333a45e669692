"""Which probes of a container run when, and what it makes of their answers.

It must not end or start anything: it tells `container.py`, which does.
"""

from collections.abc import Callable

from .loop import Loop
from .model import ContainerPlan, Probe
from .probes import Prober, Run


class Health:
    """The probes of one run: startup first, the others once it has passed."""

    def __init__(
        self,
        loop: Loop,
        plan: ContainerPlan,
        run: Run,
        tell: Callable[[bool, bool], None],
        unhealthy: Callable[[str, Probe], None],
    ) -> None:
        """Begin to probe.

        Args:
            loop: serves the probes.
            plan: holds them.
            run: executes a command in the container.
            tell: called with (started, ready) at each change after the first.
            unhealthy: called with a message and the probe when the container should be ended.
        """
        self._loop = loop
        self._plan = plan
        self._run = run
        self._tell = tell
        self._unhealthy = unhealthy
        self._probers: list[Prober] = []
        self.started = plan.startup is None
        self.ready = self.started and plan.readiness is None
        startup = plan.startup
        if startup is not None:
            failed = "the startup probe failed"
            self._add(startup, self._startup_passed, lambda: unhealthy(failed, startup))
        else:
            self._watch()

    def stop(self) -> None:
        """Probe no more."""
        for prober in self._probers:
            prober.stop()
        self._probers = []

    def _startup_passed(self) -> None:
        self.stop()
        self.started, self.ready = True, self._plan.readiness is None
        self._watch()
        self._tell(self.started, self.ready)

    def _watch(self) -> None:
        if self._plan.readiness is not None:
            self._add(
                self._plan.readiness, lambda: self._set_ready(True), lambda: self._set_ready(False)
            )
        liveness = self._plan.liveness
        if liveness is not None:
            failed = "the liveness probe failed"
            self._add(liveness, lambda: None, lambda: self._unhealthy(failed, liveness))

    def _set_ready(self, ready: bool) -> None:
        if self.ready != ready:
            self.ready = ready
            self._tell(self.started, ready)

    def _add(self, probe: Probe, passed: Callable[[], None], failed: Callable[[], None]) -> None:
        prober = Prober(self._loop, probe, self._run, passed, failed)
        self._probers.append(prober)
        prober.start()
