"""adler32, MD5 and SHA-256 of a byte stream in one pass, and their note in an extended attribute.

The note holds the version it was made of; a note that does not fit is no note.
"""

import hashlib
import os
from collections.abc import Callable, Mapping

from isal import isal_zlib

from twinfra.data.edge.model import Checksums, Version

ATTRIBUTE = "user.twinfra.checksums"
READ_BYTES = 1024 * 1024


class Summer:
    """Adds blocks up to the three checksums; no lock: one block after the other."""

    def __init__(self) -> None:
        self._adler32 = 1
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha256 = hashlib.sha256()

    def fast(self, block: memoryview | bytes) -> None:
        """Add `block` to adler32 and SHA-256."""
        self._adler32 = isal_zlib.adler32(block, self._adler32)
        self._sha256.update(block)

    def slow(self, block: memoryview | bytes) -> None:
        """Add `block` to MD5, which takes as long as all the rest."""
        self._md5.update(block)

    def add(self, block: memoryview | bytes) -> None:
        """Add `block` to all."""
        self.fast(block)
        self.slow(block)

    def checksums(self) -> Checksums:
        """Return the checksums of what was added so far."""
        return Checksums(
            adler32=f"{self._adler32:08x}",
            md5=self._md5.hexdigest(),
            sha256=self._sha256.hexdigest(),
        )


def as_mapping(checksums: Checksums) -> dict[str, str]:
    """Return `checksums` by algorithm, as ``data.storage.digest_fields`` names them."""
    return {
        "adler32": checksums.adler32,
        "md5": checksums.md5,
        "sha256": checksums.sha256,
    }


def version_of(found: os.stat_result) -> Version:
    """Return what tells this content of a file from the next."""
    return Version(found.st_ino, found.st_size, found.st_mtime_ns)


def sum_file(descriptor: int, stopped: Callable[[], bool] = lambda: False) -> Checksums | None:
    """Return the checksums of an open file; none if it changed meanwhile, or if `stopped` says so.

    Reads by itself, block by block, and leaves no page of it mapped.
    """
    before = version_of(os.fstat(descriptor))
    summer, offset = Summer(), 0
    while block := os.pread(descriptor, READ_BYTES, offset):
        if stopped():
            return None
        summer.add(block)
        offset += len(block)
    after = version_of(os.fstat(descriptor))
    return summer.checksums() if before == after and offset == after.size_bytes else None


def write_note(descriptor: int, version: Version, checksums: Checksums) -> None:
    """Note `checksums` at the file, where its file system and owner allow it."""
    text = (
        f"1:{version.inode}:{version.size_bytes}:{version.mtime_ns}"
        f":{checksums.adler32}:{checksums.md5}:{checksums.sha256}"
    )
    try:
        os.setxattr(descriptor, ATTRIBUTE, text.encode())
    except OSError:
        return  # a file system without extended attributes: the inventory has them too


def read_note(descriptor: int, version: Version) -> Checksums | None:
    """Return the noted checksums if they were made of `version`."""
    try:
        fields = os.getxattr(descriptor, ATTRIBUTE).decode("ascii").split(":")
    except (OSError, UnicodeDecodeError):
        return None
    fits = fields[:4] == ["1", str(version.inode), str(version.size_bytes), str(version.mtime_ns)]
    return Checksums(*fields[4:]) if fits and len(fields) == 7 else None


def differing(promised: Mapping[str, str], actual: Checksums) -> str | None:
    """Return the first algorithm whose promised value is not the actual one, or none."""
    have = as_mapping(actual)
    for name, value in promised.items():
        if have[name].lstrip("0") != value.lower().lstrip("0"):
            return name
    return None
