"""The folder that a site serves, reached component by component from its open root.

No component is ever followed if it is a symbolic link, so nothing outside the root can be named,
whoever plants links inside. All of this blocks and is called in threads; it keeps no list of files.
"""

import errno
import fcntl
import os
import stat as stat_bits
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Never

from twinfra.data.edge.files.checksums import version_of
from twinfra.data.edge.model import Version
from twinfra.data.edge.paths import OWN

INCOMING = "incoming"
FOLDER_MODE = 0o755
FILE_MODE = 0o644
_WALK = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
Parts = tuple[str, ...]
Sync = Literal["none", "file", "full"]


@dataclass(frozen=True, slots=True)
class Found:
    """A file or directory in the tree.

    Attributes:
        name: the last component; empty for the root.
        version: of a file; none for a directory.
        modified_ns: modification time in nanoseconds since 1970.
    """

    name: str
    version: Version | None
    modified_ns: int

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory."""
        return self.version is None


class AlreadyServed(RuntimeError):
    """Another process serves this folder."""


class Tree:
    """The folder `root` and what is in it.

    Args:
        root: of the files; must exist.
        sync: what is on the disk when a file is published.
    """

    def __init__(self, root: Path, *, sync: Sync = "file") -> None:
        self.root = root
        self._sync = sync
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._own = -1
        self._incoming = -1
        self._lock = -1

    # ------------------------------------------------------------- own folder

    def prepare(self) -> None:
        """Take the folder for this process, and clear drafts that a crash has left.

        Raises:
            AlreadyServed: another process has it.
        """
        with suppress(FileExistsError):
            os.mkdir(OWN, 0o700, dir_fd=self._root)
        self._own = os.open(OWN, _WALK, dir_fd=self._root)
        self._lock = os.open("lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=self._own)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise AlreadyServed(f"{self.root} is served by another process") from error
        with suppress(FileExistsError):
            os.mkdir(INCOMING, 0o700, dir_fd=self._own)
        self._incoming = os.open(INCOMING, _WALK, dir_fd=self._own)
        for name in _names(self._incoming):
            os.unlink(name, dir_fd=self._incoming)

    def close(self) -> None:
        """Let the folder go."""
        for descriptor in (self._incoming, self._lock, self._own, self._root):
            if descriptor >= 0:
                os.close(descriptor)
        self._incoming = self._lock = self._own = self._root = -1

    # ------------------------------------------------------------- looking

    def find(self, parts: Parts) -> Found:
        """Return what is at `parts`.

        Raises:
            FileNotFoundError: nothing, a link, a device, or something of ours.
            NotADirectoryError: a component on the way is a file.
        """
        if not parts:
            return Found("", None, os.fstat(self._root).st_mtime_ns)
        with self.folder(parts[:-1]) as folder:
            found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        return _found(parts[-1], found) or _missing()

    def open(self, parts: Parts) -> tuple[int, os.stat_result]:
        """Open the file at `parts` for reading; the caller closes the descriptor.

        Raises:
            FileNotFoundError: nothing is there that may be seen.
            IsADirectoryError: it is a directory.
        """
        if not parts:
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        with self.folder(parts[:-1]) as folder:
            try:
                descriptor = os.open(parts[-1], _OPEN, dir_fd=folder)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENXIO}:  # a link, a socket
                    _missing()
                raise
        found = os.fstat(descriptor)
        if stat_bits.S_ISREG(found.st_mode):
            return descriptor, found
        os.close(descriptor)
        if stat_bits.S_ISDIR(found.st_mode):
            raise IsADirectoryError(errno.EISDIR, "it is a directory")
        return _missing()

    def entries(self, parts: Parts) -> Generator[Found, None, None]:
        """Give what is in the directory `parts`, in no order; it is open until exhausted or closed.

        Raises:
            FileNotFoundError, NotADirectoryError: it is no directory, once the first is asked for.
        """
        with (
            self.folder(parts) as folder,
            _readable(folder) as readable,
            os.scandir(readable) as scan,
        ):
            for item in scan:
                if not parts and item.name == OWN:
                    continue
                with suppress(FileNotFoundError, UnicodeEncodeError):
                    item.name.encode("utf-8")  # what is no UTF-8 has no URL that we could name
                    if found := _found(item.name, item.stat(follow_symlinks=False)):
                        yield found

    def free_bytes(self) -> int:
        """Return the room that an ordinary user has on the file system."""
        figures = os.fstatvfs(self._root)
        return figures.f_bavail * figures.f_frsize

    def used_bytes(self) -> int:
        """Return what is taken of the file system."""
        figures = os.fstatvfs(self._root)
        return (figures.f_blocks - figures.f_bfree) * figures.f_frsize

    # ------------------------------------------------------------- changing

    def make_folder(self, parts: Parts) -> None:
        """Make one directory.

        Raises:
            FileExistsError: something is there.
            FileNotFoundError: its parent is not.
        """
        if not parts:
            raise FileExistsError(errno.EEXIST, "it is there")
        with self.folder(parts[:-1]) as folder:
            self._forbid_own(parts)
            os.mkdir(parts[-1], FOLDER_MODE, dir_fd=folder)

    def make_folders(self, parts: Parts) -> list[Parts]:
        """Make the directory `parts` and all above it; returns the new ones, outermost first.

        Raises:
            NotADirectoryError: a file is in the way.
        """
        new: list[Parts] = []
        with suppress(FileNotFoundError), self.folder(parts):
            return new
        for depth in range(1, len(parts) + 1):
            try:
                self.make_folder(parts[:depth])
                new.append(parts[:depth])
            except FileExistsError:
                continue
        with self.folder(parts):
            return new

    def remove(self, parts: Parts) -> None:
        """Remove a file, or a directory with all that is in it.

        Raises:
            FileNotFoundError: nothing is there.
            PermissionError: it is the root, or something of ours.
        """
        if not parts:
            raise PermissionError(errno.EPERM, "the root stays")
        with self.folder(parts[:-1]) as folder:
            self._forbid_own(parts)
            self._remove(folder, parts[-1])

    def rename(self, source: Parts, target: Parts, *, replace: bool) -> None:
        """Give `source` the path `target`; a directory there is removed first if `replace`.

        Raises:
            FileExistsError: something is at the target and `replace` is false.
            OSError: as the system says; EINVAL for a move into itself.
        """
        if not source or not target:
            raise PermissionError(errno.EPERM, "the root stays")
        if target[: len(source)] == source:
            raise OSError(errno.EINVAL, "it cannot be moved into itself")
        with self.folder(source[:-1]) as old, self.folder(target[:-1]) as new:
            self._forbid_own(source)
            self._forbid_own(target)
            moved = _found("", os.stat(source[-1], dir_fd=old, follow_symlinks=False)) or _missing()
            self._clear(new, target[-1], moved.is_directory, replace=replace)
            if replace or moved.is_directory:
                os.rename(source[-1], target[-1], src_dir_fd=old, dst_dir_fd=new)
            else:  # unlike a rename, a link fails where something is
                os.link(source[-1], target[-1], src_dir_fd=old, dst_dir_fd=new)
                os.unlink(source[-1], dir_fd=old)
            self._sync_folder(old)
            self._sync_folder(new)

    # ------------------------------------------------------------- drafts

    def make_draft(self, name: str) -> int:
        """Open a new, empty draft for writing; the caller closes the descriptor."""
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(name, flags, FILE_MODE, dir_fd=self._incoming)

    def publish(self, name: str, descriptor: int, target: Parts, *, replace: bool) -> bool:
        """Let a draft appear at `target`, whose folder is there; whole or not at all.

        Returns:
            Whether it replaced a file.

        Raises:
            FileExistsError: a file is there and `replace` is false.
            IsADirectoryError: a directory is there.
        """
        if self._sync != "none":
            os.fdatasync(descriptor)
        with self.folder(target[:-1]) as folder:
            self._forbid_own(target)
            replaced = _exists(folder, target[-1])
            if replace:
                os.rename(name, target[-1], src_dir_fd=self._incoming, dst_dir_fd=folder)
            else:  # unlike a rename, a link fails where something is
                os.link(name, target[-1], src_dir_fd=self._incoming, dst_dir_fd=folder)
                os.unlink(name, dir_fd=self._incoming)
                replaced = False
            self._sync_folder(folder)
        return replaced

    def drop_draft(self, name: str) -> None:
        """Remove a draft; one that was published is gone already."""
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._incoming)

    # ------------------------------------------------------------- within

    @contextmanager
    def folder(self, parts: Parts) -> Iterator[int]:
        """Give a descriptor of the directory `parts`.

        Raises:
            FileNotFoundError: a component is missing, a link, or ours.
            NotADirectoryError: a component is a file.
        """
        if parts and parts[0] == OWN:
            _missing()
        current = os.dup(self._root)
        try:
            for part in parts:
                deeper = self._step(current, part)
                os.close(current)
                current = deeper
            yield current
        finally:
            os.close(current)

    @staticmethod
    def _step(folder: int, part: str) -> int:
        try:
            return os.open(part, _WALK, dir_fd=folder)
        except NotADirectoryError:
            if stat_bits.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
                _missing()
            raise
        except OSError as error:
            if error.errno == errno.ELOOP:
                _missing()
            raise

    @staticmethod
    def _forbid_own(parts: Parts) -> None:
        if parts[0] == OWN:
            raise PermissionError(errno.EPERM, "this name is reserved")

    def _remove(self, folder: int, name: str) -> None:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if not stat_bits.S_ISDIR(found.st_mode):
            os.unlink(name, dir_fd=folder)
            return
        inner = os.open(name, _WALK, dir_fd=folder)
        try:
            for child in _names(inner):
                self._remove(inner, child)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=folder)

    def _clear(self, folder: int, name: str, for_directory: bool, *, replace: bool) -> None:
        """Make room for a move: nothing may be there, or what is there may go."""
        try:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if not replace:
            raise FileExistsError(errno.EEXIST, "something is there")
        if for_directory or stat_bits.S_ISDIR(there.st_mode):
            self._remove(folder, name)

    def _sync_folder(self, folder: int) -> None:
        if self._sync == "full":
            with _readable(folder) as readable:
                os.fsync(readable)


@contextmanager
def _readable(folder: int) -> Iterator[int]:
    """Open a walked directory for listing."""
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _names(folder: int) -> list[str]:
    with _readable(folder) as readable, os.scandir(readable) as scan:
        return [item.name for item in scan]


def _exists(folder: int, name: str) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if stat_bits.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a directory")
    return True


def _found(name: str, found: os.stat_result) -> Found | None:
    if stat_bits.S_ISDIR(found.st_mode):
        return Found(name, None, found.st_mtime_ns)
    if stat_bits.S_ISREG(found.st_mode):
        return Found(name, version_of(found), found.st_mtime_ns)
    return None


def _missing() -> Never:
    raise FileNotFoundError(errno.ENOENT, "there is no such file")
