"""The catalogue's JSON: what is accepted of a provider, and how providers are shown."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

from twinfra.core.time import rfc3339
from twinfra.orchestration.catalogue.model import Change, Provider, Registration

NAME = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
MAX_MEMBERS = 256


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname or re.search(r"\s", url):
        raise ValueError("not an http(s) base URL")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a base URL has no user, query or fragment")
    _ = parts.port
    return url.rstrip("/")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _gpu(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


SiteName = Annotated[str, StringConstraints(pattern=NAME)]
BaseUrl = Annotated[str, StringConstraints(max_length=500), AfterValidator(_base_url)]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
Group = Annotated[str, StringConstraints(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._/-]{0,254})$")]
Sentence = Annotated[str, StringConstraints(max_length=1000)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LocationBody(_Body):
    """Where a provider stands."""

    country: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] = "ZZ"
    lat: Annotated[float, Field(ge=-90, le=90)] = 0.0
    lon: Annotated[float, Field(ge=-180, le=180)] = 0.0


class GpuBody(_Body):
    """Accelerators of one kind; just its name stands for one of it."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    count: Annotated[int, Field(ge=0, le=1_000_000)] = 1


class ResourcesBody(_Body):
    """How big a provider is."""

    cpu: Amount = 0.0
    memory_bytes: Annotated[int, Field(ge=0)] = 0
    gpus: Annotated[
        list[Annotated[GpuBody, BeforeValidator(_gpu)]], Field(max_length=MAX_MEMBERS)
    ] = []
    slots: Annotated[int, Field(ge=0)] = 0
    architecture: Word = "x86_64"


class ContainersBody(_Body):
    """Whether it can run containers; if not, or not isolated, why and what would help."""

    available: bool = True
    why_not: Sentence = ""
    fix: Sentence = ""


class PoliciesBody(_Body):
    """Whose work a provider takes; ``*`` is everybody's."""

    groups: Annotated[
        list[Group], BeforeValidator(_listed), Field(min_length=1, max_length=MAX_MEMBERS)
    ] = ["*"]
    shares: Annotated[
        dict[Group, Annotated[float, Field(ge=0, le=1)]], Field(max_length=MAX_MEMBERS)
    ] = {}


class CostBody(_Body):
    """Prices, in the federation's own unit."""

    cpu_hour: Amount = 0.0


class ProviderBody(_Body):
    """What a site says of itself."""

    name: SiteName | None = None
    kind: Literal["cloud", "hpc", "edge"]
    rse: Annotated[str, StringConstraints(pattern=r"^[A-Z0-9][A-Z0-9_-]{0,63}$")] | None = None
    edge_url: BaseUrl | None = None
    interlink_url: BaseUrl | None = None
    location: LocationBody | None = None
    resources: ResourcesBody = ResourcesBody()
    capabilities: Annotated[list[Word], Field(max_length=MAX_MEMBERS)] = []
    containers: ContainersBody = ContainersBody()
    policies: PoliciesBody = PoliciesBody()
    link_bandwidth_bytes_per_s: Annotated[
        dict[SiteName, Annotated[int, Field(gt=0)]], Field(max_length=MAX_MEMBERS)
    ] = {}
    cost: CostBody = CostBody()
    benchmark_hepscore23: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10.0
    ttl_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None

    def provider(self, name: str) -> Provider:
        """Return what is said of `name`."""
        document = {**self.model_dump(exclude={"ttl_s"}), "name": name}
        document["capabilities"] = sorted(set(self.capabilities))
        return Provider.from_json(document)


def registration_document(registration: Registration, now: datetime) -> dict[str, Any]:
    """Return a provider as it is shown: its document, and how it stands at `now`."""
    return {
        **registration.provider.to_json(),
        "state": registration.state_at(now).value,
        "etag": registration.provider.etag,
        "registered_by": registration.registered_by,
        "registered_at": rfc3339(registration.registered_at),
        "updated_at": rfc3339(registration.updated_at),
        "heartbeat_at": rfc3339(registration.heartbeat_at),
        "expires_at": rfc3339(registration.expires_at),
    }


def change_document(change: Change) -> dict[str, Any]:
    """Return one line of history."""
    return {
        "name": change.name,
        "at": rfc3339(change.at),
        "kind": change.kind.value,
        "actor": change.actor,
        "fields": list(change.fields),
        "document": change.document,
    }
