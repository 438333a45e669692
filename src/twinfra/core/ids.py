"""Identifiers: the only place that draws them."""

import uuid


def new_uuid() -> str:
    """Return a new random UUID in its 8-4-4-4-12 lower-case form (RFC 9562 §5.4)."""
    return str(uuid.uuid4())


def derived_uuid(*parts: str) -> str:
    """Return the UUID that these parts always give, for keys that must come out the same again.

    Source: RFC 9562 §5.5 (name-based, SHA-1).
    """
    return str(uuid.uuid5(uuid.NAMESPACE_URL, "\x1f".join(("twinfra", *parts))))


def uuid_in(namespace: str, name: str) -> str:
    """Return the UUID of `name` in `namespace` (a UUID), always the same.

    Source: RFC 9562 §5.5.
    """
    return str(uuid.uuid5(uuid.UUID(namespace), name))
