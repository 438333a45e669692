"""Writes layers: tar files in a fixed order and with fixed times, compressed, with both digests.

The same input gives the same bytes. It must not decide what goes in; the reader is `unpack.py`.
"""

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, cast

from isal import igzip

_CHUNK_BYTES = 1024 * 1024
_LEVEL = 2
_MTIME = 0


@dataclass(frozen=True)
class Layer:
    """A finished layer."""

    file: Path
    digest: str
    """Of the compressed bytes."""
    diff_id: str
    """Of the tar itself."""


class _Hashing(io.RawIOBase):
    """Passes bytes on and hashes them."""

    def __init__(self, sink: IO[bytes]) -> None:
        super().__init__()
        self._sink = sink
        self._digest = hashlib.sha256()

    def writable(self) -> bool:
        """Tell that bytes may be written."""
        return True

    def write(self, data: bytes | bytearray | memoryview) -> int:  # type: ignore[override] # bytes-like is all that arrives
        """Write and hash."""
        self._digest.update(data)
        self._sink.write(data)
        return len(data)

    @property
    def digest(self) -> str:
        """Return the digest so far."""
        return f"sha256:{self._digest.hexdigest()}"


def write_layer(file: Path, fill: Callable[[IO[bytes]], None]) -> Layer:
    """Compress and hash what `fill` writes (a tar) into `file`."""
    with file.open("wb") as raw:
        outer = _Hashing(raw)
        with igzip.GzipFile(  # type: ignore[no-untyped-call] # isal's stubs leave it out
            filename="", fileobj=outer, mode="wb", compresslevel=_LEVEL, mtime=_MTIME
        ) as packed:
            inner = _Hashing(cast("IO[bytes]", packed))
            fill(cast("IO[bytes]", inner))
        raw.flush()
        os.fsync(raw.fileno())
    return Layer(file, outer.digest, inner.digest)


def compress(tar: Path, file: Path) -> Layer:
    """Make a layer of a tar file as it is."""

    def fill(sink: IO[bytes]) -> None:
        with tar.open("rb") as source:
            while chunk := source.read(_CHUNK_BYTES):
                sink.write(chunk)

    return write_layer(file, fill)


def pack(
    roots: Iterable[tuple[Path, PurePosixPath]], file: Path, *, keep_modes: bool = False
) -> Layer:
    """Make a layer of files and folders, each put at its target; owner root, times fixed.

    Without `keep_modes` only "executable or not" is kept: who built the image should not show.
    """
    members = sorted(
        (member for source, target in roots for member in _walk(source, target)),
        key=lambda member: member[1].parts,
    )

    def fill(sink: IO[bytes]) -> None:
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar:
            done: set[PurePosixPath] = {PurePosixPath("/")}
            for source, target in members:
                for parent in reversed(target.parents):
                    if parent not in done:
                        tar.addfile(_folder(parent))
                        done.add(parent)
                if target not in done:
                    _add(tar, source, target, keep_modes=keep_modes)
                    done.add(target)

    return write_layer(file, fill)


def _walk(source: Path, target: PurePosixPath) -> Iterable[tuple[Path, PurePosixPath]]:
    yield source, target
    if source.is_dir() and not source.is_symlink():
        for folder, folders, files in os.walk(source):
            inside = target / PurePosixPath(folder).relative_to(source)
            for name in (*folders, *files):
                yield Path(folder, name), inside / name


def _folder(target: PurePosixPath) -> tarfile.TarInfo:
    info = tarfile.TarInfo(str(target).lstrip("/"))
    info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o755, _MTIME
    return info


def _add(tar: tarfile.TarFile, source: Path, target: PurePosixPath, *, keep_modes: bool) -> None:
    status = source.lstat()
    info = _folder(target)
    mode = stat.S_IMODE(status.st_mode)
    if keep_modes:
        info.mode = mode
    if stat.S_ISLNK(status.st_mode):
        info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, str(source.readlink())
    elif stat.S_ISREG(status.st_mode):
        info.type, info.size = tarfile.REGTYPE, status.st_size
        if not keep_modes:
            info.mode = 0o755 if mode & stat.S_IXUSR else 0o644
        with source.open("rb") as content:
            tar.addfile(info, content)
        return
    elif not stat.S_ISDIR(status.st_mode):
        return
    tar.addfile(info)
