"""Who is visiting the page."""

import pytest

from twinfra.core.errors import InvalidRequest
from twinfra.dashboard.visits import Visits
from twinfra.testkit.clock import VirtualClock


class Tokens:
    """Stands for a person's tokens."""


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
def visits(clock):
    return Visits(clock, visit_s=60, most=3)


def signed_in(visits):
    key, _ = visits.begin("/")
    return visits.admit(key, Tokens)[0]


def test_nobody_is_put_out_when_strangers_begin_many_visits(visits):
    mine = signed_in(visits)
    begun = [visits.begin("/")[0] for _ in range(10)]
    assert visits.find(mine).tokens
    assert [bool(visits.find(key)) for key in begun] == [False] * 7 + [True] * 3


def test_the_longest_unseen_goes_when_too_many_are_signed_in(visits):
    keys = [signed_in(visits) for _ in range(3)]
    visits.find(keys[0])
    signed_in(visits)
    assert [bool(visits.find(key)) for key in keys] == [True, False, True]


async def test_a_visit_ends_when_it_was_idle(visits, clock):
    key, (begun, _) = signed_in(visits), visits.begin("/")
    await clock.advance(61)
    assert visits.find(key) is None
    assert visits.find(begun) is None


def test_a_sign_in_counts_once(visits):
    key, _ = visits.begin("/")
    fresh, _ = visits.admit(key, Tokens)
    assert fresh != key
    assert visits.find(key) is None
    with pytest.raises(InvalidRequest):
        visits.admit(key, Tokens)
    visits.end(fresh)
    visits.end(fresh)
    assert visits.find(fresh) is None
