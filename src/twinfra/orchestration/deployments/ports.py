"""What the orchestrator needs of others: permits, ranking, data, webhooks, traffic, callbacks.

``neighbours`` implements these on the typed clients, tests with fakes. The driver that runs things
is a port of its own: ``orchestration.infrastructure.ports``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from twinfra.orchestration.infrastructure.model import Target

JSON = Mapping[str, Any]


@dataclass(frozen=True)
class Ranked:
    """What ranking answered: sites best first, and the whole answer as it is shown."""

    sites: tuple[str, ...]
    body: JSON


@dataclass(frozen=True)
class RuleState:
    """How far a rule is: ``OK``, ``REPLICATING``, ``STUCK`` or ``SUSPENDED``, and why."""

    state: str
    reason: str = ""


class Permits(Protocol):
    """Lasting permissions of people."""

    async def obtain(self, token: str) -> JSON:
        """Return the permission to act for the person of `token`, to be stored.

        Raises:
            InsufficientScope: the person's token does not allow that.
        """
        ...

    async def token(self, permit: JSON, audience: str, scope: str = "") -> str:
        """Return a token that acts for the person at `audience`.

        Raises:
            Unauthenticated: the permission ended.
        """
        ...

    async def revoke(self, permit: JSON) -> None:
        """End the permission; ending it twice is fine."""
        ...


class Ranking(Protocol):
    """Which site is best for a workload, and why."""

    async def rank(
        self,
        requirements: JSON,
        inputs: Sequence[str],
        *,
        group: str,
        deployment: str,
        exclude: Sequence[str] = (),
    ) -> Ranked:
        """Return all candidates, best first, and what excluded the others.

        Raises:
            InvalidRequest: an input does not exist.
            Unavailable: ranking does not answer; repeat it.
        """
        ...

    async def target(self, site: str) -> Target:
        """Return how to reach `site`.

        Raises:
            NotFound: the catalogue does not know it (any more).
        """
        ...


class Data(Protocol):
    """Datasets, on behalf of a person."""

    async def exists(self, did: str, *, token: str) -> bool:
        """Say whether the federation knows `did`; `token` is what the person sent us."""
        ...

    async def pin(self, did: str, permit: JSON) -> str:
        """Return the exact dataset that `did` stands for now: itself, or its latest version.

        Raises:
            NotFound: there is no such data.
        """
        ...

    async def keep(self, did: str, rse: str, permit: JSON, *, lifetime_s: float, meta: JSON) -> str:
        """Ask for a copy of `did` at `rse`; return the id of the rule, theirs that is there or new.

        Guarantees: asking again gives the same rule, its lifetime begun anew.

        Raises:
            NotFound: there is no such data. InvalidRequest, Conflict: the rule makes no sense.
        """
        ...

    async def rule(self, rule_id: str) -> RuleState | None:
        """Return how a rule stands, or none if it is there no more."""
        ...

    async def release(self, rule_id: str, permit: JSON) -> None:
        """Let go of a rule; one that is gone is fine."""
        ...


class Webhooks(Protocol):
    """Subscriptions that deliver events to services."""

    async def subscribe(
        self, permit: JSON, *, name: str, types: Sequence[str], condition: JSON, url: str,
        group: str,
    ) -> str:  # fmt: skip
        """Have events delivered to `url`; return the subscription's id, the same if repeated."""
        ...

    async def unsubscribe(self, permit: JSON, subscription: str) -> None:
        """End a subscription; one that is gone is fine."""
        ...


class Traffic(Protocol):
    """Requests on their way to services."""

    async def ready(self, attempt: str) -> bool:
        """Say whether the service of this attempt answers on its readiness path, or port."""
        ...

    def in_flight(self, attempt: str) -> int:
        """Return how many requests this process has under way there."""
        ...

    def switch(self, node_id: str) -> None:
        """Forget where requests of this service go; the next one looks it up."""
        ...

    async def drop(self, attempt: str) -> None:
        """Close all connections to this attempt."""
        ...


class Callbacks(Protocol):
    """Telling somebody's URL."""

    async def send(self, url: str, body: JSON, *, number: str) -> None:
        """POST `body`, signed.

        Raises:
            InvalidRequest: the address may not be called, or its answer is final (4xx).
            Unavailable: it did not take it; repeat it.
        """
        ...
