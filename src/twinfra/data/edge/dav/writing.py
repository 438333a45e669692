"""PUT, DELETE and MKCOL: what arrives whole and right becomes visible, and only then.

Disk and inventory change under one hold of the path, which nothing cancels half way.
"""

import errno
from collections.abc import Mapping

from twinfra.access.model import Principal
from twinfra.data.edge.dav import conditions, digests
from twinfra.data.edge.files.checksums import as_mapping, differing
from twinfra.data.edge.files.draft import Draft
from twinfra.data.edge.files.tree import Found, Parts, Tree
from twinfra.data.edge.inventory.changes import FilePut, FolderMade, Removed
from twinfra.data.edge.model import Checksums, Version
from twinfra.data.edge.paths import Resource
from twinfra.data.edge.site import Site
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.edge.wire.exchange import Exchange


async def put(site: Site, exchange: Exchange, resource: Resource) -> None:
    """Answer a PUT: 201 for a new file, 200 for one that replaced another.

    (204 would do too, but Rucio's client takes it for a failure.)
    """
    principal = await site.identify(exchange)
    headers = exchange.head.headers
    _refuse_parts(headers)
    replace = may_replace(site, principal, resource)
    promised = digests.promised(headers)
    site.check_room(exchange.body.length)
    await check_target(site, resource, headers, replace=replace)
    async with Draft(site.tree, site.pool, site.new_id()) as draft:
        limit = site.settings.max_upload_bytes
        async for block in exchange.body.blocks():
            await draft.write(block)
            if limit is not None and draft.size_bytes > limit:
                raise HttpRefusal(413, f"a file may have {limit} bytes here")
        checksums = draft.checksums()
        refuse_mismatch(promised, checksums)
        version, replaced = await site.unbroken(
            commit(site, draft, resource, headers, replace=replace)
        )
    fields = [("ETag", version.etag), *digests.answers(headers, checksums)]
    await exchange.answer(200 if replaced else 201, headers=fields)


def may_replace(site: Site, principal: Principal, resource: Resource) -> bool:
    """Say whether `principal` may also replace a file, after letting them make one.

    Raises:
        ScopeMissing: not even that.
    """
    if site.authorizer.permits(principal, "modify", resource.path):
        site.require(principal, "modify", resource.path)
        return True
    site.require(principal, "create", resource.path)
    return False


async def check_target(
    site: Site, resource: Resource, headers: Mapping[str, str], *, replace: bool
) -> None:
    """Refuse early what could not become visible in the end.

    Raises:
        HttpRefusal: 403, 405, 409 or 412.
    """
    await site.io(_check_target, site.tree, resource, headers, replace)


def _check_target(
    tree: Tree, resource: Resource, headers: Mapping[str, str], replace: bool
) -> None:
    if resource.slash or not resource.parts:
        raise HttpRefusal(409 if resource.parts else 405, "a file's path does not end in a slash")
    try:
        found: Found | None = tree.find(resource.parts)
    except FileNotFoundError:
        found = None
    except NotADirectoryError as error:
        raise HttpRefusal(409, "a part of the path is a file") from error
    if found is not None and found.is_directory:
        raise HttpRefusal(405, "a directory is there")
    conditions.check(headers, found.version if found else None, reading=False)
    if found is not None and not replace:
        raise HttpRefusal(403, "a file is there, and the token does not allow to replace it")


def refuse_mismatch(promised: Mapping[str, str], actual: Checksums) -> None:
    """Let content pass that is what was promised.

    Raises:
        HttpRefusal: 400, in dCache's words.
    """
    name = differing(promised, actual)
    if name is not None:
        raise HttpRefusal(
            400,
            f"Checksum mismatch ({name}: expected={promised[name]}, "
            f"actual={as_mapping(actual)[name]})",
        )


async def commit(
    site: Site, draft: Draft, resource: Resource, headers: Mapping[str, str], *, replace: bool
) -> tuple[Version, bool]:
    """Let `draft` appear at `resource`, with its folders, and record both.

    Returns:
        The file's version, and whether it replaced another.

    Raises:
        HttpRefusal: 403, 405, 409 or 412; nothing became visible.
    """
    async with site.inventory.changing(resource.path):
        made, version, replaced = await site.io(
            _place, site.tree, draft, resource, headers, replace
        )
        await site.inventory.record(
            *(FolderMade(Resource(parts).path) for parts in made),
            FilePut(resource.path, version, draft.checksums()),
        )
    return version, replaced


