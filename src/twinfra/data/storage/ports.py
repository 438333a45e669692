"""The port `Storage`: one POSIX-like way to reach files, whatever protocol holds them.

Six methods are required; what only some storages can do is a protocol of its own, announced in
``capabilities``. Adapters are single files (``local``, ``webdav``); ``client`` picks one by URL.
The contract is tested by ``twinfra.testkit.storage_contract``.
"""

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from typing import Protocol, runtime_checkable

from twinfra.data.storage.model import Entry

Body = bytes | AsyncIterable[bytes]
MAKES_DIRECTORIES = "mkdir_rec"
TELLS_CHECKSUMS = "checksum"


class Storage(Protocol):
    """Files of one storage; paths are absolute within it (``/a/b``), decoded.

    Every method raises errors of ``twinfra.data.storage.errors`` or of the core tree, and nothing
    else; `Unavailable` and `UpstreamTimeout` when the storage does not answer.
    """

    @property
    def capabilities(self) -> frozenset[str]:
        """What it can do besides: ``mkdir_rec``, ``checksum``."""
        ...

    async def stat(self, path: str) -> Entry:
        """Return what is at `path`.

        Raises:
            FileMissing: nothing is there.
            AccessDenied: it may not be known.
        """
        ...

    def listdir(self, path: str) -> AsyncIterator[Entry]:
        """Give the direct children of the directory `path`, in no order.

        Raises:
            FileMissing: nothing is there.
            NotDirectory: it is a file.
        """
        ...

    def read(
        self, path: str, *, offset_bytes: int = 0, length_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        """Give the bytes of the file `path`, in blocks of the storage's choice.

        Args:
            path: of a file.
            offset_bytes: where to begin; beyond the end gives nothing.
            length_bytes: at most so many; default: to the end.

        Raises:
            FileMissing: nothing is there.
            IsDirectory: it is a directory.
            UpstreamFault: the storage broke off; the blocks so far are not the file.
        """
        ...

    async def write(
        self,
        path: str,
        body: Body,
        *,
        size_bytes: int | None = None,
        checksums: Mapping[str, str] | None = None,
        overwrite: bool = True,
    ) -> Entry:
        """Make the file `path` of `body`; missing parents are made too.

        On return the whole file is visible; before, and if this raises, what was there before is.
        Of two writers of one path one wins whole.

        Args:
            path: of the file.
            body: its bytes.
            size_bytes: how many there will be, where known; some storages need it for big files.
            checksums: algorithm (``adler32``, ``md5``, ``sha256``) to hexadecimal; what arrives is
                compared with them.
            overwrite: replace a file that is there.

        Raises:
            FileExists: a file is there and is not to be replaced.
            IsDirectory: a directory is there.
            NotDirectory: a parent is a file.
            ChecksumMismatch: the bytes are others; no file was made.
            NoRoom: there is none.
        """
        ...

    async def rename(self, source: str, target: str, *, overwrite: bool = True) -> None:
        """Give the file or directory `source` the path `target`; its parent must be there.

        Raises:
            FileMissing: there is no source, or no parent of the target.
            FileExists: something is at the target and is not to be replaced.
        """
        ...

    async def unlink(self, path: str) -> None:
        """Remove the file `path`.

        Raises:
            FileMissing: nothing is there.
            IsDirectory: it is a directory.
        """
        ...


@runtime_checkable
class MakesDirectories(Protocol):
    """Capability ``mkdir_rec``."""

    async def mkdir_rec(self, path: str) -> None:
        """Make the directory `path` and its missing parents; one that is there is fine.

        Raises:
            NotDirectory: a file is in the way.
        """
        ...


@runtime_checkable
class TellsChecksums(Protocol):
    """Capability ``checksum``."""

    async def checksum(self, path: str, algorithm: str) -> str:
        """Return the checksum of the file `path`, lower-case hexadecimal.

        Args:
            path: of a file.
            algorithm: ``adler32``, ``md5`` or ``sha256``.

        Raises:
            InvalidRequest: the storage does not know the algorithm.
            FileMissing: nothing is there.
        """
        ...
