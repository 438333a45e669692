"""From the target of a request to the path of a file; pure, and strict about every trick.

A path is a tuple of plain components: decoded once, UTF-8, without ``..``, ``.``, NUL or an encoded
slash. What is below it on the disk, symbolic links above all, is ``files.tree``'s business.
"""

from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

from twinfra.data.edge.wire.errors import HttpRefusal

DAV = "/dav"
OWN = ".twinfra"  # top-level folder of ours: drafts and the lock; nobody sees it
PLAIN = "/~!$&'()*+,;=:@"


@dataclass(frozen=True, slots=True)
class Resource:
    """What a request names.

    Attributes:
        parts: components of the path below ``/dav``; none for the root.
        slash: whether the target ended in a slash, which only a directory may.
    """

    parts: tuple[str, ...]
    slash: bool = False

    @property
    def path(self) -> str:
        """The path below ``/dav``, as scopes, events and the inventory spell it."""
        return "/" + "/".join(self.parts)

    @property
    def parent(self) -> "Resource":
        """The directory that holds it."""
        return Resource(self.parts[:-1], slash=True)

    def href(self, *, directory: bool = False) -> str:
        """Return the path of its URL, percent-encoded; directories end in a slash."""
        whole = quote(DAV + self.path, safe=PLAIN).rstrip("/")
        return whole + "/" if directory else whole


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Return path and query of a request target, which may be a whole URL (RFC 9112 §3.2).

    Raises:
        HttpRefusal: 400, it is none of a path and a URL.
    """
    lowered = target[:8].lower()
    if lowered.startswith((b"http://", b"https://")):
        target = b"/" + target.split(b"://", 1)[1].partition(b"/")[2]
    if not target.startswith(b"/"):
        raise HttpRefusal(400, "the request target is not a path")
    if b"#" in target:
        raise HttpRefusal(400, "a fragment has no place in a request")
    path, _, query = target.partition(b"?")
    return path, query


def resource_of(path: bytes) -> Resource | None:
    """Return what `path` of a URL names below ``/dav``; none if it is elsewhere.

    Raises:
        HttpRefusal: 400 for what is not well formed, 403 for a path that climbs.
    """
    root = DAV.encode()
    if path != root and not path.startswith(root + b"/"):
        return None
    rest = path[len(root) :]
    parts = [_component(raw) for raw in rest.split(b"/") if raw]
    if parts and parts[0] == OWN:
        raise HttpRefusal(403, "this name is reserved")
    return Resource(tuple(parts), slash=rest.endswith(b"/") or not rest)


def resource_at(path: str) -> Resource:
    """Return the resource at a path below ``/dav`` that the inventory spells."""
    return Resource(tuple(part for part in path.split("/") if part))


def _component(raw: bytes) -> str:
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError as error:
        raise HttpRefusal(400, "the path is not UTF-8") from error
    if "/" in text or "\0" in text:
        raise HttpRefusal(400, "the path holds an encoded slash or NUL")
    if text in {".", ".."}:
        raise HttpRefusal(403, "the path climbs")
    return text
