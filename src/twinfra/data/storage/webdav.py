"""`Storage` over WebDAV with bearer tokens: our edges, dCache, StoRM, XRootD, nginx.

Asks for nothing that a plain server lacks: checksums are compared where the server tells one.
Bodies are streamed both ways. Its neighbour over the wire is an edge's ``dav`` room.
"""

import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from urllib.parse import quote, urlsplit

import aiohttp

from twinfra.core.errors import InvalidRequest, TwinfraError, Unavailable, UpstreamFault, shorten
from twinfra.core.http.client import HttpClient, Reply, TokenSource, error_of
from twinfra.data.storage.digest_fields import (
    DIGEST_NAMES,
    read_digest,
    read_repr_digest,
    write_digest,
    write_repr_digest,
    write_wanted,
)
from twinfra.data.storage.errors import (
    AccessDenied,
    ChecksumMismatch,
    FileExists,
    FileMissing,
    IsDirectory,
    NoRoom,
    NotDirectory,
)
from twinfra.data.storage.model import ALGORITHMS, Entry, clean, same_checksum
from twinfra.data.storage.multistatus import ASKED, MultiStatus, http_date
from twinfra.data.storage.ports import MAKES_DIRECTORIES, TELLS_CHECKSUMS, Body

BLOCK_BYTES = 256 * 1024
DONE = (200, 201, 202, 204)
_LEAVES: dict[int, type[TwinfraError]] = {
    403: AccessDenied,
    404: FileMissing,
    405: IsDirectory,
    409: NotDirectory,
    412: FileExists,
    413: NoRoom,
    507: NoRoom,
}


