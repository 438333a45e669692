"""Where a MOVE or COPY goes: here, or to another storage; pure."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from twinfra.data.edge.paths import Resource, resource_of, split_target
from twinfra.data.edge.wire.errors import HttpRefusal

PORTS = {"https": 443, "http": 80}
ALIASES = {"davs": "https", "dav": "http"}
MAX_URL_CHARS = 8192


@dataclass(frozen=True, slots=True)
class RemoteUrl:
    """A file at another storage.

    Attributes:
        scheme: ``https`` or ``http``.
        host: lower case.
        port: given or the scheme's own.
        path: still percent-encoded, with its query.
    """

    scheme: str
    host: str
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def parse_url(text: str) -> RemoteUrl:
    """Return the URL of a file, as strictly as what may be connected to deserves.

    Raises:
        HttpRefusal: 400, it is none, or names a user, or a scheme that is not HTTP.
    """
    if len(text) > MAX_URL_CHARS or any(ord(char) <= 32 or ord(char) == 127 for char in text):
        raise HttpRefusal(400, "this is no URL")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise HttpRefusal(400, "this is no URL") from error
    scheme = ALIASES.get(parts.scheme.lower(), parts.scheme.lower())
    if scheme not in PORTS:
        raise HttpRefusal(400, "only http(s) and dav(s) URLs are copied from and to")
    if not parts.hostname or "@" in parts.netloc or "\\" in text or parts.fragment:
        raise HttpRefusal(400, "a URL here has a host, and no user or fragment")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return RemoteUrl(scheme, parts.hostname.lower(), port or PORTS[scheme], path)


def parse_destination(text: str, own: frozenset[str]) -> Resource | RemoteUrl:
    """Return where `text` points.

    Args:
        text: value of a ``Destination`` field: a URL or a path.
        own: our own ``host:port`` names.

    Raises:
        HttpRefusal: 400 for what is no destination, 403 for a path that climbs, 404 for one of ours
            that is not below ``/dav``.
    """
    if text.startswith("/") and not text.startswith("//"):
        return _own(text)
    url = parse_url(text)
    return _own(url.path) if f"{url.host}:{url.port}" in own else url


def own_names(base_url: str, host: str | None) -> frozenset[str]:
    """Return the ``host:port`` names a client may know us by: our own, and what it calls us."""
    base = parse_url(base_url)
    names = {f"{base.host}:{base.port}"}
    if host:
        try:
            called = parse_url(f"{base.scheme}://{host}/")
        except HttpRefusal:
            return frozenset(names)
        names.add(f"{called.host}:{called.port}")
    return frozenset(names)


def _own(text: str) -> Resource:
    path, _ = split_target(text.encode("utf-8"))
    resource = resource_of(path)
    if resource is None:
        raise HttpRefusal(404, "files are below /dav/ here")
    return resource
