"""The scorer by formula: seven factors, each from 0 to 1, weighed and explained in a sentence.

A site's factors depend on that site and the request alone, never on the other candidates, so a
score means the same in every answer. Pure.
"""

import hashlib
import math
from collections.abc import Callable, Mapping

from twinfra.core.quantities import format_bytes
from twinfra.orchestration.ranking.model import (
    Candidate,
    Factor,
    Facts,
    InputFacts,
    Ranked,
    Request,
    SiteFacts,
    split,
)
from twinfra.orchestration.ranking.ports import Scorer
from twinfra.orchestration.ranking.settings import RankingSettings

FITS_SHARE = 0.8
"""Part of ``free_cpu`` that says whether the job fits; the rest is the site's free share."""

SCORE_DIGITS = 9
"""Scores that agree so far are equal; then the name decides."""

_Measured = tuple[float | None, str, float, str]


def rank(request: Request, facts: Facts, scorer: Scorer) -> Ranked:
    """Return all candidates, best first, and the reasons of the other sites.

    Guarantees: the same facts give the same answer; of equal scores the first name is better.
    """
    fitting, excluded = split(request, facts.sites)
    scored: list[tuple[float, str, tuple[Factor, ...]]] = []
    for site in fitting:
        factors = scorer.factors(request, site, facts)
        total = sum(factor.weight for factor in factors)
        score = sum(factor.contribution(total) for factor in factors)
        scored.append((score, site.name, factors))
    scored.sort(key=lambda entry: (-round(entry[0], SCORE_DIGITS), entry[1]))
    return Ranked(
        candidates=tuple(
            Candidate(name, score, number, factors)
            for number, (score, name, factors) in enumerate(scored, 1)
        ),
        excluded=tuple(excluded),
        model_version=scorer.version,
    )


