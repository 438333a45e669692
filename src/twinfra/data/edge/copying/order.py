"""What a COPY request orders: the other storage, what to send it, and how sure to be; pure.

Source: HTTP-TPC of the WLCG DOMA group; RFC 4918 §9.8.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from twinfra.data.edge.dav import digests
from twinfra.data.edge.dav.destination import RemoteUrl
from twinfra.data.edge.wire.errors import HttpRefusal

PREFIX = "transferheader"
_TOKEN = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,128}")
_KEPT = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "expect",
        "host",
        "if-range",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)  # the connection to the peer is ours to manage


@dataclass(frozen=True)
class CopyOrder:
    """One third-party copy.

    Attributes:
        remote: the file at the other storage.
        headers: to send there, from ``TransferHeader…``.
        overwrite: replace what is at the target.
        verify: fail unless both storages tell the same checksum; none: as the edge is set.
        promised: checksums that the content must have, by algorithm.
    """

    remote: RemoteUrl
    headers: Mapping[str, str]
    overwrite: bool
    verify: bool | None
    promised: Mapping[str, str]


def order_of(headers: Mapping[str, str], remote: RemoteUrl, *, overwrite: bool) -> CopyOrder:
    """Return what `headers` of a COPY order.

    Raises:
        HttpRefusal: 400, a field is not of its form, or asks for what is not offered.
    """
    if headers.get("credential", "none").lower() != "none":
        raise HttpRefusal(400, "only 'Credential: none' is offered; send a TransferHeader")
    verify = headers.get("requirechecksumverification")
    if verify is not None and verify.lower() not in {"true", "false"}:
        raise HttpRefusal(400, "RequireChecksumVerification is true or false")
    return CopyOrder(
        remote,
        forwarded(headers),
        overwrite,
        None if verify is None else verify.lower() == "true",
        digests.promised(headers),
    )


def forwarded(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers that are meant for the other storage.

    Raises:
        HttpRefusal: 400, one of them is not for a client to set.
    """
    found: dict[str, str] = {}
    for name, value in headers.items():
        if name.startswith(PREFIX) and len(name) > len(PREFIX):
            found[name.removeprefix(PREFIX)] = value
        elif name == "copy-header":
            field, _, content = value.partition(":")
            found[field.strip().lower()] = content.strip()
    for name in found:
        if not _TOKEN.fullmatch(name) or name in _KEPT:
            raise HttpRefusal(400, f"TransferHeader{name.title()} is not to be set")
    return found
