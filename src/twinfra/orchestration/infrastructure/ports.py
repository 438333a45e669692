"""The port of a driver: how the orchestrator has something run at a site.

A back end is one file beside this one; ``twinfra.testkit.driver_contract`` judges it and ships the
fake. A driver keeps no state that matters: after a crash all is asked again by the workload's uid.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from twinfra.orchestration.infrastructure.model import Handle, Observation, Target, Workload


class Tunnel(Protocol):
    """A way to a port of a workload, open until it is closed."""

    @property
    def path(self) -> Path:
        """The Unix socket on this machine to connect to, any number of times."""
        ...

    async def close(self) -> None:
        """Shut it, and every connection through it."""
        ...


class Driver(Protocol):
    """Runs workloads at sites."""

    async def create(self, target: Target, workload: Workload, *, token: str) -> str:
        """Have `workload` run at `target`; return the site's own id, empty while it has none.

        Guarantees: the same uid is started at most once, however often this is called; after an
        answer that was lost it asks the site before it asks again.

        Args:
            target: the site.
            workload: what to run.
            token: of the person whose workload this is, for the site's endpoint.

        Raises:
            SiteRejected: the site understood and will not; do not repeat it there.
            Unavailable: the site does not answer; it may or may not have begun. Repeat it.
        """
        ...

    async def status(
        self, target: Target, handles: Sequence[Handle], *, restarting: bool
    ) -> Mapping[str, Observation]:
        """Return by uid how each of `handles` is; one that the site does not know is absent.

        Args:
            target: the site.
            handles: the workloads.
            restarting: the site begins them again when they end, so an end is only a pause.

        Raises:
            Unavailable: the site does not answer; nothing follows about the workloads.
        """
        ...

    async def delete(self, target: Target, handle: Handle) -> None:
        """Begin to end and forget a workload; one that the site does not know is fine.

        Guarantees: after a while `status` leaves it out, or says that it has ended.

        Raises:
            Unavailable: the site does not answer; it may live on. Repeat it.
        """
        ...

    async def logs(self, target: Target, handle: Handle, *, tail_lines: int) -> str:
        """Return the last lines that the workload wrote, empty if it is unknown or wrote none.

        Raises:
            Unavailable: the site does not answer.
        """
        ...

    def watch(self, target: Target) -> AsyncIterator[str]:
        """Give the uid of each workload whose state changed, as it changes.

        Guarantees: the empty text comes first and after each gap (a new connection), and means that
        anything may have changed meanwhile. It ends or raises `Unavailable` when the site goes.
        """
        ...

    async def connect(self, target: Target, handle: Handle, port: int) -> Tunnel:
        """Return a way to `port` of the workload; whether anybody listens shows when it is used.

        Guarantees: a connection through it that cannot be made is closed at once.
        """
        ...
