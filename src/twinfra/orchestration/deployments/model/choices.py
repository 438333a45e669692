"""Which site is tried next, why none is left, and how long to pause; pure.

A provider's failure leads to the next candidate; a job that its site lost is begun again there; a
job that failed by itself is begun again as often as its author allowed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinfra.core.errors import shorten
from twinfra.orchestration.deployments.model.records import Attempt
from twinfra.orchestration.deployments.model.states import AttemptState, Failure

LOST_RETRIES = 2
PASSING = frozenset({"stale", "not-checked", "down"})
PAUSE_S = (0.5, 30.0)
RESTART_PAUSE_S = (0.5, 60.0)


@dataclass(frozen=True)
class Try:
    """Begin an attempt at `site` after `pause_s`."""

    site: str
    pause_s: float = 0.0


@dataclass(frozen=True)
class GiveUp:
    """Nothing is left to try."""

    reason: str
    exit_code: int | None = None


def next_try(
    candidates: Sequence[str],
    attempts: Sequence[Attempt],
    *,
    max_providers: int | None = None,
    job_retries: int = 0,
    lost_retries: int = LOST_RETRIES,
) -> Try | GiveUp:
    """Return what to do after these attempts of one ranking.

    Args:
        candidates: sites, best first.
        attempts: all of this cycle, in order; none is open.
        max_providers: how many sites may be tried; none: all candidates.
        job_retries: how often a job may fail by itself and be begun again.
        lost_retries: how often a site may lose a job and be given it again.
    """
    failed = [each for each in attempts if each.state is AttemptState.FAILED]
    if failed and failed[-1].failure is Failure.JOB:
        count = sum(each.failure is Failure.JOB for each in failed)
        if count > job_retries:
            return GiveUp(_job_reason(failed[-1], count), failed[-1].exit_code)
        return Try(failed[-1].target.site, _pause(count))
    if failed and failed[-1].failure is Failure.LOST:
        site = failed[-1].target.site
        count = sum(each.failure is Failure.LOST and each.target.site == site for each in failed)
        if count <= lost_retries:
            return Try(site, _pause(count))
    tried = {each.target.site for each in failed}
    left = [site for site in candidates if site not in tried]
    if left and (max_providers is None or len(tried) < max_providers):
        return Try(left[0])
    return GiveUp(_exhausted(failed))


def may_pass(body: Mapping[str, Any]) -> bool:
    """Say whether a ranking without candidates excluded a site for what may pass by itself."""
    return any(each.get("reason") in PASSING for each in body.get("excluded", ()))


def _job_reason(attempt: Attempt, count: int) -> str:
    times = f" in each of {count} attempts" if count > 1 else ""
    return f"{attempt.reason}{times}"


def _exhausted(failed: Sequence[Attempt]) -> str:
    if not failed:
        return "no cloud provider meets the deployment requirements"
    causes = "; ".join(
        f"attempt {each.number} at {each.target.site}: {each.failure}: {shorten(each.reason, 400)}"
        for each in failed
    )
    return f"retries on cloud providers exhausted: {causes}"


def _pause(count: int) -> float:
    return float(min(PAUSE_S[1], PAUSE_S[0] * 2 ** (count - 1)))


def restart_pause_s(cycle: int) -> float:
    """Return how long a service that keeps failing waits before ranking number `cycle`."""
    return float(min(RESTART_PAUSE_S[1], RESTART_PAUSE_S[0] * 2 ** min(max(0, cycle - 2), 10)))
