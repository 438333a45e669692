"""What the controllers need from others."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Protocol

from twinfra.compute.interlink.client import (
    CreateAnswer,
    Ping,
    PodCreateRequest,
    PodEvent,
    PodReport,
)

Json = dict[str, Any]


class Remote(Protocol):
    """A site behind an interLink API; `InterlinkClient` is one and says what each call does."""

    async def create(
        self, request: PodCreateRequest, *, token: str | None = None, pod_token: str = ""
    ) -> CreateAnswer:
        """Have a pod run."""
        ...

    async def delete(self, pod: Json, *, token: str | None = None) -> None:
        """End and forget a pod."""
        ...

    async def status(self, pods: Sequence[Json], *, token: str | None = None) -> list[PodReport]:
        """Return how pods are; unknown ones are absent."""
        ...

    async def ping(self, *, token: str | None = None) -> Ping:
        """Return what the site says of itself."""
        ...

    def events(
        self, *, after: str | None = None, token: str | None = None
    ) -> AsyncIterator[PodEvent]:
        """Yield changes for ever; one without a report: anything may have changed."""
        ...


class Sizes(Protocol):
    """Knows how big sites are, besides what they say themselves."""

    async def size(self, site: str) -> Ping:
        """Return what is known of a site's size; within a bounded time, and without an error."""
        ...


class Door(Protocol):
    """The kubelet's HTTPS API; package ``door`` has it.

    `port` is 0 until it is open; nodes publish it as ``daemonEndpoints.kubeletEndpoint.Port``.
    """

    @property
    def port(self) -> int:
        """Where it listens."""
        ...

    async def close(self) -> None:
        """Listen no more; sessions under way end."""
        ...
