"""Providers: what a site says of itself, whether it still says so, and what changed when.

Pure values and functions. Times and identities come as arguments.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

EVERYBODY = "*"
DEFAULT_PORTS = {"https": 443, "http": 80}


class ProviderState(StrEnum):
    """Whether a provider's heartbeat is in time."""

    ACTIVE = "active"
    STALE = "stale"


class ChangeKind(StrEnum):
    """What happened to a provider."""

    REGISTERED = "registered"
    CHANGED = "changed"
    STALE = "stale"
    REVIVED = "revived"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a provider stands: an ISO 3166-1 country, degrees north and east."""

    country: str
    lat: float
    lon: float


@dataclass(frozen=True, slots=True)
class Gpu:
    """Accelerators of one kind."""

    model: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Resources:
    """How big a provider is, not how much of it is free."""

    cpu: float = 0.0
    memory_bytes: int = 0
    gpus: tuple[Gpu, ...] = ()
    slots: int = 0
    architecture: str = "x86_64"

    @property
    def gpu_count(self) -> int:
        """Return the number of accelerators of any kind."""
        return sum(gpu.count for gpu in self.gpus)


@dataclass(frozen=True, slots=True)
class Policies:
    """Whose work a provider takes.

    Attributes:
        groups: names of groups; ``*`` is everybody.
        shares: part of the provider promised to a group, 0 to 1.
    """

    groups: tuple[str, ...] = (EVERYBODY,)
    shares: Mapping[str, float] = field(default_factory=dict)

    def admits(self, group: str) -> bool:
        """Say whether members of `group` may use the provider."""
        return EVERYBODY in self.groups or group in self.groups


@dataclass(frozen=True, slots=True)
class Cost:
    """Prices, in the federation's own unit."""

    cpu_hour: float = 0.0


@dataclass(frozen=True, slots=True)
class Containers:
    """Whether a provider can run containers.

    Attributes:
        available: it can; what it refuses for want of isolation is its own business.
        why_not: why it cannot, or why not isolated, in one sentence.
        fix: one command line for its administrator, if one is known.
    """

    available: bool = True
    why_not: str = ""
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Provider:
    """What a provider says of itself.

    Attributes:
        name: of the site.
        kind: ``cloud``, ``hpc`` or ``edge``.
        rse: name of its storage in the datasets service, if it has one.
        edge_url: base URL of its storage edge.
        interlink_url: base URL of its interLink API.
        capabilities: what it offers, such as ``isolated services outbound gpu batch``.
        containers: whether it can run any, and what stands in the way of isolation.
        link_bandwidth_bytes_per_s: by the other site's name.
        benchmark_hepscore23: of one core.
    """

    name: str
    kind: str
    rse: str | None = None
    edge_url: str | None = None
    interlink_url: str | None = None
    location: Location | None = None
    resources: Resources = Resources()
    capabilities: tuple[str, ...] = ()
    containers: Containers = Containers()
    policies: Policies = Policies()
    link_bandwidth_bytes_per_s: Mapping[str, int] = field(default_factory=dict)
    cost: Cost = Cost()
    benchmark_hepscore23: float = 10.0

    def to_json(self) -> dict[str, Any]:
        """Return the provider document."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Read a provider document; what it has beyond ours is ignored.

        Raises:
            KeyError, TypeError: it is none.
        """
        place = document.get("location")
        resources = document.get("resources") or {}
        policies = document.get("policies") or {}
        cost = document.get("cost") or {}
        containers = document.get("containers") or {}
        return cls(
            name=document["name"],
            kind=document["kind"],
            rse=document.get("rse"),
            edge_url=document.get("edge_url"),
            interlink_url=document.get("interlink_url"),
            location=Location(place["country"], place["lat"], place["lon"]) if place else None,
            resources=Resources(
                cpu=float(resources.get("cpu", 0)),
                memory_bytes=int(resources.get("memory_bytes", 0)),
                gpus=tuple(Gpu(g["model"], g.get("count", 1)) for g in resources.get("gpus", ())),
                slots=int(resources.get("slots", 0)),
                architecture=resources.get("architecture") or "x86_64",
            ),
            capabilities=tuple(document.get("capabilities", ())),
            containers=Containers(
                available=bool(containers.get("available", True)),
                why_not=str(containers.get("why_not", "")),
                fix=str(containers.get("fix", "")),
            ),
            policies=Policies(
                groups=tuple(policies.get("groups", (EVERYBODY,))),
                shares=dict(policies.get("shares", {})),
            ),
            link_bandwidth_bytes_per_s=dict(document.get("link_bandwidth_bytes_per_s", {})),
            cost=Cost(cpu_hour=float(cost.get("cpu_hour", 0))),
            benchmark_hepscore23=float(document.get("benchmark_hepscore23", 10.0)),
        )

    @property
    def etag(self) -> str:
        """Return the strong entity tag of the document, quotes included (RFC 9110 §8.8.3)."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return f'"{hashlib.sha256(canonical.encode()).hexdigest()[:32]}"'


@dataclass(frozen=True, slots=True)
class Registration:
    """A provider as the catalogue holds it."""

    provider: Provider
    registered_at: datetime
    updated_at: datetime
    heartbeat_at: datetime
    expires_at: datetime
    registered_by: str
    state: ProviderState = ProviderState.ACTIVE

    def state_at(self, now: datetime) -> ProviderState:
        """Return the state at `now`: stale from the deadline on, whether noted yet or not."""
        return ProviderState.STALE if now >= self.expires_at else self.state


@dataclass(frozen=True, slots=True)
class Change:
    """One line of a provider's history."""

    name: str
    at: datetime
    kind: ChangeKind
    actor: str
    fields: tuple[str, ...] = ()
    document: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class ProviderFilter:
    """Which providers are wanted; ``None`` does not matter."""

    state: ProviderState | None = None
    kind: str | None = None
    capability: str | None = None
    group: str | None = None
    country: str | None = None

    def admits(self, registration: Registration, now: datetime) -> bool:
        """Say whether a provider, as it is at `now`, is wanted."""
        provider = registration.provider
        place = provider.location
        return (
            (self.state is None or registration.state_at(now) is self.state)
            and (self.kind is None or provider.kind == self.kind)
            and (self.capability is None or self.capability in provider.capabilities)
            and (self.group is None or provider.policies.admits(self.group))
            and (self.country is None or (place is not None and place.country == self.country))
        )


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold before a provider is changed: the two headers, as sent."""

    if_match: str | None = None
    if_none_match: str | None = None

    def holds(self, etag: str | None) -> bool:
        """Say whether the condition holds for a provider with this tag, ``None`` if there is none.

        Source: RFC 9110 §13.1.1 and §13.1.2, strong comparison.
        """
        if self.if_match is not None and not _names(self.if_match, etag):
            return False
        return self.if_none_match is None or not _names(self.if_none_match, etag)


def _names(header: str, etag: str | None) -> bool:
    if etag is None:
        return False
    return header.strip() == "*" or etag in (part.strip() for part in header.split(","))


def changed_fields(before: Provider, after: Provider) -> tuple[str, ...]:
    """Return the names of the fields that differ, sorted."""
    old, new = before.to_json(), after.to_json()
    return tuple(sorted(key for key in new if old.get(key) != new[key]))


def address_of(url: str) -> str | None:
    """Return ``host:port`` of a base URL, the scheme's port if it names none."""
    parts = urlsplit(url)
    try:
        port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    except ValueError:
        return None
    return f"{parts.hostname}:{port}" if parts.hostname and port else None
