"""What is asked of a ranking, the facts it rests on, and the answer.

Frozen data, and the filters that exclude a site with a reason. How the remaining sites are scored
is the business of a ``Scorer`` (``formula``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from twinfra.core.quantities import format_bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A workload that looks for a site.

    Attributes:
        capabilities: what the site must offer.
        inputs: data identifiers that must be at the site first.
        group: whose work it is.
        target: the only site that will do, if one is named.
        exclude: sites that will not do.
        deployment: what it belongs to, for finding the answer again.
    """

    cpu: float
    memory_bytes: int
    group: str
    gpus: int = 0
    capabilities: tuple[str, ...] = ()
    architecture: str | None = None
    inputs: tuple[str, ...] = ()
    target: str | None = None
    exclude: tuple[str, ...] = ()
    deployment: str | None = None


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """All that is known of a site, for one request.

    Attributes:
        stale: it did not say lately that it is there.
        up: as monitoring found it; ``None``: not looked at yet.
        down_reason: why it is not up.
        runs_jobs: it has an interLink API.
        no_containers: why it can run no container; empty: it can.
        admits_group: its policy takes the request's group.
        share: part of it that is promised to the group, or the operators' preference, 0 to 1.
        cpu, memory_bytes, gpus: the whole site's.
        free_cpu, free_memory_bytes, free_gpus, free_slots: what nobody uses; ``None``: it does
            not say.
        queue_wait_s: what a new job would wait, as the site estimates it.
        failure_rate: share of its probes and jobs that failed of late, 0 to 1.
        cpu_hour_cost: price of a core hour.
        bandwidth_bytes_per_s: by the other site's name.
    """

    name: str
    kind: str = "cloud"
    stale: bool = False
    up: bool | None = True
    down_reason: str = ""
    runs_jobs: bool = True
    no_containers: str = ""
    admits_group: bool = True
    share: float = 0.0
    capabilities: tuple[str, ...] = ()
    architecture: str = "x86_64"
    cpu: float = 1.0
    memory_bytes: int = 1 << 30
    gpus: int = 0
    free_cpu: float | None = None
    free_memory_bytes: int | None = None
    free_gpus: int | None = None
    free_slots: int | None = None
    queue_length: int | None = None
    queue_wait_s: float | None = None
    failure_rate: float = 0.0
    benchmark_hepscore23: float = 10.0
    cpu_hour_cost: float = 0.0
    bandwidth_bytes_per_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InputFacts:
    """A dataset that the workload reads: its size, and how much of it stands at each site."""

    did: str
    size_bytes: int
    available_bytes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that a ranking rests on."""

    sites: tuple[SiteFacts, ...]
    inputs: tuple[InputFacts, ...] = ()

    def site(self, name: str) -> SiteFacts | None:
        """Return the facts of a site."""
        return next((site for site in self.sites if site.name == name), None)


class Reason(StrEnum):
    """Why a site is no candidate."""

    NOT_TARGET = "not-target"
    EXCLUDED = "excluded"
    NO_COMPUTE = "no-compute"
    STALE = "stale"
    NOT_CHECKED = "not-checked"
    DOWN = "down"
    GROUP = "group-not-admitted"
    CAPABILITY = "missing-capability"
    ARCHITECTURE = "wrong-architecture"
    TOO_SMALL = "too-small"


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A site that is no candidate: the reason for programs, the sentence for people."""

    site: str
    reason: Reason
    detail: str

    def to_json(self) -> dict[str, Any]:
        """Return the exclusion as it is shown."""
        return {"site": self.site, "reason": self.reason.value, "detail": self.detail}


@dataclass(frozen=True, slots=True)
class Factor:
    """One part of a site's score.

    Attributes:
        value: what was measured, in `unit`; ``None`` where it is beyond any number.
        normalised: how good that is, 0 to 1.
        weight: how much it counts among all factors.
        why: the same as a sentence.
    """

    name: str
    value: float | None
    unit: str
    normalised: float
    weight: float
    why: str

    def contribution(self, total_weight: float) -> float:
        """Return the part of the score that this factor makes."""
        return self.weight * self.normalised / total_weight if total_weight else 0.0


