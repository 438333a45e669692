"""What can go wrong with files, each with the ``errno`` that a POSIX call would give.

Leaves of the one error tree; every storage maps its own words to these, and nothing else.
"""

import errno
from typing import ClassVar

from twinfra.core.errors import (
    Conflict,
    InsufficientCapacity,
    InsufficientScope,
    InvalidRequest,
    NotFound,
    TwinfraError,
    Unavailable,
    UpstreamFault,
)


class FileMissing(NotFound):
    """There is no such file or directory."""

    errno: ClassVar[int] = errno.ENOENT


class FileExists(Conflict):
    """Something is there already and was not to be replaced."""

    code, title = "file-exists", "It exists already"
    errno: ClassVar[int] = errno.EEXIST


class NotDirectory(Conflict):
    """A part of the path is a file."""

    code, title = "not-a-directory", "It is not a directory"
    errno: ClassVar[int] = errno.ENOTDIR


class IsDirectory(Conflict):
    """A directory stands where a file is meant."""

    code, title = "is-a-directory", "It is a directory"
    errno: ClassVar[int] = errno.EISDIR


class AccessDenied(InsufficientScope):
    """The file system or the token forbids it."""

    errno: ClassVar[int] = errno.EACCES


class NoRoom(InsufficientCapacity):
    """The disk or the quota is full."""

    errno: ClassVar[int] = errno.ENOSPC


class ChecksumMismatch(Conflict):
    """The bytes are not those that the checksum promised; nothing is left of them."""

    code, title = "checksum-mismatch", "The checksums differ"
    errno: ClassVar[int] = errno.EIO


_BY_ERRNO: dict[int, type[TwinfraError]] = {
    errno.ENOENT: FileMissing,
    errno.EEXIST: FileExists,
    errno.ENOTEMPTY: FileExists,
    errno.ENOTDIR: NotDirectory,
    errno.EISDIR: IsDirectory,
    errno.EACCES: AccessDenied,
    errno.EPERM: AccessDenied,
    errno.EROFS: AccessDenied,
    errno.ELOOP: AccessDenied,
    errno.ENOSPC: NoRoom,
    errno.EDQUOT: NoRoom,
    errno.EFBIG: NoRoom,
    errno.ENAMETOOLONG: InvalidRequest,
    errno.EINVAL: InvalidRequest,
    errno.EMFILE: Unavailable,
    errno.ENFILE: Unavailable,
}


def error_from_os(error: OSError, path: str) -> TwinfraError:
    """Return the error of the tree that fits `error` of the operating system, about `path`."""
    leaf = _BY_ERRNO.get(error.errno or 0, UpstreamFault)
    return leaf(f"{path}: {error.strerror or type(error).__name__}")
