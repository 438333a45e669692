"""The properties of files and folders, and their spelling in a multi-status; pure.

Written by hand, since a listing of ten thousand files is mostly this. Checksums are told under the
names of dCache, StoRM and ownCloud, which clients of the field ask for.
"""

import base64
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from mimetypes import guess_type

from twinfra.data.edge.dav.conditions import http_date
from twinfra.data.edge.dav.xml_bodies import DAV, Asked, Name
from twinfra.data.edge.files.tree import Found
from twinfra.data.edge.model import Checksums
from twinfra.data.edge.paths import Resource

HEAD = b'<?xml version="1.0" encoding="utf-8"?>\n<D:multistatus xmlns:D="DAV:">\n'
TAIL = b"</D:multistatus>\n"
XML = "application/xml; charset=utf-8"
DCACHE = ("http://www.dcache.org/2013/webdav", "Checksums")
STORM = ("http://storm.italiangrid.org/2014/webdav", "Checksum")
OWNCLOUD = ("http://owncloud.org/ns", "checksums")
CHECKSUM_NAMES = frozenset({DCACHE, STORM, OWNCLOUD})
USUAL: tuple[Name, ...] = tuple(
    (DAV, local)
    for local in (
        "resourcetype",
        "displayname",
        "getcontentlength",
        "getcontenttype",
        "getetag",
        "getlastmodified",
        "supportedlock",
    )
)
ON_DEMAND: tuple[Name, ...] = (
    (DAV, "quota-available-bytes"),
    (DAV, "quota-used-bytes"),
    DCACHE,
    STORM,
    OWNCLOUD,
)
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Described:
    """What there is to tell about one file or folder.

    Attributes:
        resource: where it is.
        found: what it is.
        checksums: of a file, where they were asked for and are known.
        room: bytes free and taken, where they were asked for.
    """

    resource: Resource
    found: Found
    checksums: Checksums | None = None
    room: tuple[int, int] | None = None


def response(item: Described, asked: Asked) -> str:
    """Return the ``response`` element for one file or folder."""
    href = escape(item.resource.href(directory=item.found.is_directory))
    names = [*USUAL, *asked.names] if asked.kind == "allprop" else asked.names
    if asked.kind == "propname":
        known = [name for name in (*USUAL, *ON_DEMAND) if _value(name, item) is not None]
        parts = propstat("200 OK", [_element(name, "") for name in known])
        return f"<D:response><D:href>{href}</D:href>{parts}</D:response>\n"
    have, lack = [], []
    for name in dict.fromkeys(names):
        value = _value(name, item)
        if value is not None:
            have.append(_element(name, value))
        elif name in asked.names:
            lack.append(_element(name, ""))
    parts = propstat("200 OK", have) if have or not lack else ""
    if lack:
        parts += propstat("404 Not Found", lack)
    return f"<D:response><D:href>{href}</D:href>{parts}</D:response>\n"


def refused_response(resource: Resource, names: Sequence[Name], *, directory: bool) -> str:
    """Return the ``response`` element that refuses to change `names`."""
    href = escape(resource.href(directory=directory))
    parts = propstat(
        "403 Forbidden",
        [_element(name, "") for name in names],
        "<D:error><D:cannot-modify-protected-property/></D:error>",
    )
    return f"<D:response><D:href>{href}</D:href>{parts}</D:response>\n"


def propstat(status: str, elements: Sequence[str], more: str = "") -> str:
    """Return a ``propstat`` element."""
    return (
        f"<D:propstat><D:prop>{''.join(elements)}</D:prop>"
        f"<D:status>HTTP/1.1 {status}</D:status>{more}</D:propstat>"
    )


def _element(name: Name, content: str) -> str:
    namespace, local = name
    if namespace == DAV:
        tag, declared = f"D:{local}", ""
    else:
        tag, declared = local, f' xmlns="{escape(namespace)}"'
    return f"<{tag}{declared}>{content}</{tag}>" if content else f"<{tag}{declared}/>"


def _value(name: Name, item: Described) -> str | None:
    """Return the content of a property as XML; none if the item has no such property."""
    make = _MAKERS.get(name)
    return make(item) if make else None


def _content_length(item: Described) -> str | None:
    return str(item.found.version.size_bytes) if item.found.version else None


def _content_type(item: Described) -> str | None:
    if item.found.version is None:
        return None
    return escape(guess_type(item.found.name)[0] or "application/octet-stream")


def _etag(item: Described) -> str | None:
    return escape(item.found.version.etag, quote=False) if item.found.version else None


def _quota(index: int) -> Callable[[Described], str | None]:
    return lambda item: str(item.room[index]) if item.room else None


def _dcache_checksums(item: Described) -> str | None:
    if item.checksums is None:
        return None
    md5 = base64.b64encode(bytes.fromhex(item.checksums.md5)).decode()
    return f"md5={md5},adler32={item.checksums.adler32}"


def _owncloud_checksums(item: Described) -> str | None:
    if item.checksums is None:
        return None
    text = f"MD5:{item.checksums.md5} ADLER32:{item.checksums.adler32}"
    return f"<checksum>{text}</checksum>"


_MAKERS: dict[Name, Callable[[Described], str | None]] = {
    (DAV, "resourcetype"): lambda item: "<D:collection/>" if item.found.is_directory else "",
    (DAV, "displayname"): lambda item: escape(_NOT_XML.sub("\ufffd", item.found.name)),
    (DAV, "getcontentlength"): _content_length,
    (DAV, "getcontenttype"): _content_type,
    (DAV, "getetag"): _etag,
    (DAV, "getlastmodified"): lambda item: http_date(item.found.modified_ns),
    (DAV, "supportedlock"): lambda _: "",
    (DAV, "quota-available-bytes"): _quota(0),
    (DAV, "quota-used-bytes"): _quota(1),
    DCACHE: _dcache_checksums,
    STORM: lambda item: item.checksums.adler32 if item.checksums else None,
    OWNCLOUD: _owncloud_checksums,
}
