"""What every `Storage` must do: one suite, run against each adapter.

A test class inherits `StorageContract` and gives a fixture ``storage``: an empty storage, writable
below `ROOT`. Every sentence of the port's contract has a test here.
"""

# ruff: noqa: D102 - the name of a test says what it shows

import asyncio
import hashlib
import zlib
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from twinfra.core.errors import InvalidRequest
from twinfra.data.storage.client import (
    ChecksumMismatch,
    FileExists,
    FileMissing,
    IsDirectory,
    MakesDirectories,
    NotDirectory,
    Storage,
    TellsChecksums,
)

BODY = b"".join(bytes([number % 251]) * 97 for number in range(5000))
SUMS = {
    "adler32": f"{zlib.adler32(BODY):08x}",
    "md5": hashlib.md5(BODY, usedforsecurity=False).hexdigest(),
    "sha256": hashlib.sha256(BODY).hexdigest(),
}


async def pieces(body: bytes = BODY, size: int = 7001) -> AsyncIterator[bytes]:
    """Give `body` in pieces."""
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def whole(storage: Storage, path: str, **span: int) -> bytes:
    """Return what the storage gives for `path`."""
    return b"".join([block async for block in storage.read(path, **span)])


async def names(storage: Storage, path: str) -> list[str]:
    """Return the names in a directory, sorted."""
    return sorted([entry.name async for entry in storage.listdir(path)])


