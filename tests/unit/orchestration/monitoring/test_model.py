"""What probes and ended jobs make of a site's status."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.orchestration.monitoring.model import (
    Check,
    Free,
    JobOutcome,
    Probe,
    Queue,
    SiteStatus,
    job_failure_rate,
    judged,
    outcome_of,
    unknown,
)

START = datetime(2026, 1, 1, tzinfo=UTC)
GOOD = Check("interlink", ok=True, duration_s=0.1)
BAD = Check("edge", ok=False, reason="connection refused")


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def after(status: SiteStatus, *probes: Probe, down_after: int = 2) -> SiteStatus:
    for probe in probes:
        status = judged(status, probe, down_after=down_after, half_life_s=600)
    return status


def good(seconds: float, **more) -> Probe:
    return Probe(at(seconds), (GOOD,), **more)


def bad(seconds: float) -> Probe:
    return Probe(at(seconds), (GOOD, BAD))


def test_site_is_not_up_when_nobody_looked() -> None:
    status = unknown("hpc-b", START)
    assert (status.up, status.reason) == (False, "not checked yet")


def test_site_comes_up_at_once_when_a_probe_is_good() -> None:
    free, queue = Free(4, 1 << 30, 8), Queue(3, 12.5)
    status = after(unknown("hpc-b", START), good(5, free=free, queue=queue))
    assert (status.up, status.reason, status.since) == (True, "", at(5))
    assert (status.free, status.queue) == (free, queue)


def test_site_goes_down_only_when_probes_fail_in_a_row() -> None:
    up = after(unknown("hpc-b", START), good(0, free=Free(4)))
    once = after(up, bad(2))
    assert (once.up, once.since, once.free.cpu) == (True, at(0), 4)
    assert once.reason == "edge: connection refused"
    assert after(once, good(4), bad(6)).up
    twice = after(once, bad(4))
    assert (twice.up, twice.since, twice.free) == (False, at(4), Free())
    assert after(twice, bad(6)).since == at(4)
    assert after(up, bad(2), down_after=1).up is False


def test_site_is_down_when_there_is_nothing_to_ask() -> None:
    status = after(unknown("x", START), Probe(START))
    assert (status.up, status.reason) == (
        False,
        "it has neither an interLink API nor a storage edge",
    )


def test_failure_rate_rises_and_eases_when_time_passes() -> None:
    status = after(unknown("x", START), good(0))
    worse = after(status, bad(600))
    assert worse.probe_failure_rate == pytest.approx(0.5)
    assert after(worse, good(1200)).probe_failure_rate == pytest.approx(0.25)


def test_status_is_read_back_when_it_was_written() -> None:
    status = after(unknown("x", START), good(0, free=Free(1.5, 2, 3, 4), queue=Queue(1, 2.0)))
    status = replace(status, job_failure_rate=0.25)
    assert SiteStatus.from_json(status.to_json()) == status


@pytest.mark.parametrize(
    ("data", "failed"),
    [
        ({"phase": "Succeeded"}, False),
        ({"phase": "Failed", "reason": "KeeperLost"}, True),
        ({"phase": "Failed", "reason": "OutputsFailed"}, True),
        ({"phase": "Failed", "reason": "Error"}, None),
        ({"phase": "Failed", "reason": "OOMKilled"}, None),
        ({"phase": "Running"}, None),
        ({"phase": "Succeeded", "uid": None}, None),
    ],
)
def test_job_speaks_of_its_site_unless_it_failed_by_itself(data, failed) -> None:
    outcome = outcome_of({"site": "hpc-b", "uid": "u", "attempt": 2, **data}, START)
    assert (outcome.failed if outcome else None) is failed
    assert outcome is None or outcome.key == "u/2"


OUTCOMES = st.lists(
    st.builds(
        JobOutcome,
        st.just("x"),
        st.text(),
        st.integers(0, 100_000).map(at),
        st.booleans(),
    ),
    max_size=20,
)


@given(OUTCOMES)
def test_job_failure_rate_is_a_share_that_eases_when_nothing_happens(outcomes) -> None:
    now = job_failure_rate(outcomes, at(100_000), half_life_s=3600)
    later = job_failure_rate(outcomes, at(200_000), half_life_s=3600)
    assert 0 <= later <= now < 1
    assert job_failure_rate([], START, half_life_s=1) == 0
