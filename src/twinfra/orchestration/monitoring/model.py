"""How a site is: what probes and jobs said of it, judged.

Pure values and functions; moments come as arguments.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Self

from twinfra.core.time import parse_rfc3339, rfc3339

UP, DOWN = "org.twinfra.site.up", "org.twinfra.site.down"
JOB_STATE = "org.twinfra.job.state"
NOT_CHECKED = "not checked yet"
REMOVED = "removed from the catalogue"
INTERLINK, EDGE = "interlink", "edge"

OWN_FAULTS = frozenset(
    {"Error", "OOMKilled", "DeadlineExceeded", "Cancelled", "StartError", "Completed"}
)
"""Reasons of a failed job that are the job's own fault; they say nothing of the site."""

DOUBT = 2.0
"""Jobs that a site is taken to have run well before we knew it: one early failure is not all."""


@dataclass(frozen=True, slots=True)
class Free:
    """What nobody uses at a site now; ``None`` where it does not say."""

    cpu: float | None = None
    memory_bytes: int | None = None
    slots: int | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """Jobs that wait at a site, and how long a new one would."""

    length: int | None = None
    wait_s: float | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One question of a probe: what was asked, whether the answer was good, how long it took."""

    name: str
    ok: bool
    reason: str = ""
    duration_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Probe:
    """All that one look at a site found."""

    at: datetime
    checks: tuple[Check, ...] = ()
    free: Free = Free()
    queue: Queue = Queue()

    @property
    def ok(self) -> bool:
        """Whether there was something to ask, and every answer was good."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def reason(self) -> str:
        """What was wrong; empty if nothing was."""
        if not self.checks:
            return "it has neither an interLink API nor a storage edge"
        return "; ".join(f"{each.name}: {each.reason}" for each in self.checks if not each.ok)


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """How a site is.

    Attributes:
        reason: why it is down, or what is wrong while it still counts as up.
        since: when it came up or went down.
        failures: bad probes in a row.
        probe_failure_rate: share of bad probes of late, 0 to 1.
        job_failure_rate: share of jobs that the site failed of late, 0 to 1.
    """

    site: str
    up: bool
    reason: str
    since: datetime
    checked_at: datetime | None = None
    free: Free = Free()
    queue: Queue = Queue()
    checks: tuple[Check, ...] = ()
    failures: int = 0
    probe_failure_rate: float = 0.0
    job_failure_rate: float = 0.0

    @property
    def failure_rate(self) -> float:
        """Return the chance that a probe or a job fails there, taken as independent."""
        return 1 - (1 - self.probe_failure_rate) * (1 - self.job_failure_rate)

    def to_json(self) -> dict[str, Any]:
        """Return the status as it is shown."""
        return {
            "site": self.site,
            "up": self.up,
            "reason": self.reason,
            "since": rfc3339(self.since),
            "checked_at": rfc3339(self.checked_at) if self.checked_at else None,
            "free": {
                "cpu": self.free.cpu,
                "memory_bytes": self.free.memory_bytes,
                "slots": self.free.slots,
                "gpus": self.free.gpus,
            },
            "queue": {"length": self.queue.length, "wait_s": self.queue.wait_s},
            "failure_rate": round(self.failure_rate, 6),
            "probe_failure_rate": round(self.probe_failure_rate, 6),
            "job_failure_rate": round(self.job_failure_rate, 6),
            "checks": [
                {"name": c.name, "ok": c.ok, "reason": c.reason, "duration_s": c.duration_s}
                for c in self.checks
            ],
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is no status.
        """
        free, queue, checked = body["free"], body["queue"], body["checked_at"]
        return cls(
            site=body["site"],
            up=bool(body["up"]),
            reason=body["reason"],
            since=parse_rfc3339(body["since"]),
            checked_at=parse_rfc3339(checked) if checked else None,
            free=Free(free["cpu"], free["memory_bytes"], free["slots"], free.get("gpus")),
            queue=Queue(queue["length"], queue["wait_s"]),
            checks=tuple(Check(**each) for each in body.get("checks", ())),
            probe_failure_rate=body.get("probe_failure_rate", body["failure_rate"]),
            job_failure_rate=body.get("job_failure_rate", 0.0),
        )


def unknown(site: str, now: datetime) -> SiteStatus:
    """Return the status of a site that nobody looked at yet: not up."""
    return SiteStatus(site, up=False, reason=NOT_CHECKED, since=now)


def judged(before: SiteStatus, probe: Probe, *, down_after: int, half_life_s: float) -> SiteStatus:
    """Return the status after a probe.

    Guarantees: one good probe brings a site up; it goes down at the bad probe number `down_after`
    in a row, and keeps the last known free resources and queue only while it is up.

    Args:
        before: the status so far.
        probe: what was found.
        down_after: bad probes in a row that make a site count as down.
        half_life_s: after so long an old probe counts half.
    """
    failures = 0 if probe.ok else before.failures + 1
    up = probe.ok or (before.up and failures < down_after)
    elapsed_s = (probe.at - before.checked_at).total_seconds() if before.checked_at else 0.0
    known = probe if probe.ok else None
    return replace(
        before,
        up=up,
        reason=probe.reason,
        since=before.since if up == before.up and before.checked_at else probe.at,
        checked_at=probe.at,
        free=known.free if known else (before.free if up else Free()),
        queue=known.queue if known else (before.queue if up else Queue()),
        checks=probe.checks,
        failures=failures,
        probe_failure_rate=_eased(
            before.probe_failure_rate, 0.0 if probe.ok else 1.0, elapsed_s, half_life_s
        ),
    )


def _eased(rate: float, outcome: float, elapsed_s: float, half_life_s: float) -> float:
    kept = _weight(elapsed_s, half_life_s)
    return rate * kept + outcome * (1 - kept)


def _weight(age_s: float, half_life_s: float) -> float:
    return float(0.5 ** (max(0.0, age_s) / half_life_s))


@dataclass(frozen=True, slots=True)
class JobOutcome:
    """A job that ended at a site, as far as it tells of the site.

    Attributes:
        key: the attempt that ended; the same event told again has the same key.
        failed: the site failed it.
    """

    site: str
    key: str
    at: datetime
    failed: bool


def outcome_of(data: Mapping[str, Any], at: datetime) -> JobOutcome | None:
    """Return what a ``job.state`` event tells of its site; ``None`` if nothing.

    A job that fails by its own fault tells nothing: it ran, and was wrong itself.
    """
    site, uid, phase = data.get("site"), data.get("uid"), data.get("phase")
    if not isinstance(site, str) or not isinstance(uid, str):
        return None
    if phase not in {"Succeeded", "Failed"}:
        return None
    if phase == "Failed" and data.get("reason") in OWN_FAULTS:
        return None
    key = f"{uid}/{data.get('attempt', 1)}"
    return JobOutcome(site, key, at, failed=phase == "Failed")


def job_failure_rate(outcomes: Iterable[JobOutcome], now: datetime, *, half_life_s: float) -> float:
    """Return the share of failed jobs, each counting half after `half_life_s`, as if some ran well.

    A site that is not used any more thus comes back to zero, and is tried again.
    """
    total, failed = DOUBT, 0.0
    for each in outcomes:
        weight = _weight((now - each.at).total_seconds(), half_life_s)
        total += weight
        failed += weight if each.failed else 0.0
    return failed / total