class WebDavStorage:
    """Files of one WebDAV server.

    Args:
        base_url: what ``/`` stands for, such as ``https://localhost:8443`` or ``…/dav``.
        tls: the context that trusts its certificate; default: the machine's authorities.
        token: gives the bearer token of each request.
        timeout_s: of a silence on the wire.
    """

    capabilities = frozenset({MAKES_DIRECTORIES, TELLS_CHECKSUMS})

    def __init__(
        self,
        base_url: str,
        *,
        tls: ssl.SSLContext | None = None,
        token: TokenSource | None = None,
        timeout_s: float = 60.0,
    ) -> None:
        self._http = HttpClient(base_url, tls=tls, token=token, timeout_s=timeout_s)
        self._base_path = urlsplit(base_url).path.rstrip("/")

    async def stat(self, path: str) -> Entry:  # noqa: D102 - see the port
        path = clean(path)
        entries = await self._propfind(path, depth="0")
        if not entries:
            raise UpstreamFault(f"{path}: the storage's answer names no file")
        found = entries[0]
        return Entry(path, found.kind, found.size_bytes, found.modified_at)

    async def listdir(self, path: str) -> AsyncIterator[Entry]:  # noqa: D102 - see the port
        path = clean(path)
        parser = MultiStatus(self._base_path)
        async with self._http.stream(
            "PROPFIND", _quoted(path), data=ASKED, headers=_xml("1")
        ) as answer:
            await _judge(answer, path, (207,))
            async for block in answer.content.iter_chunked(BLOCK_BYTES):
                for entry in parser.feed(block):
                    if child := _child(entry, path):
                        yield child
            for entry in parser.feed(b"", last=True):
                if child := _child(entry, path):
                    yield child

    async def read(  # noqa: D102 - see the port
        self, path: str, *, offset_bytes: int = 0, length_bytes: int | None = None
    ) -> AsyncIterator[bytes]:
        path = clean(path)
        if length_bytes == 0:
            return
        headers = {"Accept-Encoding": "identity"}
        if offset_bytes or length_bytes is not None:
            end = "" if length_bytes is None else str(offset_bytes + length_bytes - 1)
            headers["Range"] = f"bytes={offset_bytes}-{end}"
        async with self._http.stream("GET", _quoted(path), headers=headers) as answer:
            if answer.status == 416:
                return
            await _judge(answer, path, (200, 206))
            if answer.headers.get("Twinfra-Kind") == "directory":
                raise IsDirectory(f"{path} is a directory")
            skip = offset_bytes if answer.status == 200 else 0
            try:
                async for block in _cut(answer.content, skip, length_bytes):
                    yield block
            except aiohttp.ClientPayloadError as error:
                raise UpstreamFault(f"{path}: the storage broke off") from error

    async def write(  # noqa: D102 - see the port
        self,
        path: str,
        body: Body,
        *,
        size_bytes: int | None = None,
        checksums: Mapping[str, str] | None = None,
        overwrite: bool = True,
    ) -> Entry:
        path, promised = clean(path), dict(checksums or {})
        _check_algorithms(promised)
        if isinstance(body, bytes):
            if size_bytes not in {None, len(body)}:
                raise InvalidRequest(f"{path}: {len(body)} bytes, {size_bytes} were promised")
            size_bytes = len(body)
        counted = _Counted(body)
        headers = {"Content-Type": "application/octet-stream", **_digests(promised)}
        if size_bytes is not None:
            headers["Content-Length"] = str(size_bytes)
        if not overwrite:
            headers["If-None-Match"] = "*"
        try:
            async with self._http.stream(
                "PUT", _quoted(path), data=counted, headers=headers
            ) as answer:
                await _judge(answer, path, DONE, digested=bool(promised))
                told = _told(answer.headers)
        except Unavailable as error:
            if counted.failure is not None:
                raise counted.failure from error
            raise
        if size_bytes is not None and counted.size_bytes != size_bytes:
            raise InvalidRequest(f"{path}: {counted.size_bytes} of {size_bytes} bytes came")
        await self._compare(path, promised, told)
        return Entry(path, "file", counted.size_bytes, None, promised | told)

    async def rename(  # noqa: D102 - see the port
        self, source: str, target: str, *, overwrite: bool = True
    ) -> None:
        source, target = clean(source), clean(target)
        headers = {
            "Destination": self._http.base_url + _quoted(target),
            "Overwrite": "T" if overwrite else "F",
        }
        async with self._http.stream("MOVE", _quoted(source), headers=headers) as answer:
            if answer.status == 409:
                raise FileMissing(f"{target}: its parent is missing")
            await _judge(answer, source, DONE)

    async def unlink(self, path: str) -> None:  # noqa: D102 - see the port
        path = clean(path)
        if (await self.stat(path)).is_directory:
            raise IsDirectory(f"{path} is a directory")
        async with self._http.stream("DELETE", _quoted(path)) as answer:
            await _judge(answer, path, DONE)

    async def mkdir_rec(self, path: str) -> None:  # noqa: D102 - see the port
        path = clean(path)
        if path == "/" or await self._mkdir(path):
            return
        await self.mkdir_rec(path.rpartition("/")[0] or "/")
        if not await self._mkdir(path):
            raise NotDirectory(f"{path}: a part of it is a file")

    async def _mkdir(self, path: str) -> bool:
        """Make one directory; false: its parent is missing or a file."""
        async with self._http.stream("MKCOL", _quoted(path)) as answer:
            if answer.status == 405:
                if (await self.stat(path)).is_directory:
                    return True
                raise NotDirectory(f"{path} is a file")
            if answer.status == 409:
                return False
            await _judge(answer, path, DONE)
            return True

    async def checksum(self, path: str, algorithm: str) -> str:  # noqa: D102 - see the port
        path = clean(path)
        _check_algorithms({algorithm: ""})
        headers = {"Want-Digest": write_wanted([algorithm])}
        async with self._http.stream("HEAD", _quoted(path), headers=headers) as answer:
            await _judge(answer, path, (200,))
            told = _told(answer.headers)
        if algorithm not in told:
            raise InvalidRequest(f"{path}: the storage tells no {algorithm}")
        return told[algorithm]

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def _propfind(self, path: str, depth: str) -> list[Entry]:
        parser = MultiStatus(self._base_path)
        reply = await self._asked("PROPFIND", path, depth)
        return list(parser.feed(reply.body, last=True))

    async def _asked(self, method: str, path: str, depth: str) -> Reply:
        async with self._http.stream(
            method, _quoted(path), data=ASKED, headers=_xml(depth)
        ) as answer:
            await _judge(answer, path, (207,))
            return Reply(answer.status, answer.headers, await answer.read())

    async def _compare(self, path: str, promised: dict[str, str], told: dict[str, str]) -> None:
        """Compare what was promised with what the server says arrived; remove what differs."""
        for algorithm, value in promised.items():
            arrived = told.get(algorithm)
            if arrived is None:
                try:
                    arrived = await self.checksum(path, algorithm)
                except InvalidRequest:
                    continue  # this server knows no such checksum
            if not same_checksum(algorithm, value, arrived):
                await self.unlink(path)
                raise ChecksumMismatch(f"{path}: {algorithm} is {arrived}, {value} was promised")


