"""PROPFIND of a file, or of a folder and what is in it; PROPPATCH, which changes nothing here.

A listing is sent as it is read: memory does not grow with the folder.
"""

import os

from twinfra.data.edge.dav.properties import (
    CHECKSUM_NAMES,
    HEAD,
    TAIL,
    XML,
    Described,
    refused_response,
    response,
)
from twinfra.data.edge.dav.reading import Opened, checksums_of, listing
from twinfra.data.edge.dav.xml_bodies import DAV, Asked, parse_propfind, parse_proppatch
from twinfra.data.edge.files.checksums import read_note, version_of
from twinfra.data.edge.files.tree import Found
from twinfra.data.edge.model import Checksums, Known
from twinfra.data.edge.paths import Resource
from twinfra.data.edge.site import Site
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.edge.wire.exchange import Exchange

FINITE = '<?xml version="1.0"?><D:error xmlns:D="DAV:"><D:propfind-finite-depth/></D:error>'
QUOTAS = frozenset({(DAV, "quota-available-bytes"), (DAV, "quota-used-bytes")})


async def propfind(site: Site, exchange: Exchange, resource: Resource) -> None:
    """Answer a PROPFIND of Depth 0 or 1."""
    principal = await site.identify(exchange)
    depth = exchange.head.headers.get("depth", "infinity").lower()
    site.require(principal, "stat", resource.path)
    asked = parse_propfind(await exchange.body.read(site.settings.max_xml_bytes))
    if depth not in {"0", "1"}:
        await exchange.answer(403, FINITE, content_type=XML)
        return
    found: Found = await site.io(site.tree.find, resource.parts)
    if resource.slash and not found.is_directory:
        raise HttpRefusal(404)
    deep = depth == "1" and found.is_directory
    if deep:
        site.require(principal, "list", resource.path)
    told = found if resource.parts else Found("dav", None, found.modified_ns)
    checksums = None
    if CHECKSUM_NAMES & set(asked.names) and found.version is not None:
        checksums = await _checksums(site, resource)
    room = None
    if found.is_directory and QUOTAS & set(asked.names):
        room = await site.io(lambda: (site.tree.free_bytes(), site.tree.used_bytes()))
    first = HEAD + response(Described(resource, told, checksums, room), asked).encode()
    if not deep:
        await exchange.answer(207, first + TAIL, content_type=XML)
        return
    await exchange.begin(207, [("Content-Type", XML)])
    await exchange.write(first)
    await _list(site, exchange, resource, asked)
    await exchange.write(TAIL)
    await exchange.end()


async def _list(site: Site, exchange: Exchange, resource: Resource, asked: Asked) -> None:
    known: dict[str, Known] = {}
    if CHECKSUM_NAMES & set(asked.names):
        known = await site.inventory.children(resource.path)
    async for batch in listing(site, resource.parts):
        text = "".join(response(_described(resource, item, known), asked) for item in batch)
        await exchange.write(text.encode("utf-8", "replace"))


def _described(folder: Resource, item: Found, known: dict[str, Known]) -> Described:
    resource = Resource((*folder.parts, item.name))
    entry = known.get(resource.path) if known else None
    fits = entry is not None and entry.version == item.version
    return Described(resource, item, entry.checksums if entry and fits else None)


async def _checksums(site: Site, resource: Resource) -> Checksums | None:
    descriptor, found = await site.io(site.tree.open, resource.parts)
    try:
        version = version_of(found)
        noted = read_note(descriptor, version)
        if noted is not None:
            return noted
        return await checksums_of(site, Opened(descriptor, version, None), resource.path)
    finally:
        os.close(descriptor)


async def proppatch(site: Site, exchange: Exchange, resource: Resource) -> None:
    """Answer a PROPPATCH: every property here is made by the edge, so none can be changed."""
    principal = await site.identify(exchange)
    site.require(principal, "modify", resource.path)
    asked = parse_proppatch(await exchange.body.read(site.settings.max_xml_bytes))
    found: Found = await site.io(site.tree.find, resource.parts)
    text = refused_response(resource, asked.names, directory=found.is_directory)
    await exchange.answer(207, HEAD + text.encode() + TAIL, content_type=XML)
