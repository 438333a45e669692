"""What is subscribed to and what a trigger wants: filters, documents and their rules; pure.

No clock, no ids, no I/O: those come as arguments. ``service.py`` keeps and serves these values.
"""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from twinfra.core.bus import OWN, Event
from twinfra.core.errors import InsufficientScope, InvalidRequest
from twinfra.core.time import parse_rfc3339, rfc3339

STORAGE_CREATED = "org.twinfra.storage.created"
ACTIVE, DISABLED = "active", "disabled"
MAX_TYPES = 32
FAMILIES = frozenset(
    {"storage", "dataset", "replica", "rule", "transfer", "job", "deployment", "site", "accounting"}
)
"""First words of our own types after ``org.twinfra.``, on which their subjects begin."""
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class EventFilter:
    """Which events of the wanted types are meant; an empty field lets all pass.

    ``path_prefix`` and ``subject_prefix`` are compared by whole path components.
    """

    site: str | None = None
    path_prefix: str | None = None
    dataset: str | None = None
    subject_prefix: str | None = None

    def admits(self, event: Event) -> bool:
        """Say whether `event` passes."""
        data = event.data if isinstance(event.data, Mapping) else {}
        if self.site is not None and self.site not in {event.site, data.get("site")}:
            return False
        if self.path_prefix is not None and not below(data.get("path"), self.path_prefix):
            return False
        if self.subject_prefix is not None and not (event.subject or "").startswith(
            self.subject_prefix
        ):
            return False
        return self.dataset is None or self.dataset in _datasets(data)

    def to_json(self) -> dict[str, str]:
        """Return what is set."""
        return {key: value for key, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, body: Any) -> "EventFilter":
        """Read a filter.

        Raises:
            InvalidRequest: a key is unknown or a value is no text.
        """
        if not isinstance(body, Mapping):
            raise InvalidRequest("'filter' is not an object")
        known = cls.__dataclass_fields__
        for key, value in body.items():
            if key not in known:
                raise InvalidRequest(f"filter key {key!r} is none of {', '.join(known)}")
            if value is not None and not isinstance(value, str):
                raise InvalidRequest(f"filter key {key!r} is not a text")
        return cls(**body)


