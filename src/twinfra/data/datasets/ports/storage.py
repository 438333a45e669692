"""Stores of where things stand: storages and replicas."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from twinfra.data.datasets.model import ReplicaState
from twinfra.data.datasets.model.rses import Protocol as RseProtocol
from twinfra.data.datasets.model.rses import Rse
from twinfra.data.datasets.ports.rows import Owner, ReplicaRow, ReplicaSummary


class RseStore(Protocol):
    """Storages with attributes and protocols."""

    async def all(self) -> dict[int, Rse]:
        """Return all storages by number."""
        ...

    async def add(self, rse: Rse, now: datetime) -> bool:
        """Add a storage; false: the name is taken."""
        ...

    async def update(self, rse_id: int, values: Mapping[str, Any]) -> None:
        """Change columns of a storage."""
        ...

    async def remove(self, rse_id: int) -> bool:
        """Remove a storage; false: it holds replicas."""
        ...

    async def set_attribute(self, rse_id: int, key: str, value: Any) -> None:
        """Set an attribute; none removes it."""
        ...

    async def set_protocol(
        self, rse_id: int, protocol: RseProtocol, *, remove: bool = False
    ) -> None:
        """Set or remove the protocol of this scheme, host and port."""
        ...


class RseFactStore(Protocol):
    """Distances, limits and usage of storages."""

    async def distances(self) -> dict[tuple[int, int], int]:
        """Return the distances by (source, destination)."""
        ...

    async def set_distance(self, source_id: int, dest_id: int, distance: int | None) -> None:
        """Set a distance; none removes it."""
        ...

    async def usage(self, rse_id: int) -> list[dict[str, Any]]:
        """Return what sources say about space, and what the catalogue says."""
        ...

    async def set_usage(
        self,
        rse_id: int,
        source: str,
        numbers: Mapping[str, int | None],
        now: datetime,
    ) -> None:
        """Note what a source says: ``used_bytes free_bytes files``."""
        ...

    async def limits(self, rse_id: int) -> dict[str, float]:
        """Return the limits of a storage."""
        ...

    async def set_limit(self, rse_id: int, name: str, value: float | None) -> None:
        """Set a limit; none removes it."""
        ...


class ReplicaStore(Protocol):
    """Replicas of files."""

    async def register(
        self,
        rse_id: int,
        files: Mapping[int, tuple[int | None, str | None]],
        owner: Owner,
        state: ReplicaState,
        now: datetime,
    ) -> set[int]:
        """Note files (number: size and kept path) at a storage; what is there and fine stays.

        Returns the numbers of those whose state this changed to `state`.
        """
        ...

    def each(
        self,
        root_ids: Collection[int],
        rse_ids: Collection[int] | None,
        states: Collection[ReplicaState] | None,
    ) -> AsyncIterator[ReplicaRow]:
        """Give all files at or below the roots with their replicas, file by file."""
        ...

    async def at(self, rse_id: int, did_ids: Collection[int]) -> dict[int, ReplicaState]:
        """Return the states of replicas at one storage."""
        ...

    async def set_state(
        self, rse_id: int, did_ids: Collection[int], state: ReplicaState, now: datetime
    ) -> set[int]:
        """Set the state of replicas; returns the numbers of those that this changed."""
        ...

    async def remove(self, rse_id: int, did_ids: Collection[int]) -> None:
        """Forget replicas."""
        ...

    async def summaries(self, dataset_ids: Sequence[int]) -> list[ReplicaSummary]:
        """Return how much of each dataset each storage holds, where it holds anything."""
        ...


class ReplicaCareStore(Protocol):
    """What spoke against replicas, and when they may go."""

    async def note_bad(
        self,
        rse_id: int,
        did_ids: Collection[int],
        state: str,
        reason: str,
        account: str,
        now: datetime,
    ) -> None:
        """Note that replicas were declared ``BAD`` or ``SUSPICIOUS``, by whom and why."""
        ...

    async def bad(self, rse_ids: Collection[int] | None, state: str) -> list[dict[str, Any]]:
        """Return what was declared, newest first."""
        ...

    async def locked(self, rse_id: int, did_ids: Collection[int]) -> set[int]:
        """Return which of the replicas a rule needs."""
        ...

    async def set_tombstones(
        self, rse_id: int, did_ids: Collection[int], at: datetime | None
    ) -> None:
        """Set when replicas that no rule needs may be deleted; none: they may not."""
        ...

    async def datasets_at(self, rse_id: int) -> list[ReplicaSummary]:
        """Return the datasets of which a storage holds anything."""
        ...
