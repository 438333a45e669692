"""What monitoring needs of others: which sites there are, a way to look at one, and memory."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from twinfra.core.bus import Event
from twinfra.orchestration.catalogue.client import Provider
from twinfra.orchestration.monitoring.model import JobOutcome, Probe, SiteStatus


class Directory(Protocol):
    """Which sites there are."""

    async def providers(self) -> Sequence[Provider]:
        """Return all providers, stale ones too.

        Raises:
            TwinfraError: they cannot be had now.
        """
        ...


class SiteProbe(Protocol):
    """A way to look at a site."""

    async def look(self, provider: Provider) -> Probe:
        """Return what was found; a site that is away is a finding, not an error.

        Guarantees: answers within the time that the settings give.

        Raises:
            TwinfraError: it is us who cannot look (no token is to be had), so nothing was found.
        """
        ...

    async def forget(self, provider: Provider) -> None:
        """Close what was opened for a site."""
        ...


class StatusUnit(Protocol):
    """One unit of work: all of it comes true, or nothing."""

    async def put(self, status: SiteStatus) -> None:
        """Keep what must outlive this process of a status."""
        ...

    async def drop(self, site: str) -> None:
        """Forget a site and its jobs."""
        ...

    async def announce(self, event: Event) -> None:
        """Have an event published."""
        ...


class StatusStore(Protocol):
    """Memory of statuses and of how jobs ended."""

    def unit(self) -> AbstractAsyncContextManager[StatusUnit]:
        """Open a unit of work."""
        ...

    async def statuses(self) -> Mapping[str, SiteStatus]:
        """Return what was kept, by site."""
        ...

    async def add_outcome(self, outcome: JobOutcome, *, keep_since: datetime) -> None:
        """Keep how a job ended, once however often it is told; drop what is older."""
        ...

    async def outcomes(self, site: str) -> Sequence[JobOutcome]:
        """Return how jobs ended at a site."""
        ...
