"""Stores of rules and what they lead to: locks, requests, submissions."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from twinfra.data.datasets.model import Grouping
from twinfra.data.datasets.model.placement import Presence
from twinfra.data.datasets.ports.rows import (
    LockCounts,
    LockRow,
    RequestRow,
    RuleRow,
    SourceRow,
    TransferRow,
)


class RuleStore(Protocol):
    """Rules."""

    async def add(self, rule: RuleRow) -> bool:
        """Add a rule; false: the account has it already."""
        ...

    async def get(self, rule_id: str, *, lock: bool = False) -> RuleRow | None:
        """Return a rule, or none; `lock` keeps others from changing it meanwhile."""
        ...

    def each(self, filters: Mapping[str, Any]) -> AsyncIterator[RuleRow]:
        """Give the rules whose columns have the values of `filters`, newest first."""
        ...

    async def update(self, rule_id: str, values: Mapping[str, Any]) -> None:
        """Change columns of a rule."""
        ...

    async def remove(self, rule_id: str) -> None:
        """Remove a rule with its locks."""
        ...

    async def on(self, did_ids: Collection[int]) -> list[str]:
        """Return the rules on exactly these data identifiers."""
        ...


class PlacementStore(Protocol):
    """Turning a rule into locks, set by set."""

    async def stage(self, rule: RuleRow) -> set[int]:
        """Note the rule's files that lack locks, by cluster; returns the clusters.

        Locks of files that are no longer below the rule's data identifier are released first.
        """
        ...

    async def presence(
        self, rule_id: str, rse_ids: Collection[int]
    ) -> dict[int, dict[int, Presence]]:
        """Return by cluster and storage what storages have of the staged files."""
        ...

    async def held(self, rule_id: str, grouping: Grouping) -> dict[int, set[int]]:
        """Return by cluster the storages where this rule has locks on the cluster already."""
        ...

    async def place(self, rule_id: str, choices: Sequence[tuple[int, int]], now: datetime) -> None:
        """Make locks of the staged files at the chosen (cluster, storage), and clear the stage."""
        ...


class LockStore(Protocol):
    """Locks."""

    def each(
        self, *, rule_id: str | None = None, did_ids: Collection[int] | None = None
    ) -> AsyncIterator[LockRow]:
        """Give the locks of a rule, or on files."""
        ...

    async def set_state(
        self, rse_id: int, did_ids: Collection[int], state: str, reason: str | None = None
    ) -> set[str]:
        """Set all locks on replicas; returns the rules that this touched, which are held first."""
        ...

    async def counts(self, rule_ids: Collection[str]) -> dict[str, LockCounts]:
        """Return how many locks of each rule stand how."""
        ...

    async def reasons(self, rule_id: str, limit: int) -> list[str]:
        """Return distinct reasons of a rule's stuck locks."""
        ...

    async def released(self, rule_id: str) -> list[tuple[int, int]]:
        """Return (storage, file) of this rule's locks that no other rule has."""
        ...


class RequestStore(Protocol):
    """Wanted replicas on their way."""

    async def enqueue(self, rule_id: str, now: datetime) -> int:
        """Make requests, and replicas that are COPYING, for locks that nothing is done for yet."""
        ...

    async def due(self, rule_id: str, now: datetime, limit: int) -> list[RequestRow]:
        """Return requests of a rule that wait for nothing but to be submitted."""
        ...

    async def sources(
        self, request_ids: Collection[int], rse_ids: Collection[int]
    ) -> list[SourceRow]:
        """Return the available replicas at `rse_ids` that could fill requests."""
        ...

    async def set_state(
        self,
        request_ids: Collection[int],
        state: str,
        *,
        now: datetime,
        reason: str | None = None,
        next_try_at: datetime | None = None,
        failed: bool = False,
    ) -> None:
        """Set the state of requests; `failed` counts an attempt; their submission is left."""
        ...

    async def remove(self, request_ids: Collection[int]) -> None:
        """Forget requests."""
        ...

    async def next_try(self, rule_id: str) -> datetime | None:
        """Return when the next request of a rule is due."""
        ...


class RequestCareStore(Protocol):
    """What happens to requests from outside their own course."""

    async def note_failure(
        self, request_id: int, rse_id: int, *, excluded: bool, reason: str
    ) -> int:
        """Note that a source failed a request; returns how often it did."""
        ...

    async def failures(self, request_ids: Collection[int]) -> dict[int, list[tuple[int, str]]]:
        """Return by request (storage, reason) of each source that failed it."""
        ...

    async def revive(self, did_ids: Collection[int], now: datetime) -> set[str]:
        """Queue again what had no source for these files; returns the rules that this touched."""
        ...

    async def repair(self, rule_id: str, now: datetime) -> int:
        """Queue again all that a rule is stuck on, as if for the first time."""
        ...

    async def abandon(self, rule_id: str, now: datetime) -> tuple[set[str], set[str]]:
        """Let go of a removed rule's requests.

        Those that another rule needs are handed to it; those under way are marked, so that their
        submission can be cancelled; others go. Returns the submissions and the rules concerned.
        """
        ...

    async def satisfied(self, rse_id: int, did_ids: Collection[int]) -> None:
        """Forget queued requests for replicas that came to be otherwise."""
        ...


class TransferStore(Protocol):
    """Submissions to the transfer service."""

    async def add(self, transfer: TransferRow, request_ids: Sequence[int], now: datetime) -> None:
        """Note the intent to submit these requests as one job."""
        ...

    async def get(self, transfer_id: str) -> TransferRow | None:
        """Return a submission, or none."""
        ...

    async def requests(self, transfer_id: str) -> list[RequestRow]:
        """Return the requests that a submission still answers for."""
        ...

    async def set_job(self, transfer_id: str, job_id: str, now: datetime) -> None:
        """Note the job that a submission became."""
        ...

    async def by_job(self, job_id: str) -> str | None:
        """Return the submission that became this job, or none."""
        ...

    async def remove(self, transfer_id: str) -> None:
        """Forget a submission whose requests are all settled."""
        ...