class Formula:
    """Scores by the weights and assumptions of the settings."""

    def __init__(self, settings: RankingSettings) -> None:
        self._settings = settings
        self._measures: Mapping[str, Callable[[Request, SiteFacts, Facts], _Measured]] = {
            "data_locality": self._data_locality,
            "free_cpu": self._free_cpu,
            "queue_wait": self._queue_wait,
            "speed": self._speed,
            "health": self._health,
            "sla": self._sla,
            "cost": self._cost,
        }

    @property
    def version(self) -> str:
        """Return the formula's name with a hash of the settings that shape it."""
        shaping = self._settings.model_dump_json(
            include={
                "weights",
                "preferences",
                "default_bandwidth_bytes_per_s",
                "busy_wait_s",
                "longest_s",
                "reference_hepscore23",
                "reference_cost",
            }
        )
        return f"formula-1+{hashlib.sha256(shaping.encode()).hexdigest()[:8]}"

    def factors(self, request: Request, site: SiteFacts, facts: Facts) -> tuple[Factor, ...]:
        """Return the parts of the site's score, in a fixed order."""
        weights = self._settings.weights.model_dump()
        made = []
        for name, measure in self._measures.items():
            value, unit, normalised, why = measure(request, site, facts)
            bounded = min(1.0, max(0.0, normalised))
            made.append(Factor(name, value, unit, bounded, weights[name], why))
        return tuple(made)

    def _patience(self, seconds: float) -> float:
        """Return how good a wait is: 1 at once, falling with its logarithm to 0 at the longest."""
        return 1 - math.log1p(seconds) / math.log1p(self._settings.longest_s)

    def _data_locality(self, _request: Request, site: SiteFacts, facts: Facts) -> _Measured:
        if not facts.inputs:
            return 0.0, "s", 1.0, "the job reads no datasets"
        seconds, parts = 0.0, []
        for dataset in facts.inputs:
            took_s, why = self._transfer(site, dataset, facts)
            if took_s is None:
                return None, "s", 0.0, why
            seconds += took_s
            parts += [why] if took_s else []
        if not parts:
            return 0.0, "s", 1.0, "all inputs are here already, nothing is transferred"
        return round(seconds, 3), "s", self._patience(seconds), "; ".join(parts)

    def _transfer(
        self, site: SiteFacts, dataset: InputFacts, facts: Facts
    ) -> tuple[float | None, str]:
        """Return the seconds to bring what is missing of a dataset; ``None``: it cannot be had."""
        missing = max(0, dataset.size_bytes - dataset.available_bytes.get(site.name, 0))
        if not missing:
            return 0.0, ""
        sources = [
            (self._bandwidth(site, other), other.name, dataset.available_bytes[other.name])
            for other in facts.sites
            if other.name != site.name and other.up and dataset.available_bytes.get(other.name)
        ]
        # A source that has all of it comes first, then the faster link, then the name.
        sources.sort(key=lambda each: (each[2] < dataset.size_bytes, -each[0], each[1]))
        seconds, left, names = 0.0, missing, []
        for bandwidth, name, holds in sources:
            share = min(left, holds)
            seconds, left = seconds + share / bandwidth, left - share
            names.append(f"{name} at {format_bytes(bandwidth)}/s")
            if not left:
                break
        if left:
            lack = format_bytes(left)
            return None, f"{lack} of {dataset.did} can be had from no site that is up"
        whence = " and ".join(names)
        return seconds, (
            f"{format_bytes(missing)} of {dataset.did} come from {whence}, {_span(seconds)}"
        )

    def _bandwidth(self, site: SiteFacts, other: SiteFacts) -> float:
        """Return what the link between two sites carries, as either of them says."""
        said = (
            site.bandwidth_bytes_per_s.get(other.name),
            other.bandwidth_bytes_per_s.get(site.name),
        )
        known = [each for each in said if each]
        return min(known) if known else self._settings.default_bandwidth_bytes_per_s

    def _free_cpu(self, request: Request, site: SiteFacts, _facts: Facts) -> _Measured:
        free = _free(site)
        normalised = FITS_SHARE * _fits(request, site)
        normalised += (1 - FITS_SHARE) * (free / site.cpu if site.cpu else 0.0)
        told = "" if site.free_cpu is not None else " (it does not say; all are taken to be)"
        why = f"{free:g} of {site.cpu:g} cores are free{told}, the job wants {request.cpu:g}"
        memory = site.free_memory_bytes
        if memory is not None and memory < request.memory_bytes:
            why += f"; only {format_bytes(memory)} of memory are free"
        if site.free_slots == 0:
            why += "; no job slot is free"
        return free, "cores", normalised, why

    def _queue_wait(self, request: Request, site: SiteFacts, _facts: Facts) -> _Measured:
        fits = _fits(request, site) >= 1
        length = site.queue_length or 0
        waiting = f"{length} jobs wait" if length else "nobody waits"
        if site.queue_wait_s:
            seconds = site.queue_wait_s
            why = f"{waiting}, the site expects a start in {_span(seconds)}"
        elif fits:
            seconds, why = 0.0, f"{waiting} and there is room, the job starts at once"
        else:
            seconds = self._settings.busy_wait_s
            why = f"there is no room and the site names no time, {_span(seconds)} are assumed"
        return seconds, "s", self._patience(seconds), why

    def _speed(self, _request: Request, site: SiteFacts, _facts: Facts) -> _Measured:
        speed, reference = site.benchmark_hepscore23, self._settings.reference_hepscore23
        why = f"a core makes HEPScore23 {speed:g}, where {reference:g} counts half"
        return speed, "HEPScore23/core", speed / (speed + reference), why

    @staticmethod
    def _health(_request: Request, site: SiteFacts, _facts: Facts) -> _Measured:
        rate = site.failure_rate
        why = f"{rate:.0%} of its probes and jobs failed of late" if rate else "nothing failed here"
        return rate, "share failed", 1 - rate, why

    def _sla(self, request: Request, site: SiteFacts, _facts: Facts) -> _Measured:
        preference = self._settings.preferences.get(site.name, 0.0)
        value = max(site.share, preference)
        if not value:
            why = f"nothing is promised to {request.group} here"
        elif preference > site.share:
            why = f"the operators prefer it by {value:g}"
        else:
            why = f"{value:.0%} of it is promised to {request.group}"
        return value, "share", value, why

    def _cost(self, request: Request, site: SiteFacts, _facts: Facts) -> _Measured:
        price = site.cpu_hour_cost * request.cpu
        why = f"an hour costs {price:g}" if price else "it is free of charge"
        return price, "per hour", 1 / (1 + price / self._settings.reference_cost), why


def _free(site: SiteFacts) -> float:
    return site.cpu if site.free_cpu is None else min(site.free_cpu, site.cpu)


def _fits(request: Request, site: SiteFacts) -> float:
    """Return how much of the job has room now, 0 to 1, by what is scarcest."""
    if site.free_slots == 0:
        return 0.0
    shares = [1.0, _free(site) / request.cpu if request.cpu else 1.0]
    if site.free_memory_bytes is not None and request.memory_bytes:
        shares.append(site.free_memory_bytes / request.memory_bytes)
    if site.free_gpus is not None and request.gpus:
        shares.append(site.free_gpus / request.gpus)
    return min(shares)


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
