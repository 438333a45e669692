"""What is told to the inventory: values, one a change; pure."""

from dataclasses import dataclass

from twinfra.data.edge.model import Checksums, Version


@dataclass(frozen=True, slots=True)
class FilePut:
    """A file is at `path` with this content.

    Attributes:
        path: below ``/dav``.
        version: of the content.
        checksums: of the content.
        rewritten: it was written, even if with the same bytes; false: only its times may differ.
        cookie: of the move that brought it.
    """

    path: str
    version: Version
    checksums: Checksums
    rewritten: bool = True
    cookie: str | None = None


@dataclass(frozen=True, slots=True)
class FolderMade:
    """A directory is at `path`."""

    path: str
    cookie: str | None = None


@dataclass(frozen=True, slots=True)
class Removed:
    """Nothing is at `path` any more, nor below it."""

    path: str
    cookie: str | None = None


@dataclass(frozen=True, slots=True)
class Moved:
    """What was at `source`, with all below it, is at `target`, and what was there is gone."""

    source: str
    target: str
    cookie: str


Change = FilePut | FolderMade | Removed | Moved


def parent_of(path: str) -> str:
    """Return the path of the directory that holds `path`."""
    return path.rpartition("/")[0] or "/"


def below(path: str) -> tuple[str, str]:
    """Return the bounds, first and first beyond, of all paths below the directory `path`."""
    stem = path.rstrip("/")
    return stem + "/", stem + "0"  # "0" is what follows "/" in the order of code points
