"""Neighbours: who copies bytes, who gives tokens, who keeps accounts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

Delegation = Mapping[str, Any]
"""A person's lasting permission, as JSON; readable only by the adapter that made it."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One file to be copied: sources in the order to try, and what proves the copy whole."""

    sources: tuple[str, ...]
    source_tokens: tuple[str, ...]
    destination: str
    destination_token: str
    size_bytes: int | None
    adler32: str | None
    md5: str | None
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it is handed over; the same `sid` is one job, however often it is sent."""

    sid: str
    copies: Sequence[Copy]
    metadata: Mapping[str, Any]
    activity: str
    priority: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """How one source of one file fared."""

    source: str
    destination: str
    finished: bool
    failed: bool
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class JobReport:
    """How a job stands: attempts by the request that they belong to."""

    known: bool
    final: bool
    attempts: Mapping[str, Sequence[Attempt]] = field(default_factory=dict)
    reason: str | None = None


class Transfers(Protocol):
    """The transfer service, which is called as a service; whom a job is for, its metadata says."""

    async def submit(self, job: Job) -> str:
        """Hand a job over and return its id; one that was handed over already is found again.

        Raises:
            InvalidRequest: it breaks a rule of the service; sending it again does not help.
            Conflict: another job writes one of the destinations; send it later.
            Unavailable: the service is away; send it again.
        """
        ...

    async def report(self, job_id: str) -> JobReport:
        """Return how a job stands; one that the service does not know is not `known`."""
        ...

    async def cancel(self, job_id: str) -> None:
        """Cancel a job; one that ended or is not known is left alone."""
        ...


class Tokens(Protocol):
    """Rights of people, held over time."""

    async def delegate(self, token: str) -> Delegation:
        """Return a lasting permission of the person of `token`."""
        ...

    async def for_storage(self, delegation: Delegation | None, audience: str, scope: str) -> str:
        """Return a token for a storage on behalf of a person; of none: in our own name."""
        ...

    async def revoke(self, delegation: Delegation) -> None:
        """End a permission; one that ended already is left alone."""
        ...


class Accounting(Protocol):
    """The keeper of accounts."""

    async def post(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Hand over usage records; one that was handed over already counts once."""
        ...