@dataclass(frozen=True, slots=True)
class Candidate:
    """A site that will do; rank 1 is best."""

    site: str
    score: float
    rank: int
    factors: tuple[Factor, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as it is shown; contributions add up to the score."""
        total = sum(factor.weight for factor in self.factors)
        return {
            "site": self.site,
            "score": round(self.score, 6),
            "rank": self.rank,
            "factors": [
                {
                    "name": factor.name,
                    "value": factor.value,
                    "unit": factor.unit,
                    "normalised": round(factor.normalised, 6),
                    "weight": factor.weight,
                    "contribution": round(factor.contribution(total), 6),
                    "why": factor.why,
                }
                for factor in self.factors
            ],
        }


@dataclass(frozen=True, slots=True)
class Ranked:
    """The answer: candidates best first, the others with their reasons, and by which model."""

    candidates: tuple[Candidate, ...]
    excluded: tuple[Exclusion, ...]
    model_version: str


def exclusion(request: Request, site: SiteFacts) -> Exclusion | None:
    """Return why `site` is no candidate, the first reason that holds, or ``None``."""
    for check in (_unwanted, _absent, _unfit, _small):
        found = check(request, site)
        if found is not None:
            return Exclusion(site.name, *found)
    return None


def _unwanted(request: Request, site: SiteFacts) -> tuple[Reason, str] | None:
    if request.target is not None and site.name != request.target:
        return Reason.NOT_TARGET, f"the request names {request.target} as its only site"
    if site.name in request.exclude:
        return Reason.EXCLUDED, "the request excludes it"
    if not site.admits_group:
        return Reason.GROUP, f"its policy does not admit the group {request.group}"
    return None


def _absent(_request: Request, site: SiteFacts) -> tuple[Reason, str] | None:
    if not site.runs_jobs:
        return Reason.NO_COMPUTE, "it has no interLink API and runs no jobs"
    if site.no_containers:
        return Reason.NO_COMPUTE, f"it runs no containers: {site.no_containers}"
    if site.stale:
        return Reason.STALE, "it has not said lately that it is there"
    if site.up is None:
        return Reason.NOT_CHECKED, "monitoring has not looked at it yet"
    if not site.up:
        return Reason.DOWN, f"monitoring found it down: {site.down_reason or 'no answer'}"
    return None


def _unfit(request: Request, site: SiteFacts) -> tuple[Reason, str] | None:
    missing = [each for each in request.capabilities if each not in site.capabilities]
    if request.gpus and not site.gpus and "gpu" not in site.capabilities:
        missing.append("gpu")
    if missing:
        names = ", ".join(dict.fromkeys(missing))
        return Reason.CAPABILITY, f"it does not offer {names}"
    if request.architecture not in {None, site.architecture}:
        return Reason.ARCHITECTURE, f"its cores are {site.architecture}, not {request.architecture}"
    return None


def _small(request: Request, site: SiteFacts) -> tuple[Reason, str] | None:
    if request.cpu > site.cpu:
        return Reason.TOO_SMALL, f"it has {site.cpu:g} cores in all, the job wants {request.cpu:g}"
    if request.memory_bytes > site.memory_bytes:
        has, wants = format_bytes(site.memory_bytes), format_bytes(request.memory_bytes)
        return Reason.TOO_SMALL, f"it has {has} of memory in all, the job wants {wants}"
    if request.gpus > site.gpus:
        return Reason.TOO_SMALL, f"it has {site.gpus} GPUs in all, the job wants {request.gpus}"
    return None


def split(request: Request, sites: Sequence[SiteFacts]) -> tuple[list[SiteFacts], list[Exclusion]]:
    """Return the sites that will do, and the reasons of the others, both by name."""
    fitting: list[SiteFacts] = []
    excluded: list[Exclusion] = []
    for site in sorted(sites, key=lambda each: each.name):
        found = exclusion(request, site)
        if found is None:
            fitting.append(site)
        else:
            excluded.append(found)
    return fitting, excluded
