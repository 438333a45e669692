"""Moments, and the clocks that tell them."""

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from twinfra.core.ids import derived_uuid, new_uuid
from twinfra.core.time import SYSTEM_CLOCK, parse_rfc3339, rfc3339
from twinfra.testkit.clock import VirtualClock

EARLY, LATE = datetime(1, 1, 2), datetime(9999, 12, 30)  # noqa: DTZ001 - hypothesis wants them bare
ZONES = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(EARLY, LATE, timezones=ZONES)


@given(MOMENTS)
@example(datetime(33, 4, 5, 6, 7, 8, 9, tzinfo=UTC))
def test_a_moment_is_the_same_when_spelt_and_read(moment):
    spelt = rfc3339(moment)
    assert parse_rfc3339(spelt) == moment
    assert parse_rfc3339(spelt).tzinfo is UTC
    assert len(spelt) == len("2026-01-01T00:00:00.000000Z")


@given(MOMENTS, MOMENTS)
def test_spellings_sort_as_moments_when_compared(one, other):
    assert (rfc3339(one) < rfc3339(other)) == (one < other)


def test_a_naive_moment_is_refused_when_spelt():
    with pytest.raises(ValueError, match="time zone"):
        rfc3339(datetime(2026, 1, 1))  # noqa: DTZ001 - a naive one is what is tried


@pytest.mark.parametrize(
    "text", ["2026-01-01T00:00:00", "2026-01-01", "yesterday", "", "2026-13-01T00:00:00Z"]
)
def test_a_text_is_refused_when_it_is_no_moment_with_offset(text):
    with pytest.raises(ValueError, match=r"offset|isoformat|month"):
        parse_rfc3339(text)


async def test_the_machine_clock_is_aware_and_runs_forwards_when_asked():
    before = SYSTEM_CLOCK.monotonic()
    assert SYSTEM_CLOCK.now().tzinfo is UTC
    await SYSTEM_CLOCK.sleep(0)
    assert SYSTEM_CLOCK.monotonic() >= before


async def test_sleepers_wake_in_order_when_the_virtual_clock_moves():
    clock, woken = VirtualClock(), []

    async def sleeper(name, *pauses):
        for pause in pauses:
            await clock.sleep(pause)
            woken.append((name, clock.monotonic()))

    async with asyncio.TaskGroup() as group:
        group.create_task(sleeper("a", 3, 3))
        group.create_task(sleeper("b", 2, 2, 2))
        await asyncio.sleep(0)
        await clock.advance(6)
    assert woken == [("b", 2), ("a", 3), ("b", 4), ("a", 6), ("b", 6)]
    assert clock.now() == datetime(2026, 1, 1, 0, 0, 6, tzinfo=UTC)


async def test_nobody_wakes_when_the_virtual_clock_stands():
    clock = VirtualClock()
    task = asyncio.create_task(clock.sleep(1))
    await clock.advance(0.5)
    assert not task.done()
    task.cancel()
    await clock.advance(1)
    assert task.cancelled()


async def test_a_sleep_of_nothing_returns_when_the_virtual_clock_stands():
    await VirtualClock().sleep(0)


def test_uuids_are_new_or_the_same_when_drawn_or_derived():
    assert new_uuid() != new_uuid()
    assert derived_uuid("a", "b") == derived_uuid("a", "b") != derived_uuid("ab")
