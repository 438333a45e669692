"""What a copy asks of the world outside: storages, and which of them may be called.

Adapters: `WebdavStorage` (``webdav.py``), `CataloguePeers` (``peers.py``).
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from twinfra.data.transfers.model.faults import Scope

Progress = Callable[[int], Awaitable[None]]


@dataclass(frozen=True)
class FileFacts:
    """What a storage says of a file."""

    size_bytes: int | None
    digests: Mapping[str, str]
    """Hexadecimal values by algorithm; only what was asked for and is known there."""


@dataclass(frozen=True)
class CopyOrder:
    """One third-party copy: the destination pulls from the source."""

    source_url: str
    dest_url: str
    source_token: str | None
    dest_token: str | None
    overwrite: bool
    limit_s: float
    client_info: str
    """Names job, file and attempt to the storages' logs (``ClientInfo`` header)."""


class Storage(Protocol):
    """Storages that speak WebDAV with third-party copy."""

    async def stat(
        self, url: str, token: str | None, algorithm: str, *, scope: Scope
    ) -> FileFacts | None:
        """Return what the storage says of `url`, none if there is nothing.

        Raises:
            TransferFault: of `scope`, for any other answer.
        """
        ...

    async def copy(self, order: CopyOrder, progress: Progress) -> None:
        """Have the destination pull the file; returns when it stands there whole.

        `progress` is told the bytes so far at each marker. When this is cancelled or raises, the
        request is dropped, at which a storage stops and leaves nothing behind.

        Raises:
            TransferFault: it did not come about.
        """
        ...

    async def delete(self, url: str, token: str | None) -> None:
        """Remove a file; one that is not there is fine.

        Raises:
            TransferFault: it could not be removed.
        """
        ...


class Peers(Protocol):
    """Which storages may be called, and whose they are."""

    async def allowed(self, url: str) -> bool | None:
        """Say whether the URL's host and port are registered; none if that cannot be known now."""
        ...

    def site_of(self, url: str) -> str | None:
        """Return the site whose storage this is, as far as known."""
        ...
