"""Checksums that a client asks for, promises, or is told: RFC 3230 and RFC 9530 on a request."""

from collections.abc import Mapping

from twinfra.data.edge.files.checksums import as_mapping
from twinfra.data.edge.model import Checksums
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.storage.digest_fields import (
    read_content_md5,
    read_digest,
    read_repr_digest,
    wanted,
    write_digest,
    write_repr_digest,
)

Fields = list[tuple[str, str]]


def asks(headers: Mapping[str, str]) -> bool:
    """Say whether the client wants to be told a checksum that we can make."""
    return bool(
        wanted(headers.get("want-digest", "")) or wanted(headers.get("want-repr-digest", ""))
    )


def answers(headers: Mapping[str, str], checksums: Checksums | None) -> Fields:
    """Return the fields that answer what the client wants to be told."""
    if checksums is None:
        return []
    have, fields = as_mapping(checksums), []
    if names := wanted(headers.get("want-digest", "")):
        fields.append(("Digest", write_digest({name: have[name] for name in names})))
    if names := wanted(headers.get("want-repr-digest", "")):
        fields.append(("Repr-Digest", write_repr_digest({name: have[name] for name in names})))
    return fields


def promised(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the checksums that the client says the content has.

    Raises:
        HttpRefusal: 400, a field is not of its form or two of them differ.
    """
    found: dict[str, str] = {}
    try:
        claims = [
            read_digest(headers.get("digest", "")),
            read_repr_digest(headers.get("repr-digest", "")),
            read_repr_digest(headers.get("content-digest", "")),
        ]
        if "content-md5" in headers:
            claims.append({"md5": read_content_md5(headers["content-md5"])})
    except ValueError as error:
        raise HttpRefusal(400, f"bad checksum field: {error}") from error
    for claim in claims:
        for name, value in claim.items():
            if found.setdefault(name, value) != value:
                raise HttpRefusal(400, f"the {name} is given twice and differs")
    return found
