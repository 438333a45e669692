"""GET and HEAD: files whole or in ranges, with validators and digests; folders as a plain list."""

import os
from collections.abc import AsyncIterator, Generator
from dataclasses import dataclass
from mimetypes import guess_type

from twinfra.data.edge.dav import conditions, digests
from twinfra.data.edge.dav.ranges import Span, parse_ranges
from twinfra.data.edge.files.checksums import read_note, sum_file, version_of, write_note
from twinfra.data.edge.files.tree import Found, Parts
from twinfra.data.edge.model import Checksums, Version
from twinfra.data.edge.paths import Resource
from twinfra.data.edge.site import Site
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.edge.wire.exchange import Exchange

ANY_TYPE = "application/octet-stream"
LISTED_AT_ONCE = 500
KIND = "Twinfra-Kind"


@dataclass
class Opened:
    """An open file.

    Attributes:
        descriptor: closed by whoever opened it.
        version: of its content.
        checksums: as noted at the file, where they fit.
    """

    descriptor: int
    version: Version
    checksums: Checksums | None


async def get(site: Site, exchange: Exchange, resource: Resource) -> None:
    """Answer a GET or HEAD."""
    principal = await site.identify(exchange)
    reading = exchange.head.method == "GET"
    site.require(principal, "read" if reading else "stat", resource.path)
    headers = exchange.head.headers
    try:
        opened = await site.io(_open, site, resource, digests.asks(headers))
    except IsADirectoryError:
        if reading:
            site.require(principal, "list", resource.path)
        await _answer_folder(site, exchange, resource)
        return
    try:
        conditions.check(headers, opened.version, reading=True)
        if opened.checksums is None and digests.asks(headers):
            opened.checksums = await checksums_of(site, opened, resource.path)
        await _answer_file(site, exchange, resource, opened)
    finally:
        os.close(opened.descriptor)


async def checksums_of(site: Site, opened: Opened, path: str) -> Checksums | None:
    """Return the checksums of an open file: as the inventory has them, else made now."""
    known = await site.inventory.known(path)
    if known is not None and known.version == opened.version and known.checksums is not None:
        return known.checksums
    made = await site.io(sum_file, opened.descriptor)
    if made is not None:
        await site.io(write_note, opened.descriptor, opened.version, made)
    return made


def _open(site: Site, resource: Resource, with_note: bool) -> Opened:
    descriptor, found = site.tree.open(resource.parts)
    if resource.slash:
        os.close(descriptor)
        raise FileNotFoundError
    version = version_of(found)
    return Opened(descriptor, version, read_note(descriptor, version) if with_note else None)


async def _answer_file(site: Site, exchange: Exchange, resource: Resource, opened: Opened) -> None:
    headers, version = exchange.head.headers, opened.version
    size = version.size_bytes
    common = [
        ("ETag", version.etag),
        ("Last-Modified", conditions.http_date(version.mtime_ns)),
        ("Accept-Ranges", "bytes"),
        *digests.answers(headers, opened.checksums),
    ]
    content_type = ("Content-Type", guess_type(resource.parts[-1])[0] or ANY_TYPE)
    spans = None
    if "range" in headers and conditions.range_holds(headers, version):
        spans = parse_ranges(headers["range"], size, site.settings.max_ranges)
    if spans is None:
        await exchange.begin(200, [content_type, *common], size)
        await _send(site, exchange, opened, Span(0, size))
    elif len(spans) == 1:
        partial = [content_type, ("Content-Range", spans[0].field(size)), *common]
        await exchange.begin(206, partial, spans[0].length)
        await _send(site, exchange, opened, spans[0])
    else:
        await _answer_spans(site, exchange, opened, spans, [*common, content_type])
    await exchange.end()


async def _answer_spans(
    site: Site,
    exchange: Exchange,
    opened: Opened,
    spans: list[Span],
    fields: list[tuple[str, str]],
) -> None:
    """Send several ranges as ``multipart/byteranges`` (RFC 9110 §14.6)."""
    boundary = site.new_id()
    size, content_type = opened.version.size_bytes, fields[-1][1]
    heads = [
        (
            f"\r\n--{boundary}\r\nContent-Type: {content_type}\r\n"
            f"Content-Range: {span.field(size)}\r\n\r\n"
        ).encode("latin-1")
        for span in spans
    ]
    tail = f"\r\n--{boundary}--\r\n".encode("latin-1")
    length = sum(map(len, heads)) + sum(span.length for span in spans) + len(tail)
    multipart = ("Content-Type", f"multipart/byteranges; boundary={boundary}")
    await exchange.begin(206, [*fields[:-1], multipart], length)
    for head, span in zip(heads, spans, strict=True):
        await exchange.write(head)
        await _send(site, exchange, opened, span)
    await exchange.write(tail)


async def _send(site: Site, exchange: Exchange, opened: Opened, span: Span) -> None:
    await exchange.send_file(
        opened.descriptor,
        span.start,
        span.length,
        pool=site.pool,
        block_bytes=site.settings.block_bytes,
    )


async def _answer_folder(site: Site, exchange: Exchange, resource: Resource) -> None:
    """Answer that it is a folder; a GET gets its names, one a line."""
    kind = [(KIND, "directory")]
    if exchange.head.method == "HEAD":
        await exchange.answer(200, headers=kind)
        return
    await exchange.begin(200, [*kind, ("Content-Type", "text/plain; charset=utf-8")])
    async for batch in listing(site, resource.parts):
        lines = "".join(f"{item.name}{'/' if item.is_directory else ''}\n" for item in batch)
        await exchange.write(lines.encode("utf-8"))
    await exchange.end()


async def listing(site: Site, parts: Parts) -> AsyncIterator[list[Found]]:
    """Give the content of a folder in batches, so that memory does not grow with it.

    Raises:
        HttpRefusal: 404, it is no folder.
    """
    entries = site.tree.entries(parts)
    try:
        while batch := await site.io(_take, entries):
            yield batch
    except NotADirectoryError as error:
        raise HttpRefusal(404) from error
    finally:
        await site.io(entries.close)


def _take(entries: Generator[Found, None, None]) -> list[Found]:
    return [item for _, item in zip(range(LISTED_AT_ONCE), entries, strict=False)]
