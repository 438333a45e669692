"""A driver in memory: what the orchestrator's own tests run on; it passes `DriverContract` too.

Jobs run until the test ends them; a service answers at the door that the test gives it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from twinfra.core.errors import SiteRejected, Unavailable
from twinfra.orchestration.infrastructure.model import (
    Handle,
    Observation,
    Phase,
    Target,
    Workload,
)
from twinfra.orchestration.infrastructure.ports import Tunnel

_BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class FakePod:
    """A workload at a site in memory, as the test has made it."""

    workload: Workload
    seen: Observation
    token: str
    log: str = ""
    starts: int = 1


@dataclass
class FakeSite:
    """A site in memory."""

    pods: dict[str, FakePod] = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)
    away: bool = False
    refuses: str | None = None
    answers_to_lose: int = 0
    watchers: list[asyncio.Queue[str]] = field(default_factory=list)

    def tell(self, uid: str) -> None:
        """Tell all watchers of a change."""
        for queue in self.watchers:
            queue.put_nowait(uid)


@dataclass(frozen=True)
class FakeTunnel:
    """A way to a Unix socket that the test has made."""

    path: Path

    async def close(self) -> None:
        """Leave the socket to the test."""


class FakeDriver:
    """A `Driver` whose sites are in memory; jobs run until the test ends them.

    Args:
        doors: folder of the Unix sockets at which the test answers for services; see `door`.
    """

    def __init__(self, doors: Path = Path("/nonexistent")) -> None:
        self.doors = doors
        self.sites: dict[str, FakeSite] = {}
        self.calls: list[tuple[str, str]] = []

    def door(self, uid: str) -> Path:
        """Return where connections to a pod go."""
        return self.doors / f"{uid[:13]}.sock"

    def site(self, name: str) -> FakeSite:
        """Return the site `name`, made when first asked for."""
        return self.sites.setdefault(name, FakeSite())

    def pod(self, uid: str) -> FakePod:
        """Return a pod wherever it is."""
        return next(site.pods[uid] for site in self.sites.values() if uid in site.pods)

    def change(self, uid: str, *, log: str = "", **changes: object) -> None:
        """Let a pod be seen otherwise from now on, and tell it."""
        pod = self.pod(uid)
        pod.seen = replace(pod.seen, **changes)  # type: ignore[arg-type] # fields by name
        pod.log += log
        for site in self.sites.values():
            if uid in site.pods:
                site.tell(uid)

    def finish(self, uid: str, exit_code: int, log: str = "") -> None:
        """Let a pod end."""
        phase = Phase.FAILED if exit_code else Phase.SUCCEEDED
        reason = "Error" if exit_code else "Completed"
        self.change(uid, log=log, phase=phase, exit_code=exit_code, reason=reason)

    def lose(self, uid: str) -> None:
        """Let a site lose a pod."""
        self.change(uid, phase=Phase.FAILED, reason="KeeperLost", lost=True, exit_code=None)

    async def create(self, target: Target, workload: Workload, *, token: str) -> str:
        """Have `workload` run at a site in memory."""
        site = self._up(target)
        self.calls.append(("create", workload.uid))
        if workload.uid in site.pods:
            return site.pods[workload.uid].seen.native_id
        if site.refuses is not None:
            raise SiteRejected(f"{target.site}: {site.refuses}")
        if site.answers_to_lose:
            site.answers_to_lose -= 1
        native_id = f"job-{len(site.pods) + 1}"
        began = Observation(phase=Phase.RUNNING, native_id=native_id, started_at=_BEGAN, ready=True)
        site.pods[workload.uid] = FakePod(workload, began, token)
        site.tell(workload.uid)
        return native_id

    async def status(
        self, target: Target, handles: Sequence[Handle], *, restarting: bool
    ) -> Mapping[str, Observation]:
        """Return how pods are, as the test has made them."""
        site = self._up(target)
        found = {}
        for handle in handles:
            if (pod := site.pods.get(handle.uid)) is None:
                continue
            paused = restarting and pod.seen.phase.final and not pod.seen.lost
            found[handle.uid] = replace(pod.seen, phase=Phase.PENDING) if paused else pod.seen
        return found

    async def delete(self, target: Target, handle: Handle) -> None:
        """Forget a pod."""
        site = self._up(target)
        self.calls.append(("delete", handle.uid))
        if site.pods.pop(handle.uid, None) is not None:
            site.gone.append(handle.uid)

    async def logs(self, target: Target, handle: Handle, *, tail_lines: int) -> str:
        """Return what the test let the pod write."""
        pod = self._up(target).pods.get(handle.uid)
        lines = pod.log.splitlines(keepends=True) if pod else []
        return "".join(lines[-tail_lines:])

    async def watch(self, target: Target) -> AsyncIterator[str]:
        """Give changes as the test makes them."""
        site = self._up(target)
        queue: asyncio.Queue[str] = asyncio.Queue()
        site.watchers.append(queue)
        try:
            yield ""
            while True:
                yield await queue.get()
        finally:
            site.watchers.remove(queue)

    async def connect(self, target: Target, handle: Handle, port: int) -> Tunnel:
        """Return the door that the test has given the pod."""
        self.calls.append(("connect", f"{handle.uid}:{port}"))
        self._up(target)
        return FakeTunnel(self.door(handle.uid))

    def _up(self, target: Target) -> FakeSite:
        site = self.site(target.site)
        if site.away:
            raise Unavailable(f"{target.site}: connection refused")
        return site