class _Counted(AsyncIterable[bytes]):
    """A body that remembers how much went and what broke it."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.size_bytes = 0
        self.failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if isinstance(self._body, bytes):
            self.size_bytes = len(self._body)
            yield self._body
            return
        try:
            async for block in self._body:
                self.size_bytes += len(block)
                yield block
        except Exception as error:
            self.failure = error
            raise


def _quoted(path: str) -> str:
    return quote(path, safe="/~!$&'()*+,;=:@")


def _xml(depth: str) -> dict[str, str]:
    return {"Depth": depth, "Content-Type": 'application/xml; charset="utf-8"'}


def _child(entry: Entry, parent: str) -> Entry | None:
    """Return `entry` if it is a child of `parent`; a file answers a listing with itself."""
    if entry.path == parent:
        if not entry.is_directory:
            raise NotDirectory(f"{parent} is a file")
        return None
    return entry


def _check_algorithms(checksums: Mapping[str, str]) -> None:
    for name in checksums:
        if name not in DIGEST_NAMES:
            raise InvalidRequest(f"checksum {name!r} is none of {', '.join(ALGORITHMS)}")


def _digests(promised: Mapping[str, str]) -> dict[str, str]:
    if not promised:
        return {}
    return {
        "Digest": write_digest(promised),
        "Repr-Digest": write_repr_digest(promised),
        "Want-Digest": write_wanted(promised),
    }


def _told(headers: Mapping[str, str]) -> dict[str, str]:
    try:
        return read_repr_digest(headers.get("Repr-Digest", "")) | read_digest(
            headers.get("Digest", "")
        )
    except ValueError as error:
        raise UpstreamFault(f"the storage's digest: {error}") from error


async def _judge(
    answer: aiohttp.ClientResponse, path: str, fine: tuple[int, ...], *, digested: bool = False
) -> None:
    """Raise what fits the status, unless it is fine."""
    if answer.status in fine:
        return
    text = shorten((await answer.content.read(2048)).decode("utf-8", "replace"))
    if digested and answer.status in {400, 412} and "checksum" in text.lower():
        raise ChecksumMismatch(f"{path}: {text}")
    leaf = _LEAVES.get(answer.status)
    if leaf is not None:
        raise leaf(f"{path}: {text or answer.reason}")
    raise error_of(Reply(answer.status, answer.headers, text.encode()), path)


async def _cut(
    content: aiohttp.StreamReader, skip: int, length_bytes: int | None
) -> AsyncIterator[bytes]:
    """Give `length_bytes` of `content` after `skip`, for servers that ignore ranges."""
    left = length_bytes
    async for arrived in content.iter_chunked(BLOCK_BYTES):
        block = arrived[skip:][:left]
        skip = max(0, skip - len(arrived))
        if left is not None:
            left -= len(block)
        if block:
            yield block
        if left == 0:
            return


__all__ = ["WebDavStorage", "http_date"]
