"""What delivery and triggers ask of the world outside.

Adapters: `WebhookSink` (``webhook.py``), `DatasetsRegistrar` (``registrar.py``), ``directory.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from twinfra.core.bus import Event

Grant = Mapping[str, Any] | None
"""A creator's lasting permission, as JSON; none for services, which act for themselves."""


@dataclass(frozen=True)
class Taken:
    """A sink took the event; it may have answered with one of its own."""

    answer: Event | None = None
    note: str | None = None
    """Why its answer was not taken, if it was not."""


@dataclass(frozen=True)
class Gone:
    """A sink wants nothing any more (410)."""


@dataclass(frozen=True)
class Refused:
    """A sink did not take the event; trying again may help."""

    reason: str
    retry_after_s: float | None = None


class Sink(Protocol):
    """Where events of a subscription go."""

    async def deliver(
        self, event: Event, url: str, secret: str, grant: Grant
    ) -> Taken | Gone | Refused:
        """Send `event` once; never raises for what a sink does."""
        ...


@dataclass(frozen=True)
class NewFile:
    """A file that a trigger registers."""

    site: str
    rse: str
    path: str
    size_bytes: int | None
    adler32: str | None
    md5: str | None


class Registrar(Protocol):
    """Registers files in the datasets service on behalf of a trigger's creator."""

    async def register(self, file: NewFile, dataset: str, name: str, grant: Grant) -> None:
        """Register `file` as ``<scope>:<name>`` and put it into `dataset`, made when missing.

        Doing it again changes nothing.

        Raises:
            TwinfraError: a retryable one, or one that will be the same next time.
        """
        ...
