"""What the inventory knows of files and how it tells it; pure values.

The JSON of a storage event (`StorageEvent.to_json`) is what consumers of the event stream get
under the key ``storage`` of an ``inotify`` frame. No I/O here: ``inventory`` keeps these values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, cast

from twinfra.core.time import parse_rfc3339, rfc3339

Change = Literal["created", "modified", "deleted"]
EVENT_TYPE = "org.twinfra.storage."


@dataclass(frozen=True, slots=True)
class Checksums:
    """The checksums of one file's bytes, lower-case hexadecimal; made in one pass."""

    adler32: str
    md5: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Version:
    """What tells one content of a file from the next: a checksum is trusted only while it fits."""

    inode: int
    size_bytes: int
    mtime_ns: int

    @property
    def etag(self) -> str:
        """A strong validator (RFC 9110 §8.8.3)."""
        return f'"{self.inode:x}-{self.size_bytes:x}-{self.mtime_ns:x}"'

    @property
    def modified_at(self) -> datetime:
        """When the content was last changed, to the microsecond."""
        return moment_of(self.mtime_ns)


@dataclass(frozen=True, slots=True)
class Known:
    """A file or directory as the inventory has it.

    Attributes:
        path: below ``/dav``, with a leading slash, decoded.
        version: of a file; none for a directory.
        checksums: of a file's content at that version.
    """

    path: str
    version: Version | None = None
    checksums: Checksums | None = None

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.version is None


@dataclass(frozen=True, slots=True)
class StorageEvent:
    """One change of one file, told once.

    Attributes:
        id: unique in the federation and stable: the message id of everything made from it.
        sequence: grows with each event of this edge, never used twice.
        change: what happened.
        site: where.
        rse: the site's storage element.
        path: below ``/dav``, leading slash.
        at: when the edge took notice.
        size_bytes: of the file; of the last known content if deleted.
        checksums: as `size_bytes`.
        modified_at: the file's modification time.
        cookie: shared by the two halves of a move (deleted here, created there).
    """

    id: str
    sequence: int
    change: Change
    site: str
    rse: str
    path: str
    at: datetime
    size_bytes: int | None = None
    checksums: Checksums | None = None
    modified_at: datetime | None = None
    cookie: str | None = None

    @property
    def type(self) -> str:
        """The CloudEvents type."""
        return EVENT_TYPE + self.change

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form, as consumers get it."""
        body: dict[str, Any] = {
            "id": self.id,
            "sequence": self.sequence,
            "type": self.type,
            "time": rfc3339(self.at),
            "site": self.site,
            "rse": self.rse,
            "path": self.path,
            "size_bytes": self.size_bytes,
            "adler32": self.checksums.adler32 if self.checksums else None,
            "md5": self.checksums.md5 if self.checksums else None,
            "sha256": self.checksums.sha256 if self.checksums else None,
            "mtime": rfc3339(self.modified_at) if self.modified_at else None,
        }
        if self.cookie is not None:
            body["cookie"] = self.cookie
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "StorageEvent":
        """Read the JSON form.

        Raises:
            KeyError, ValueError: a field is missing or of the wrong form.
        """
        change = str(body["type"]).removeprefix(EVENT_TYPE)
        if change not in {"created", "modified", "deleted"}:
            raise ValueError(f"{body['type']!r} is no storage event")
        adler32, md5, sha256 = (body.get(key) for key in ("adler32", "md5", "sha256"))
        mtime = body.get("mtime")
        return cls(
            id=body["id"],
            sequence=int(body["sequence"]),
            change=cast("Change", change),
            site=body["site"],
            rse=body["rse"],
            path=body["path"],
            at=parse_rfc3339(body["time"]),
            size_bytes=body.get("size_bytes"),
            checksums=Checksums(adler32, md5, sha256) if adler32 and md5 and sha256 else None,
            modified_at=parse_rfc3339(mtime) if mtime else None,
            cookie=body.get("cookie"),
        )


def moment_of(nanoseconds: int) -> datetime:
    """Return the aware moment of `nanoseconds` since 1970, cut to the microsecond."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
