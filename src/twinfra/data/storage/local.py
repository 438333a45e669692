"""`Storage` on a local or mounted file system; file work is done in threads.

Writes go to a draft beside the target and are renamed. Symbolic links are followed as the
kernel does: who may name the root may name what it links to. The edge's own access is stricter.
"""

import asyncio
import contextlib
import hashlib
import os
import stat as stat_bits
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from isal import isal_zlib

from twinfra.core.errors import InvalidRequest
from twinfra.core.ids import new_uuid
from twinfra.data.storage.errors import (
    ChecksumMismatch,
    FileExists,
    IsDirectory,
    NotDirectory,
    error_from_os,
)
from twinfra.data.storage.model import ALGORITHMS, Entry, clean, same_checksum
from twinfra.data.storage.ports import MAKES_DIRECTORIES, TELLS_CHECKSUMS, Body

BLOCK_BYTES = 1024 * 1024
DRAFT = ".twinfra-draft-"
LIST_BATCH = 500
T = TypeVar("T")


class LocalStorage:
    """Files below a folder.

    Args:
        root: what ``/`` stands for.
    """

    capabilities = frozenset({MAKES_DIRECTORIES, TELLS_CHECKSUMS})

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    async def stat(self, path: str) -> Entry:  # noqa: D102 - see the port
        path = clean(path)
        found = await self._do(path, self._at(path).stat)
        return _entry(path, found)

    async def listdir(self, path: str) -> AsyncIterator[Entry]:  # noqa: D102 - see the port
        path = clean(path)
        entries = await self._do(path, lambda: _entries(self._at(path), path))
        while batch := await self._do(path, lambda: _take(entries, LIST_BATCH)):
            for entry in batch:
                yield entry

    async def read(  # noqa: D102 - see the port
        self, path: str, *, offset_bytes: int = 0, length_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        path = clean(path)
        descriptor = await self._do(path, lambda: _open_file(self._at(path)))
        try:
            left = length_bytes
            while left is None or left > 0:
                wanted = BLOCK_BYTES if left is None else min(BLOCK_BYTES, left)
                block = await self._do(path, _reading(descriptor, wanted, offset_bytes))
                if not block:
                    return
                offset_bytes += len(block)
                left = None if left is None else left - len(block)
                yield block
        finally:
            os.close(descriptor)

    async def write(  # noqa: D102 - see the port
        self,
        path: str,
        body: Body,
        *,
        size_bytes: int | None = None,
        checksums: Mapping[str, str] | None = None,
        overwrite: bool = True,
    ) -> Entry:
        path = clean(path)
        target = self._at(path)
        hashes = {name: _hasher(name) for name in checksums or {}}
        await self._do(path, lambda: _prepare(target, overwrite))
        draft = target.with_name(DRAFT + new_uuid())
        descriptor = await self._do(
            path, lambda: os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        )
        try:
            written = 0
            async for block in _blocks(body):
                await self._do(path, _writing(descriptor, block, hashes))
                written += len(block)
            if size_bytes is not None and written != size_bytes:
                raise InvalidRequest(f"{path}: {written} bytes came, {size_bytes} were promised")
            for name, promised in (checksums or {}).items():
                if not same_checksum(name, promised, hashes[name].hexdigest()):
                    raise ChecksumMismatch(
                        f"{path}: {name} is {hashes[name].hexdigest()}, {promised} was promised"
                    )
            await self._do(path, lambda: _publish(descriptor, draft, target, overwrite))
            found = await self._do(path, lambda: os.fstat(descriptor))
        finally:
            os.close(descriptor)
            with contextlib.suppress(FileNotFoundError):
                draft.unlink()
        told = {name: made.hexdigest() for name, made in hashes.items()}
        return _entry(path, found, told)

    async def rename(  # noqa: D102 - see the port
        self, source: str, target: str, *, overwrite: bool = True
    ) -> None:
        old, new = self._at(clean(source)), self._at(clean(target))

        def move() -> None:
            if not overwrite and os.path.lexists(new):
                raise FileExists(f"{target} is there")
            old.rename(new)

        await self._do(f"{source} to {target}", move)

    async def unlink(self, path: str) -> None:  # noqa: D102 - see the port
        target = self._at(clean(path))

        def remove() -> None:
            if target.is_dir() and not target.is_symlink():
                raise IsDirectory(f"{path} is a directory")
            target.unlink()

        await self._do(path, remove)

    async def mkdir_rec(self, path: str) -> None:  # noqa: D102 - see the port
        target = self._at(clean(path))

        def make() -> None:
            try:
                target.mkdir(parents=True, exist_ok=True)
            except FileExistsError as error:
                raise NotDirectory(f"{path} is a file") from error

        await self._do(path, make)

    async def checksum(self, path: str, algorithm: str) -> str:  # noqa: D102 - see the port
        made = _hasher(algorithm)
        async for block in self.read(path):
            await asyncio.to_thread(made.update, block)
        return str(made.hexdigest())

    def _at(self, path: str) -> Path:
        return self._root / path.lstrip("/")

    async def _do(self, path: str, work: Callable[[], T]) -> T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            raise error_from_os(error, path) from error


class _Adler32:
    """adler32 with hashlib's manners."""

    def __init__(self) -> None:
        self._value = 1

    def update(self, block: bytes) -> None:
        self._value = isal_zlib.adler32(block, self._value)

    def hexdigest(self) -> str:
        return f"{self._value:08x}"


def _hasher(algorithm: str) -> Any:
    if algorithm not in ALGORITHMS:
        raise InvalidRequest(f"checksum {algorithm!r} is none of {', '.join(ALGORITHMS)}")
    return _Adler32() if algorithm == "adler32" else hashlib.new(algorithm, usedforsecurity=False)


def _entry(path: str, found: os.stat_result, checksums: Mapping[str, str] | None = None) -> Entry:
    is_directory = stat_bits.S_ISDIR(found.st_mode)
    return Entry(
        path,
        "directory" if is_directory else "file",
        0 if is_directory else found.st_size,
        datetime.fromtimestamp(found.st_mtime, UTC),
        dict(checksums or {}),
    )


def _entries(folder: Path, path: str) -> Iterator[Entry]:
    """Open `folder` now; its entries come as they are asked for."""
    scan = os.scandir(folder)

    def walk() -> Iterator[Entry]:
        with scan:
            for item in scan:
                if not item.name.startswith(DRAFT):
                    with contextlib.suppress(FileNotFoundError):
                        yield _entry(f"{path.rstrip('/')}/{item.name}", item.stat())

    return walk()


def _take(entries: Iterator[Entry], count: int) -> list[Entry]:
    return [entry for _, entry in zip(range(count), entries, strict=False)]


def _open_file(target: Path) -> int:
    descriptor = os.open(target, os.O_RDONLY)
    if stat_bits.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise IsDirectory(f"{target.name} is a directory")
    return descriptor


def _reading(descriptor: int, wanted: int, offset: int) -> Callable[[], bytes]:
    return lambda: os.pread(descriptor, wanted, offset)


def _writing(descriptor: int, block: bytes, hashes: Mapping[str, Any]) -> Callable[[], None]:
    def work() -> None:
        rest = memoryview(block)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        for made in hashes.values():
            made.update(block)

    return work


def _prepare(target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise IsDirectory(f"{target.name} is a directory")
    if not overwrite and target.exists():
        raise FileExists(f"{target.name} is there")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotDirectory(f"{target.parent.name} is a file") from error


def _publish(descriptor: int, draft: Path, target: Path, overwrite: bool) -> None:
    os.fsync(descriptor)
    if overwrite:
        draft.replace(target)
    else:
        target.hardlink_to(draft)  # unlike a rename, this fails where something is


async def _blocks(body: Body) -> AsyncIterator[bytes]:
    if isinstance(body, AsyncIterable):
        async for block in body:
            yield block
    elif body:
        yield body
