"""Reads layers: applies tar after tar to a folder, with whiteouts, and never leaves it.

Device nodes are passed over (the runtime gives the container its own), names with `..` are
refused, links of the image are followed within the image only. Source: OCI image-spec, layer.
"""

import hashlib
import io
import os
import shutil
import stat
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, cast

from isal import igzip

from twinfra.compute.containers.rootfs import resolve
from twinfra.core.errors import InvalidRequest, SiteRejected

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_CHUNK_BYTES = 1024 * 1024
_MOST_ENTRIES = 2_000_000
_MODE_BITS = 0o7777


class _Hashed(io.RawIOBase):
    """Hashes what is read through it."""

    def __init__(self, source: IO[bytes]) -> None:
        super().__init__()
        self._source = source
        self.sha256 = hashlib.sha256()

    def readable(self) -> bool:
        """Tell that bytes may be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read and hash."""
        data = self._source.read(size)
        self.sha256.update(data)
        return data


class Unpacker:
    """Applies the layers of one image to one folder, in order."""

    def __init__(self, root: Path, *, sealed: bool = False) -> None:
        """Apply layers to `root`; `sealed` takes away every permission to write."""
        self._root = root
        self._kept = _MODE_BITS & ~0o222 if sealed else _MODE_BITS
        self._privileged = os.geteuid() == 0
        self._modes: dict[Path, int] = {}
        self._folders: dict[str, Path] = {}
        """Where a member's folder was found; forgotten when a folder or a link is taken away."""
        self._entries = 0

    def apply(self, layer: Path, media_type: str, diff_id: str) -> None:
        """Unpack one verified layer.

        Raises:
            SiteRejected: it is no layer that we know, or it tries to write elsewhere.
        """
        with layer.open("rb") as packed:
            plain = _plain(packed, media_type)
            hashed = _Hashed(plain)
            try:
                with tarfile.open(fileobj=hashed, mode="r|", bufsize=_CHUNK_BYTES) as tar:
                    fresh: set[Path] = set()
                    for member in tar:
                        self._member(tar, member, fresh)
                while hashed.read(_CHUNK_BYTES):
                    pass  # padding after the end of the tar counts for the digest
            except (tarfile.TarError, OSError, EOFError, igzip.BadGzipFile) as error:
                raise SiteRejected(f"a layer of the image cannot be unpacked: {error}") from error
        if f"sha256:{hashed.sha256.hexdigest()}" != diff_id:
            raise SiteRejected("a layer of the image is not what its configuration says")

    def finish(self) -> None:
        """Set the modes of folders, which had to be writable until now."""
        for path, mode in sorted(self._modes.items(), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.chmod(mode)

    def _member(self, tar: tarfile.TarFile, member: tarfile.TarInfo, fresh: set[Path]) -> None:
        self._entries += 1
        if self._entries > _MOST_ENTRIES:
            raise SiteRejected("the image has too many files")
        target = self._target(member.name)
        if target is None:
            self._modes[self._root] = member.mode & self._kept
            return
        if target.name == _OPAQUE:
            self._empty(target.parent, fresh)
        elif target.name.startswith(_WHITEOUT):
            self._remove(target.with_name(target.name.removeprefix(_WHITEOUT)))
        else:
            fresh.add(target)
            self._extract(tar, member, target)

    def _target(self, name: str) -> Path | None:
        """Return where a member goes: its folder with the image's links followed, its own name."""
        path = PurePosixPath("/", name)
        if ".." in path.parts or "\0" in name:
            raise SiteRejected(f"the image holds a path that leaves it: {name[:128]!r}")
        if not path.name:
            return None
        folder = str(path.parent)
        parent = self._folders.get(folder)
        if parent is None:
            parent = self._folders[folder] = self._folder(path.parent)
        return parent / path.name

    def _folder(self, path: PurePosixPath) -> Path:
        """Return a folder of the image, made if missing."""
        try:
            folder = self._root / resolve(self._root, path).relative_to("/")
        except InvalidRequest as error:
            raise SiteRejected(error.detail) from error
        if not folder.is_dir():
            if folder.exists():
                raise SiteRejected(f"the image puts a file below a file: {str(path)[:128]!r}")
            folder.mkdir(parents=True)
            self._modes.setdefault(folder, 0o755 & self._kept)
        return folder

    def _extract(self, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
        if member.isdir():
            if target.is_symlink() or not target.is_dir():
                self._remove(target)
                target.mkdir()
            self._modes[target] = member.mode & self._kept
        elif member.isreg():
            self._remove(target)
            self._write(tar, member, target)
        elif member.issym():
            self._remove(target)
            target.symlink_to(member.linkname)
        elif member.islnk():
            self._link(member, target)
            return
        elif member.isfifo():
            self._remove(target)
            os.mkfifo(target, member.mode & _MODE_BITS)
        else:
            return
        if self._privileged:
            os.chown(target, member.uid, member.gid, follow_symlinks=False)
            if member.isreg():
                target.chmod(member.mode & self._kept)  # a change of owner clears set-uid bits

    def _write(self, tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
        source = tar.extractfile(member)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(target, flags, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
            if source is not None:
                shutil.copyfileobj(source, file, _CHUNK_BYTES)
            os.fchmod(file.fileno(), member.mode & self._kept)
        # Byte code compiled at installation is valid for the source's own time only.
        os.utime(target, (member.mtime, member.mtime))

    def _link(self, member: tarfile.TarInfo, target: Path) -> None:
        origin = self._target(member.linkname)
        if origin is None or not origin.exists() or origin.is_symlink() or origin.is_dir():
            raise SiteRejected(f"the image links to what it has not: {member.linkname[:128]!r}")
        if origin == target:
            return
        self._remove(target)
        os.link(origin, target, follow_symlinks=False)

    def _empty(self, folder: Path, fresh: set[Path]) -> None:
        """Drop what lower layers put into a folder."""
        for entry in list(folder.iterdir()):
            if entry not in fresh:
                self._remove(entry)

    def _remove(self, path: Path) -> None:
        """Take away what stands at `path`, if anything does."""
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:
            return
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._folders.clear()
        if stat.S_ISDIR(mode):
            shutil.rmtree(path)
        else:
            path.unlink()


def _plain(packed: IO[bytes], media_type: str) -> IO[bytes]:
    if media_type.endswith(("+gzip", ".tar.gzip")):
        plain = igzip.GzipFile(fileobj=packed, mode="rb")  # type: ignore[no-untyped-call] # isal's stubs
        return cast("IO[bytes]", plain)
    if media_type.endswith(".tar"):
        return packed
    raise SiteRejected(f"the image has a layer of a kind not known here: {media_type[:128]}")
