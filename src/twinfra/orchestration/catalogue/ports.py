"""What the catalogue needs of its store."""

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

from twinfra.orchestration.catalogue.model import Change, Registration


class ProviderUnit(Protocol):
    """One unit of work: all of it comes true, or nothing."""

    async def find(self, name: str) -> Registration | None:
        """Return a provider, held against others' changes until the unit ends."""
        ...

    async def add(self, registration: Registration) -> bool:
        """Add a provider; ``False`` if another unit added the name meanwhile."""
        ...

    async def change(self, registration: Registration) -> None:
        """Replace what is held of a provider."""
        ...

    async def remove(self, name: str) -> None:
        """Forget a provider."""
        ...

    async def overdue(self, now: datetime) -> list[Registration]:
        """Return, held, the active providers whose deadline is not after `now`."""
        ...

    async def note(self, change: Change) -> None:
        """Add a line to a provider's history, dropping the oldest beyond the limit."""
        ...


class ProviderStore(Protocol):
    """Where providers are kept."""

    def unit(self) -> AbstractAsyncContextManager[ProviderUnit]:
        """Open a unit of work."""
        ...

    async def get(self, name: str) -> Registration | None:
        """Return a provider."""
        ...

    async def all(self) -> list[Registration]:
        """Return all providers by name."""
        ...

    async def history(self, name: str, limit: int) -> list[Change]:
        """Return what happened to a provider, the newest first."""
        ...

    async def next_deadline(self) -> datetime | None:
        """Return the first deadline of an active provider."""
        ...