@dataclass(frozen=True)
class Delivered:
    """How far a subscription or trigger has come, and what troubles it.

    Attributes:
        sequence: place in the stream of the last event that was dealt with.
        count: events delivered (files registered).
        event_id: of the last event that was dealt with.
        at: when that was.
        failures: tries in a row that failed at the present event.
        dropped: events given up.
        last_error: why the last try failed, until one succeeds.
    """

    sequence: int = 0
    count: int = 0
    event_id: str | None = None
    at: datetime | None = None
    failures: int = 0
    dropped: int = 0
    last_error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form."""
        return asdict(self) | {"at": rfc3339(self.at) if self.at else None}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Delivered":
        """Read the JSON form."""
        moment = body.get("at")
        return cls(**{**body, "at": parse_rfc3339(moment) if moment else None})


@dataclass(frozen=True)
class Subscription:
    """Events of some types, delivered to a sink as signed webhooks.

    ``secret`` (for checking signatures) is only there in the answer to its creator's POST.
    """

    id: str
    name: str
    types: tuple[str, ...]
    sink_url: str
    filter: EventFilter = field(default_factory=EventFilter)
    group: str | None = None
    owner: Mapping[str, str] = field(default_factory=dict)
    status: str = ACTIVE
    reason: str | None = None
    created_at: datetime | None = None
    delivered: Delivered = field(default_factory=Delivered)
    secret: str | None = None

    def wants(self, event: Event) -> bool:
        """Say whether `event` is for this subscription; types are matched by the stream already."""
        by_service = self.owner.get("sub", "").startswith("service:")
        if event.group not in {None, self.group} and not by_service:
            return False
        return matches_type(event.type, self.types) and self.filter.admits(event)

    def to_json(self) -> dict[str, Any]:
        """Return the document as the API shows it."""
        body: dict[str, Any] = {
            "id": self.id,
            "name": self.name,
            "types": list(self.types),
            "filter": self.filter.to_json(),
            "sink": {"url": self.sink_url},
            "group": self.group,
            "owner": dict(self.owner),
            "status": self.status,
            "reason": self.reason,
            "created_at": rfc3339(self.created_at) if self.created_at else None,
            "delivered": self.delivered.to_json(),
        }
        if self.secret is not None:
            body["secret"] = self.secret
        return body

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Subscription":
        """Read the document."""
        created = body.get("created_at")
        return cls(
            id=body["id"],
            name=body["name"],
            types=tuple(body["types"]),
            sink_url=body["sink"]["url"],
            filter=EventFilter.from_json(body["filter"]),
            group=body.get("group"),
            owner=body["owner"],
            status=body["status"],
            reason=body.get("reason"),
            created_at=parse_rfc3339(created) if created else None,
            delivered=Delivered.from_json(body["delivered"]),
            secret=body.get("secret"),
        )


@dataclass(frozen=True)
class Trigger:
    """New files below a path of a site join a dataset, registered on behalf of the creator."""

    id: str
    name: str
    site: str
    path_prefix: str
    dataset: str
    pattern: str | None = None
    existing: bool = False
    group: str | None = None
    owner: Mapping[str, str] = field(default_factory=dict)
    status: str = ACTIVE
    reason: str | None = None
    created_at: datetime | None = None
    registered: Delivered = field(default_factory=Delivered)

    @property
    def scope(self) -> str:
        """Return the scope of the dataset."""
        return self.dataset.partition(":")[0]

    @property
    def dataset_name(self) -> str:
        """Return the name of the dataset within its scope."""
        return self.dataset.partition(":")[2]

    def wants(self, event: Event) -> bool:
        """Say whether the file of this storage event is meant."""
        data = event.data if isinstance(event.data, Mapping) else {}
        path = data.get("path")
        if event.type != STORAGE_CREATED or event.site != self.site:
            return False
        if not below(path, self.path_prefix) or path == self.path_prefix:
            return False
        return self.pattern is None or fnmatch.fnmatchcase(_basename(str(path)), self.pattern)

    def file_name(self, path: str) -> str:
        """Return the name under which the file at `path` is registered."""
        return f"{self.dataset_name}/{_basename(path)}"

    def to_json(self) -> dict[str, Any]:
        """Return the document as the API shows it."""
        return asdict(self) | {
            "owner": dict(self.owner),
            "created_at": rfc3339(self.created_at) if self.created_at else None,
            "registered": self.registered.to_json(),
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> "Trigger":
        """Read the document."""
        created = body.get("created_at")
        return cls(
            **{
                **body,
                "created_at": parse_rfc3339(created) if created else None,
                "registered": Delivered.from_json(body["registered"]),
            }
        )


def below(path: Any, prefix: str) -> bool:
    """Say whether `path` is `prefix` or lies below it; ``/in`` does not hold ``/inbox``."""
    if not isinstance(path, str):
        return False
    clean = prefix.rstrip("/")
    return path == clean or path.startswith(clean + "/")


def matches_type(kind: str, patterns: tuple[str, ...]) -> bool:
    """Say whether `kind` is one of `patterns`, each of which may end in ``.*``."""
    return any(
        kind == pattern or (pattern.endswith("*") and kind.startswith(pattern[:-1]))
        for pattern in patterns
    )


def check_types(types: Any) -> tuple[str, ...]:
    """Return the wanted event types.

    Raises:
        InvalidRequest: there is none, too many, or one that cannot be a type.
    """
    if not isinstance(types, list) or not types or len(types) > MAX_TYPES:
        raise InvalidRequest(f"'types' is a list of 1 to {MAX_TYPES} event types")
    for kind in types:
        parts = kind.removesuffix(".*").split(".") if isinstance(kind, str) else [""]
        if not all(_WORD.fullmatch(part) for part in parts):
            raise InvalidRequest(f"{kind!r} is not an event type such as org.twinfra.storage.*")
    return minimal(tuple(types))


def check_path_prefix(text: Any) -> str:
    """Return an absolute, plain path without a slash at its end.

    Raises:
        InvalidRequest: it is not one.
    """
    if not isinstance(text, str) or not text.strip("/"):
        raise InvalidRequest("'path_prefix' is missing; the whole site cannot be meant")
    parts = text.strip("/").split("/")
    if any(part in {"", ".", ".."} for part in parts) or any(ord(c) < 32 for c in text):
        raise InvalidRequest(f"path_prefix {text!r} is not a plain path")
    return "/" + "/".join(parts)


def check_dataset(text: Any) -> str:
    """Return ``scope:name`` as given.

    Raises:
        InvalidRequest: it is not of that form.
    """
    scope, colon, name = str(text or "").partition(":")
    if not colon or not scope or not name or ":" in name or name.startswith("/"):
        raise InvalidRequest(f"dataset {text!r} is not of the form scope:name")
    return f"{scope}:{name}"


def check_sink(url: Any, allowed: frozenset[str]) -> str:
    """Return the sink's URL if it may be called at all.

    Args:
        url: as given.
        allowed: ``host:port`` of the registered sinks.

    Raises:
        InvalidRequest: it is not https, or its host and port are not registered.
    """
    # no name is resolved here: what is not written in the settings is never called
    parts = urlsplit(str(url or ""))
    if parts.scheme != "https" or not parts.hostname or parts.username or parts.fragment:
        raise InvalidRequest("sink.url is not an https URL without user and fragment")
    try:
        address = f"{parts.hostname}:{parts.port or 443}"
    except ValueError as error:
        raise InvalidRequest("sink.url has no valid port") from error
    if address not in allowed:
        raise InvalidRequest(f"{address} is not a registered sink; the operator allows them")
    return str(url)


def check_own_type(kind: str) -> str:
    """Return a type that people and their code may publish.

    Ours are ours, and a type whose first word is one of our families would share their subjects.

    Raises:
        InsufficientScope: it is one of ours, or looks like one.
        InvalidRequest: it is not a reversed domain name with a word for what happened.
    """
    if (kind + ".").startswith(OWN) or kind.partition(".")[0] in FAMILIES:
        raise InsufficientScope(f"events of the type {kind!r} are made by twinfra itself")
    if kind.count(".") < 2 or not all(_WORD.fullmatch(part) for part in kind.split(".")):
        raise InvalidRequest(f"{kind!r} is not a type such as org.climate.prediction")
    return kind


def minimal(types: tuple[str, ...]) -> tuple[str, ...]:
    """Return `types` without those that another one of them includes."""
    distinct = tuple(dict.fromkeys(types))
    return tuple(
        kind
        for kind in distinct
        if not any(other != kind and matches_type(kind, (other,)) for other in distinct)
    )


def may_see(event: Event, groups: frozenset[str], *, is_service: bool) -> bool:
    """Say whether a caller with `groups` may see `event`; one without a group is for everyone."""
    return is_service or event.group is None or event.group in groups


def _basename(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _datasets(data: Mapping[str, Any]) -> set[str]:
    found = {data.get("dataset"), *(data.get("datasets") or ())}
    scope = data.get("scope")
    named = {f"{scope}:{name}" for name in found | {data.get("name")} if name and ":" not in name}
    return {name for name in found if name} | named
