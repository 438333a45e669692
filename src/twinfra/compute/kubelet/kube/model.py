"""The fields of Kubernetes objects that we read; all else stays `Raw` or is left out.

A struct here decodes only what it names, so a list of ten thousand pods costs little. `Raw` is a
view on the answer it came in: who keeps one for long copies it (``Raw.copy``).

Source: Kubernetes API reference 1.36 (ObjectMeta, Pod, Node, Lease, TokenRequest).
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw

T = TypeVar("T")


class OwnerReference(msgspec.Struct, rename="camel", gc=False):
    """Who made an object."""

    kind: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    controller: bool | None = None


class Meta(msgspec.Struct, rename="camel", omit_defaults=True):
    """The metadata of an object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int | None = None
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None
    deletion_grace_period_seconds: int | None = None
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    finalizers: list[str] | None = None
    owner_references: list[OwnerReference] | None = None


class Thing(msgspec.Struct):
    """Any object, of which only the metadata matters."""

    metadata: Meta = msgspec.field(default_factory=Meta)


class RawThing(msgspec.Struct, rename="camel", omit_defaults=True):
    """Any object with a spec and a status, both unread."""

    metadata: Meta = msgspec.field(default_factory=Meta)
    api_version: str = ""
    kind: str = ""
    spec: Raw = msgspec.field(default_factory=lambda: Raw(b"null"))
    status: Raw = msgspec.field(default_factory=lambda: Raw(b"null"))


class Listing(msgspec.Struct, Generic[T]):
    """A page of a list, or the whole of it."""

    metadata: "ListMeta"
    items: list[T] | None = None


class ListMeta(msgspec.Struct, rename="camel"):
    """The metadata of a list: where a watch goes on, and the next page."""

    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class Change(StrEnum):
    """What a watch tells of an object."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


class WatchEvent(msgspec.Struct, Generic[T], gc=False):
    """One change; a bookmark's object has metadata only."""

    change: Change
    object: T


class Patch(StrEnum):
    """The ways to change an object, by content type."""

    STRATEGIC = "application/strategic-merge-patch+json"
    MERGE = "application/merge-patch+json"
    JSON = "application/json-patch+json"
    APPLY = "application/apply-patch+yaml"


class BoundToken(msgspec.Struct, rename="camel"):
    """A ServiceAccount's token for one audience, with the moment it ends."""

    token: str
    expiration_timestamp: datetime


class UserInfo(msgspec.Struct, rename="camel"):
    """Who an API server says that a caller is."""

    username: str = ""
    uid: str = ""
    groups: list[str] | None = None
    extra: dict[str, list[str]] | None = None

    def to_subject(self) -> Mapping[str, Any]:
        """Return the subject's fields of a ``SubjectAccessReviewSpec``."""
        return {
            "user": self.username,
            "uid": self.uid,
            "groups": self.groups or [],
            "extra": self.extra or {},
        }