def _place(
    tree: Tree, draft: Draft, resource: Resource, headers: Mapping[str, str], replace: bool
) -> tuple[list[Parts], Version, bool]:
    """Make the folders of a draft and let it appear; one piece of work for one thread."""
    only_new = headers.get("if-none-match", "").strip() == "*"
    _check_target(tree, resource, headers, replace)
    try:
        made = tree.make_folders(resource.parts[:-1])
        version, replaced = draft.publish(resource.parts, replace=replace and not only_new)
    except FileExistsError as error:
        raise HttpRefusal(412 if only_new else 403, "a file is there") from error
    except (NotADirectoryError, FileNotFoundError) as error:
        raise HttpRefusal(409, "a part of the path is no directory") from error
    return made, version, replaced


async def delete(site: Site, exchange: Exchange, resource: Resource) -> None:
    """Answer a DELETE: a file, or a folder with all that is in it."""
    principal = await site.identify(exchange)
    site.require(principal, "modify", resource.path)
    if exchange.head.headers.get("depth", "infinity").lower() != "infinity":
        raise HttpRefusal(400, "a folder is deleted whole: Depth is infinity")
    found: Found = await site.io(site.tree.find, resource.parts)
    if resource.slash and not found.is_directory:
        raise HttpRefusal(404)
    conditions.check(exchange.head.headers, found.version, reading=False)
    await site.unbroken(_remove(site, resource))
    await exchange.answer(204)


async def _remove(site: Site, resource: Resource) -> None:
    async with site.inventory.changing(resource.path):
        await site.io(site.tree.remove, resource.parts)
        await site.inventory.record(Removed(resource.path))


async def mkcol(site: Site, exchange: Exchange, resource: Resource) -> None:
    """Answer a MKCOL: one folder, whose parent is there."""
    principal = await site.identify(exchange)
    site.require(principal, "make_folder", resource.path)
    if exchange.head.has_body:
        raise HttpRefusal(415, "MKCOL takes no body here")
    await site.unbroken(_make_folder(site, resource))
    await exchange.answer(201)


async def _make_folder(site: Site, resource: Resource) -> None:
    async with site.inventory.changing(resource.path):
        try:
            await site.io(site.tree.make_folder, resource.parts)
        except FileExistsError as error:
            raise HttpRefusal(405, "it is there") from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise HttpRefusal(409, "its parent is not there") from error
        await site.inventory.record(FolderMade(resource.path))


def refusal_of(error: OSError) -> HttpRefusal:
    """Return how the edge answers an error of the file system."""
    answers = {
        errno.ENOENT: (404, "there is no such file"),
        errno.ENOTDIR: (404, "there is no such file"),
        errno.EISDIR: (405, "it is a directory"),
        errno.EEXIST: (412, "it is there"),
        errno.ENOTEMPTY: (409, "the folder is being filled"),
        errno.EACCES: (403, "the file system forbids it"),
        errno.EPERM: (403, "it is not allowed"),
        errno.EROFS: (403, "the file system is read-only"),
        errno.EINVAL: (403, "it cannot be moved or copied into itself"),
        errno.EXDEV: (502, "it lies on another file system"),
        errno.ENAMETOOLONG: (414, "the name is too long"),
        errno.ENOSPC: (507, "the disk is full"),
        errno.EDQUOT: (507, "the quota is full"),
        errno.EFBIG: (507, "the file is too big for this file system"),
        errno.EMFILE: (503, "too much at once"),
        errno.ENFILE: (503, "too much at once"),
    }
    number = error.errno or (errno.ENOENT if isinstance(error, FileNotFoundError) else 0)
    status, text = answers.get(number, (500, "the file system failed"))
    return HttpRefusal(status, text)


def _refuse_parts(headers: Mapping[str, str]) -> None:
    """Refuse a PUT that would be taken for something else than it is (RFC 9110 §14.5)."""
    if "content-range" in headers:
        raise HttpRefusal(400, "a part of a file cannot be put (Content-Range)")
    if headers.get("content-encoding", "identity").lower() != "identity":
        raise HttpRefusal(415, "files are stored as they are (Content-Encoding)")
