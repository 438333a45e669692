"""MOVE, and COPY within the site; copies between sites are in ``copying``."""

import os
from collections.abc import Iterator

from twinfra.access.model import Principal
from twinfra.data.edge.dav import conditions
from twinfra.data.edge.dav.destination import RemoteUrl, own_names, parse_destination
from twinfra.data.edge.dav.writing import commit
from twinfra.data.edge.files.draft import Draft
from twinfra.data.edge.files.tree import Found, Parts
from twinfra.data.edge.inventory.changes import FolderMade, Moved, Removed
from twinfra.data.edge.paths import Resource
from twinfra.data.edge.site import Site
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.edge.wire.exchange import Exchange


def destination_of(site: Site, exchange: Exchange) -> Resource | RemoteUrl:
    """Return where the request's ``Destination`` points.

    Raises:
        HttpRefusal: 400, there is none or it is no URL.
    """
    text = exchange.head.headers.get("destination")
    if not text:
        raise HttpRefusal(400, "a Destination is needed")
    found = parse_destination(text, own_names(site.base_url, exchange.head.headers.get("host")))
    return Resource(found.parts) if isinstance(found, Resource) else found


def overwrites(exchange: Exchange) -> bool:
    """Say whether what is at the target may be replaced (RFC 4918 §10.6).

    Raises:
        HttpRefusal: 400, the field is neither T nor F.
    """
    value = exchange.head.headers.get("overwrite", "T").upper()
    if value not in {"T", "F"}:
        raise HttpRefusal(400, "Overwrite is T or F")
    return value == "T"


async def move(site: Site, exchange: Exchange, resource: Resource) -> None:
    """Answer a MOVE: 201, or 204 if something was replaced."""
    principal = await site.identify(exchange)
    target = destination_of(site, exchange)
    if isinstance(target, RemoteUrl):
        raise HttpRefusal(502, "a move stays within this storage; copy and delete instead")
    site.require(principal, "create", resource.path)
    replace = overwrites(exchange)
    found: Found = await site.io(site.tree.find, resource.parts)
    if resource.slash and not found.is_directory:
        raise HttpRefusal(404)
    conditions.check(exchange.head.headers, found.version, reading=False)
    there = await _find_target(site, target)
    _allow_target(site, principal, target, there, replace=replace)
    await site.unbroken(_move(site, resource, target, replace=replace))
    await exchange.answer(204 if there else 201)


async def _move(site: Site, source: Resource, target: Resource, *, replace: bool) -> None:
    async with site.inventory.changing(source.path, target.path):
        try:
            await site.io(_rename, site, source.parts, target.parts, replace)
        except FileExistsError as error:
            raise HttpRefusal(412, "something is at the destination") from error
        except NotADirectoryError as error:
            raise HttpRefusal(409, "the destination's parent is no directory") from error
        except FileNotFoundError as error:
            await _refuse_missing_parent(site, target, error)
            raise
        await site.inventory.record(Moved(source.path, target.path, site.new_id()))


def _rename(site: Site, source: Parts, target: Parts, replace: bool) -> None:
    site.tree.rename(source, target, replace=replace)


async def copy_here(
    site: Site, exchange: Exchange, resource: Resource, target: Resource, principal: Principal
) -> None:
    """Answer a COPY within the site: 201, or 204 if something was replaced."""
    site.require(principal, "read", resource.path)
    depth = exchange.head.headers.get("depth", "infinity").lower()
    if depth not in {"0", "infinity"}:
        raise HttpRefusal(400, "a copy's Depth is 0 or infinity")
    replace = overwrites(exchange)
    found: Found = await site.io(site.tree.find, resource.parts)
    if resource.slash and not found.is_directory:
        raise HttpRefusal(404)
    if target.parts[: len(resource.parts)] == resource.parts:
        raise HttpRefusal(403, "it cannot be copied into itself")
    there = await _find_target(site, target)
    _allow_target(site, principal, target, there, replace=replace)
    if there is not None and (there.is_directory or found.is_directory):
        await site.unbroken(_remove(site, target))
    if found.is_directory:
        await _copy_folder(site, resource, target, deep=depth == "infinity")
    else:
        await _copy_file(site, resource.parts, target)
    await exchange.answer(204 if there else 201)


async def _find_target(site: Site, target: Resource) -> Found | None:
    if not target.parts:
        raise HttpRefusal(403, "the root stays")
    try:
        found: Found = await site.io(site.tree.find, target.parts)
    except NotADirectoryError as error:
        raise HttpRefusal(409, "the destination's parent is no directory") from error
    except FileNotFoundError as error:
        await _refuse_missing_parent(site, target, error)
        return None
    return found


async def _refuse_missing_parent(site: Site, target: Resource, error: OSError) -> None:
    try:
        await site.io(site.tree.find, target.parent.parts)
    except (FileNotFoundError, NotADirectoryError):
        raise HttpRefusal(409, "the destination's parent is not there") from error


def _allow_target(
    site: Site, principal: Principal, target: Resource, there: Found | None, *, replace: bool
) -> None:
    if there is None:
        site.require(principal, "create", target.path)
        return
    if not replace:
        raise HttpRefusal(412, "something is at the destination")
    site.require(principal, "modify", target.path)


async def _remove(site: Site, resource: Resource) -> None:
    async with site.inventory.changing(resource.path):
        await site.io(site.tree.remove, resource.parts)
        await site.inventory.record(Removed(resource.path))


async def _copy_folder(site: Site, source: Resource, target: Resource, *, deep: bool) -> None:
    await site.unbroken(_make_folder(site, target))
    if not deep:
        return
    children: list[Found] = await site.io(lambda: list(site.tree.entries(source.parts)))
    for child in children:
        below = Resource((*target.parts, child.name))
        origin = (*source.parts, child.name)
        if child.is_directory:
            await _copy_folder(site, Resource(origin), below, deep=True)
        else:
            await _copy_file(site, origin, below)


async def _make_folder(site: Site, resource: Resource) -> None:
    async with site.inventory.changing(resource.path):
        try:
            await site.io(site.tree.make_folder, resource.parts)
        except FileNotFoundError as error:
            raise HttpRefusal(409, "the destination's parent is not there") from error
        await site.inventory.record(FolderMade(resource.path))


async def _copy_file(site: Site, source: Parts, target: Resource) -> None:
    descriptor, found = await site.io(site.tree.open, source)
    try:
        site.check_room(found.st_size)
        async with Draft(site.tree, site.pool, site.new_id()) as draft:
            for offset in _offsets(found.st_size, site.settings.block_bytes):
                block = await site.io(os.pread, descriptor, site.settings.block_bytes, offset)
                await draft.write(block)
            if draft.size_bytes != found.st_size:
                raise HttpRefusal(409, "the file changed while it was copied")
            await site.unbroken(commit(site, draft, target, {}, replace=True))
    finally:
        os.close(descriptor)


def _offsets(size: int, step: int) -> Iterator[int]:
    return iter(range(0, size, step))