class StorageContract:
    """The suite; `root` is where a test may write."""

    root = "/contract"

    async def test_file_is_what_was_written(self, storage: Storage) -> None:
        path = f"{self.root}/a/b/f"
        written = await storage.write(path, pieces(), size_bytes=len(BODY), checksums=SUMS)
        assert (written.path, written.kind, written.size_bytes) == (path, "file", len(BODY))
        found = await storage.stat(path)
        assert (found.path, found.kind, found.size_bytes) == (path, "file", len(BODY))
        assert found.modified_at is None or found.modified_at.tzinfo is not None
        assert await whole(storage, path) == BODY

    async def test_body_may_be_bytes_and_of_unknown_size(self, storage: Storage) -> None:
        await storage.write(f"{self.root}/whole", BODY)
        await storage.write(f"{self.root}/streamed", pieces())
        await storage.write(f"{self.root}/empty", b"")
        assert await whole(storage, f"{self.root}/whole") == BODY
        assert await whole(storage, f"{self.root}/streamed") == BODY
        assert await whole(storage, f"{self.root}/empty") == b""

    async def test_reading_gives_a_part_when_asked(self, storage: Storage) -> None:
        path = f"{self.root}/f"
        await storage.write(path, BODY)
        assert await whole(storage, path, offset_bytes=1000) == BODY[1000:]
        assert await whole(storage, path, offset_bytes=10, length_bytes=20) == BODY[10:30]
        assert await whole(storage, path, length_bytes=0) == b""
        assert await whole(storage, path, offset_bytes=len(BODY)) == b""
        assert await whole(storage, path, offset_bytes=len(BODY) - 1, length_bytes=9) == BODY[-1:]

    async def test_reading_may_be_given_up(self, storage: Storage) -> None:
        path = f"{self.root}/f"
        await storage.write(path, BODY)
        async with aclosing(storage.read(path)) as blocks:  # type: ignore[type-var]  # generators are
            async for block in blocks:
                assert block
                break
        assert await whole(storage, path) == BODY

    async def test_writing_replaces_unless_told_otherwise(self, storage: Storage) -> None:
        path = f"{self.root}/f"
        await storage.write(path, BODY)
        with pytest.raises(FileExists):
            await storage.write(path, b"new", overwrite=False)
        assert await whole(storage, path) == BODY
        await storage.write(path, b"new")
        assert await whole(storage, path) == b"new"
        await storage.write(f"{self.root}/other", b"x", overwrite=False)

    async def test_nothing_is_left_when_the_checksum_differs(self, storage: Storage) -> None:
        path = f"{self.root}/f"
        for algorithm, value in SUMS.items():
            with pytest.raises(ChecksumMismatch):
                await storage.write(path, BODY + b"!", checksums={algorithm: value})
            with pytest.raises(FileMissing):
                await storage.stat(path)

    async def test_nothing_is_left_when_the_body_breaks(self, storage: Storage) -> None:
        async def breaking() -> AsyncIterator[bytes]:
            yield BODY
            raise RuntimeError("the source broke")

        with pytest.raises(RuntimeError, match="the source broke"):
            await storage.write(f"{self.root}/f", breaking())
        with pytest.raises(FileMissing):
            await storage.stat(f"{self.root}/f")

    async def test_unknown_checksum_is_refused(self, storage: Storage) -> None:
        with pytest.raises(InvalidRequest):
            await storage.write(f"{self.root}/f", BODY, checksums={"crc7": "00"})

    async def test_missing_is_missing(self, storage: Storage) -> None:
        path = f"{self.root}/none"
        with pytest.raises(FileMissing):
            await storage.stat(path)
        with pytest.raises(FileMissing):
            await whole(storage, path)
        with pytest.raises(FileMissing):
            await names(storage, path)
        with pytest.raises(FileMissing):
            await storage.unlink(path)
        with pytest.raises(FileMissing):
            await storage.rename(path, f"{self.root}/other")

    async def test_directory_is_no_file_and_a_file_no_directory(self, storage: Storage) -> None:
        await storage.write(f"{self.root}/d/f", b"x")
        with pytest.raises(IsDirectory):
            await whole(storage, f"{self.root}/d")
        with pytest.raises(IsDirectory):
            await storage.write(f"{self.root}/d", b"x")
        with pytest.raises(IsDirectory):
            await storage.unlink(f"{self.root}/d")
        with pytest.raises(NotDirectory):
            await names(storage, f"{self.root}/d/f")
        with pytest.raises(NotDirectory):
            await storage.write(f"{self.root}/d/f/below", b"x")
        assert (await storage.stat(f"{self.root}/d")).is_directory

    async def test_listing_gives_the_direct_children(self, storage: Storage) -> None:
        for name in ("d/one", "d/two & 2 %", "d/é/three"):
            await storage.write(f"{self.root}/{name}", b"12345")
        entries = {entry.path: entry async for entry in storage.listdir(f"{self.root}/d")}
        assert sorted(entries) == sorted(
            f"{self.root}/d/{name}" for name in ("one", "two & 2 %", "é")
        )
        assert entries[f"{self.root}/d/one"].size_bytes == 5
        assert entries[f"{self.root}/d/é"].is_directory

    async def test_listing_of_many_is_whole(self, storage: Storage) -> None:
        wanted = [f"{number:04}" for number in range(510)]
        for start in range(0, len(wanted), 30):
            batch = wanted[start : start + 30]
            await asyncio.gather(*(storage.write(f"{self.root}/d/{name}", b"") for name in batch))
        assert await names(storage, f"{self.root}/d") == wanted

    async def test_rename_moves_and_replaces(self, storage: Storage) -> None:
        await storage.write(f"{self.root}/a", b"a")
        await storage.write(f"{self.root}/b", b"b")
        with pytest.raises(FileExists):
            await storage.rename(f"{self.root}/a", f"{self.root}/b", overwrite=False)
        assert await whole(storage, f"{self.root}/b") == b"b"
        await storage.rename(f"{self.root}/a", f"{self.root}/b")
        assert await whole(storage, f"{self.root}/b") == b"a"
        assert await names(storage, self.root) == ["b"]
        with pytest.raises(FileMissing):
            await storage.rename(f"{self.root}/b", f"{self.root}/no/such/b")

    async def test_rename_moves_directories(self, storage: Storage) -> None:
        await storage.write(f"{self.root}/d/e/f", b"x")
        await storage.rename(f"{self.root}/d", f"{self.root}/g")
        assert await whole(storage, f"{self.root}/g/e/f") == b"x"
        assert await names(storage, self.root) == ["g"]

    async def test_unlink_removes_one_file(self, storage: Storage) -> None:
        await storage.write(f"{self.root}/a", b"a")
        await storage.write(f"{self.root}/b", b"b")
        await storage.unlink(f"{self.root}/a")
        assert await names(storage, self.root) == ["b"]

    @pytest.mark.parametrize("path", ["relative", "/a/../b", "/a\0b"])
    async def test_improper_path_is_refused(self, storage: Storage, path: str) -> None:
        with pytest.raises(InvalidRequest):
            await storage.stat(path)

    async def test_directories_are_made_with_their_parents(self, storage: Storage) -> None:
        if not isinstance(storage, MakesDirectories):
            pytest.skip("this storage makes no directories")
        assert "mkdir_rec" in storage.capabilities
        await storage.mkdir_rec(f"{self.root}/a/b/c")
        await storage.mkdir_rec(f"{self.root}/a/b/c")
        assert (await storage.stat(f"{self.root}/a/b/c")).is_directory
        await storage.write(f"{self.root}/f", b"x")
        with pytest.raises(NotDirectory):
            await storage.mkdir_rec(f"{self.root}/f")
        with pytest.raises(NotDirectory):
            await storage.mkdir_rec(f"{self.root}/f/below")

    async def test_checksums_are_those_of_the_bytes(self, storage: Storage) -> None:
        if not isinstance(storage, TellsChecksums):
            pytest.skip("this storage tells no checksums")
        assert "checksum" in storage.capabilities
        await storage.write(f"{self.root}/f", BODY)
        for algorithm, value in SUMS.items():
            assert await storage.checksum(f"{self.root}/f", algorithm) == value
        with pytest.raises(InvalidRequest):
            await storage.checksum(f"{self.root}/f", "crc7")
        with pytest.raises(FileMissing):
            await storage.checksum(f"{self.root}/none", "md5")
