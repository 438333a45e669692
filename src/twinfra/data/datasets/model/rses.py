"""Storages: protocols, attributes, distances, and where a file stands at one of them.

Pure. A path is kept per replica only where it is not what the storage's naming gives; URLs are
made anew from the protocol each time, so that a moved door moves all its files.

Source: Rucio RSE settings; lfn2pfn ``hash`` and ``identity``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from twinfra.data.datasets.errors import InvalidObject, InvalidPath, ProtocolNotSupported
from twinfra.data.datasets.model.names import Did

WAN, LAN = "wan", "lan"
OPERATIONS = ("read", "write", "delete", "third_party_copy_read", "third_party_copy_write")
SAME_SCHEMES = {"davs": "https", "dav": "http"}
DEFAULT_PORTS = {"https": 443, "http": 80, "davs": 443, "dav": 80, "root": 1094}
LFN2PFN, BASE_PATH, AUDIENCE = "lfn2pfn_algorithm", "oidc_base_path", "token_audience"
IDENTITY, HASH = "identity", "hash"
DISK, TAPE = "DISK", "TAPE"


@dataclass(frozen=True, slots=True)
class Protocol:
    """One door of a storage.

    ``domains`` maps ``lan`` and ``wan`` to a priority an operation; 0 or none switches it off.
    """

    scheme: str
    hostname: str
    port: int
    prefix: str
    impl: str = ""
    domains: Mapping[str, Mapping[str, int | None]] = field(default_factory=dict)
    extended_attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        """Return ``scheme://host:port``."""
        return f"{self.scheme}://{self.hostname}:{self.port}"

    def priority(self, operation: str, domain: str = WAN) -> int:
        """Return the priority of an operation, 1 best; 0: this door does not offer it."""
        return int((self.domains.get(domain) or {}).get(operation) or 0)

    def url(self, path: str) -> str:
        """Return the URL of an absolute, decoded `path` at this door."""
        return self.origin + quote(path)

    def path_of(self, pfn: str) -> str | None:
        """Return the decoded path of `pfn` if it is at this door, else none."""
        try:
            parts = urlsplit(pfn)
            port = parts.port
        except ValueError:
            return None
        scheme = SAME_SCHEMES.get(parts.scheme, parts.scheme)
        own = SAME_SCHEMES.get(self.scheme, self.scheme)
        same_host = (parts.hostname or "").lower() == self.hostname.lower()
        same_port = (port or DEFAULT_PORTS.get(parts.scheme)) == self.port
        if scheme != own or not same_host or not same_port or parts.query or parts.fragment:
            return None
        return unquote(parts.path)


@dataclass(frozen=True, slots=True)
class Rse:
    """A storage with its attributes and doors."""

    id: str
    name: str
    rse_type: str = DISK
    deterministic: bool = True
    volatile: bool = False
    staging_area: bool = False
    availability_read: bool = True
    availability_write: bool = True
    availability_delete: bool = True
    attributes: Mapping[str, Any] = field(default_factory=dict)
    protocols: Sequence[Protocol] = ()
    place: Mapping[str, Any] = field(default_factory=dict)
    """City, country, latitude and the like, as given; shown, not used."""

    @property
    def site(self) -> str:
        """Return the site that this storage belongs to; its own name in lower case by default."""
        return str(self.attributes.get("site") or self.name.lower())

    def doors(
        self, operation: str, domain: str = WAN, schemes: Sequence[str] | None = None
    ) -> list[Protocol]:
        """Return the protocols that offer `operation`, best first."""
        offered = [
            one
            for one in self.protocols
            if one.priority(operation, domain) and (not schemes or one.scheme in schemes)
        ]
        return sorted(offered, key=lambda one: (one.priority(operation, domain), one.scheme))

    def path_at(self, did: Did, door: Protocol, path: str | None) -> str:
        """Return the path of a file at `door`: its own, or what the naming gives."""
        return path if path is not None else door.prefix + self.relative_path(did)

    def pfn(self, did: Did, path: str | None = None, operation: str = "read") -> str:
        """Return the URL for `operation` on a file here.

        Raises:
            ProtocolNotSupported: no door offers the operation.
        """
        doors = self.doors(operation)
        if not doors:
            raise ProtocolNotSupported(f"{self.name} has no protocol for {operation}")
        return doors[0].url(self.path_at(did, doors[0], path))

    def relative_path(self, did: Did) -> str:
        """Return where the naming puts a file below a prefix.

        A scope that starts with ``user`` or ``group`` has its dots turned into slashes.
        """
        scope = did.scope
        if scope.startswith(("user", "group")):
            scope = scope.replace(".", "/")
        if self.attributes.get(LFN2PFN, IDENTITY) == HASH:
            digest = hashlib.md5(str(did).encode(), usedforsecurity=False).hexdigest()
            return f"{scope}/{digest[:2]}/{digest[2:4]}/{did.name}"
        return f"{scope}/{did.name}"

    def kept_path(self, did: Did, pfn: str) -> str | None:
        """Return the path to keep for a file registered with `pfn`; none where naming gives it.

        Raises:
            InvalidPath: the PFN is at none of this storage's doors, or its path is not plain.
        """
        for door in self.protocols:
            path = door.path_of(pfn)
            if path is None:
                continue
            if not path.startswith("/") or any(p in {"", ".", ".."} for p in path[1:].split("/")):
                raise InvalidPath(f"the path of {pfn!r} is not plain")
            return None if path == door.prefix + self.relative_path(did) else path
        raise InvalidPath(f"{pfn!r} is at none of the doors of {self.name}")


def token_target(rse: Rse, url: str) -> tuple[str, str]:
    """Return audience and path that a token for `url` at `rse` names.

    The audience is the attribute ``token_audience``, else the URL's own origin; the path is the one
    below ``oidc_base_path``.
    """
    parts = urlsplit(url)
    scheme = SAME_SCHEMES.get(parts.scheme, parts.scheme)
    audience = str(rse.attributes.get(AUDIENCE) or f"{scheme}://{parts.netloc}")
    path, base = unquote(parts.path), str(rse.attributes.get(BASE_PATH) or "").rstrip("/")
    if base and (path == base or path.startswith(base + "/")):
        path = path[len(base) :] or "/"
    return audience, path


def common_folder(paths: Sequence[str]) -> str:
    """Return the deepest folder that holds all `paths`; of one path, its parent."""
    parents = [path.split("/")[:-1] for path in paths]
    shared: list[str] = []
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return "/".join(shared) or "/"


def check_protocol(protocol: Protocol) -> Protocol:
    """Return `protocol` if a storage may have it.

    Raises:
        InvalidObject: a part is missing, or the prefix is no absolute folder.
    """
    if not protocol.hostname or not protocol.scheme:
        raise InvalidObject("a protocol needs a scheme and a host name")
    if not 0 <= protocol.port <= 65535:
        raise InvalidObject(f"port {protocol.port} does not exist")
    if not protocol.prefix.startswith("/") or not protocol.prefix.endswith("/"):
        raise InvalidObject(f"prefix {protocol.prefix!r} does not begin and end with a slash")
    for domain, operations in protocol.domains.items():
        if domain not in {WAN, LAN} or set(operations) - set(OPERATIONS):
            raise InvalidObject(f"domain {domain!r} or one of its operations does not exist")
    return protocol
