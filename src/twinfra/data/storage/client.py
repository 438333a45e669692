"""Any storage by its URL: the door to this room for commands, plug-ins and other services.

``async with storage_at(url, …) as (storage, path)`` gives the adapter for the URL's scheme
and the path within it. Further schemes come from the entry points ``twinfra.storages``; a broken
one stops with its name.
"""

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from twinfra.core.errors import InternalError, InvalidRequest
from twinfra.core.http.client import TokenSource
from twinfra.data.storage.errors import (
    AccessDenied,
    ChecksumMismatch,
    FileExists,
    FileMissing,
    IsDirectory,
    NoRoom,
    NotDirectory,
)
from twinfra.data.storage.local import LocalStorage
from twinfra.data.storage.model import Entry
from twinfra.data.storage.ports import MakesDirectories, Storage, TellsChecksums
from twinfra.data.storage.webdav import WebDavStorage

__all__ = [
    "AccessDenied",
    "ChecksumMismatch",
    "Credentials",
    "Entry",
    "FileExists",
    "FileMissing",
    "IsDirectory",
    "LocalStorage",
    "MakesDirectories",
    "NoRoom",
    "NotDirectory",
    "Storage",
    "TellsChecksums",
    "WebDavStorage",
    "open_storage",
    "schemes",
    "storage_at",
]


@dataclass(frozen=True)
class Credentials:
    """What a storage may need to let us in.

    Attributes:
        tls: trusts the storage's certificate.
        token: gives a bearer token.
    """

    tls: ssl.SSLContext | None = None
    token: TokenSource | None = None


Factory = Callable[[SplitResult, Credentials], tuple[Storage, str]]


def _local(url: SplitResult, _credentials: Credentials) -> tuple[Storage, str]:
    if url.netloc not in {"", "localhost"}:
        raise InvalidRequest("a file:// URL names no other host")
    return LocalStorage(Path("/")), unquote(url.path) or "/"


def _webdav(url: SplitResult, credentials: Credentials) -> tuple[Storage, str]:
    if url.query or url.fragment or url.username is not None:
        raise InvalidRequest("a storage URL has no query, fragment or user")
    scheme = {"davs": "https", "dav": "http"}.get(url.scheme, url.scheme)
    base = f"{scheme}://{url.netloc}"
    return WebDavStorage(base, tls=credentials.tls, token=credentials.token), (
        unquote(url.path) or "/"
    )


OURS: Mapping[str, Factory] = {
    "file": _local,
    "https": _webdav,
    "http": _webdav,
    "davs": _webdav,
    "dav": _webdav,
}


@cache
def schemes() -> Mapping[str, Factory]:
    """Return the adapters by URL scheme: ours and those of installed packages.

    Raises:
        InternalError: an installed one cannot be loaded.
    """
    found = dict(OURS)
    for point in entry_points(group="twinfra.storages"):
        try:
            found[point.name] = point.load()
        except Exception as error:  # a broken plug-in must stop with its name, whatever breaks it
            raise InternalError(
                f"the storage plug-in {point.name} ({point.value}) fails"
            ) from error
    return found


def open_storage(url: str, credentials: Credentials | None = None) -> tuple[Storage, str]:
    """Return the storage of `url` and the path in it; a plain absolute path is a local file.

    The storage may hold connections: `storage_at` closes them.

    Raises:
        InvalidRequest: the URL is of no known scheme, or not of its form.
    """
    parts = urlsplit(url)
    if not parts.scheme:
        parts = urlsplit(Path(url).absolute().as_uri())
    factory = schemes().get(parts.scheme)
    if factory is None:
        raise InvalidRequest(f"no storage speaks {parts.scheme}://; known: {', '.join(schemes())}")
    return factory(parts, credentials or Credentials())


@asynccontextmanager
async def storage_at(
    url: str, credentials: Credentials | None = None
) -> AsyncIterator[tuple[Storage, str]]:
    """Give what `open_storage` returns, and close its connections at the end."""
    storage, path = open_storage(url, credentials)
    try:
        yield storage, path
    finally:
        if isinstance(storage, WebDavStorage):
            await storage.close()
