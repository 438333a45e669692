"""What a storage tells about a file; pure values and the rules of paths and checksums."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from twinfra.core.errors import InvalidRequest

Kind = Literal["file", "directory"]
ALGORITHMS = ("adler32", "md5", "sha256")


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or directory.

    Attributes:
        path: within the storage, with a leading slash and none at its end.
        kind: what it is.
        size_bytes: of a file; 0 for a directory.
        modified_at: as far as the storage tells.
        checksums: that the storage happens to tell: algorithm to lower-case hexadecimal.
    """

    path: str
    kind: Kind = "file"
    size_bytes: int = 0
    modified_at: datetime | None = None
    checksums: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The last component of the path."""
        return self.path.rpartition("/")[2]

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.kind == "directory"


def clean(path: str) -> str:
    """Return `path` absolute, without a slash at its end.

    Raises:
        InvalidRequest: it is relative, climbs by ``..`` or holds a NUL.
    """
    if not path.startswith("/") or "\0" in path:
        raise InvalidRequest(f"{path!r} is no absolute path")
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts:
        raise InvalidRequest(f"{path!r} climbs out by '..'")
    return "/" + "/".join(parts)


def same_checksum(algorithm: str, one: str, other: str) -> bool:
    """Say whether two hexadecimal checksums agree; case and an adler32's leading zeros are free."""
    if algorithm == "adler32":
        return one.lower().lstrip("0") == other.lower().lstrip("0")
    return one.lower() == other.lower()
