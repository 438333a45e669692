"""Data identifiers as they are made and seen: new ones, files to register, what is known of one.

Pure values shared by the service and its typed client.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from twinfra.data.datasets.errors import InvalidObject
from twinfra.data.datasets.model.names import Did
from twinfra.data.datasets.model.states import DidType, ReplicaState

_ADLER32 = re.compile(r"[0-9a-f]{8}")
_MD5 = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class NewCollection:
    """A dataset or container to be made."""

    did: Did
    type: DidType = DidType.DATASET
    meta: Mapping[str, Any] = field(default_factory=dict)
    monotonic: bool = False
    lifetime_s: float | None = None


@dataclass(frozen=True, slots=True)
class FileSpec:
    """A file to be registered at an RSE: what it is called, how large it is, what proves it whole.

    Without ``pfn`` it stands where the RSE's naming puts it: ``<prefix><scope>/<name>``.
    """

    did: Did
    size_bytes: int
    adler32: str | None = None
    md5: str | None = None
    pfn: str | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)
    state: ReplicaState = ReplicaState.AVAILABLE

    def checked(self) -> "FileSpec":
        """Return this file with its checksums in their one spelling.

        Raises:
            InvalidObject: the name, size or a checksum breaks the schema.
        """
        self.did.checked()
        if self.size_bytes < 0:
            raise InvalidObject(f"{self.did}: a size of {self.size_bytes} bytes")
        adler32 = self.adler32.lower().rjust(8, "0") if self.adler32 else None
        md5 = self.md5.lower() if self.md5 else None
        if adler32 is not None and not _ADLER32.fullmatch(adler32):
            raise InvalidObject(f"{self.did}: adler32 {self.adler32!r} is not 8 hexadecimal digits")
        if md5 is not None and not _MD5.fullmatch(md5):
            raise InvalidObject(f"{self.did}: md5 {self.md5!r} is not 32 hexadecimal digits")
        return FileSpec(
            self.did, self.size_bytes, adler32, md5, self.pfn, dict(self.meta), self.state
        )


@dataclass(frozen=True, slots=True)
class DidInfo:
    """What is known of a data identifier; sizes of collections are of all files below."""

    did: Did
    type: DidType
    account: str
    is_open: bool | None = None
    monotonic: bool = False
    size_bytes: int | None = None
    length: int | None = None
    adler32: str | None = None
    md5: str | None = None
    expires_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class FileInfo:
    """A file below a collection."""

    did: Did
    size_bytes: int | None
    adler32: str | None
    md5: str | None = None


@dataclass(frozen=True, slots=True)
class ReplicaInfo:
    """A file with where its copies are: by RSE name the PFNs, best first, and each copy's state."""

    did: Did
    size_bytes: int | None
    adler32: str | None
    md5: str | None
    pfns: Mapping[str, Sequence[str]]
    states: Mapping[str, ReplicaState]

    def at(self, rse: str) -> str | None:
        """Return the PFN of the available copy at `rse`, or none."""
        if self.states.get(rse) is not ReplicaState.AVAILABLE:
            return None
        return next(iter(self.pfns.get(rse, ())), None)


@dataclass(frozen=True, slots=True)
class DatasetReplica:
    """How much of a dataset an RSE holds."""

    did: Did
    rse: str
    length: int
    available_length: int
    size_bytes: int
    available_bytes: int

    @property
    def complete(self) -> bool:
        """Whether every file is there."""
        return self.available_length == self.length
