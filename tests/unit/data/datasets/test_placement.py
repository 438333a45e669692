"""Where copies go: the same facts always give the same choice, and it is a good one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twinfra.data.datasets.errors import InsufficientTargets
from twinfra.data.datasets.model import RuleState
from twinfra.data.datasets.model.placement import (
    Candidate,
    Presence,
    Source,
    order_sources,
    place,
    rule_state,
)

NAMES = ["A", "B", "C", "D", "E"]
CANDIDATES = st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True)
PRESENCE = st.dictionaries(
    st.sampled_from(NAMES),
    st.builds(Presence, st.integers(0, 100), st.integers(0, 100), st.integers(0, 5)),
)
HELD = st.sets(st.sampled_from(NAMES))


@given(CANDIDATES, PRESENCE, HELD, st.text(max_size=9), st.data())
def test_choice_is_within_the_candidates_distinct_and_always_the_same(
    names, presence, held, cluster, data
):
    copies = data.draw(st.integers(1, len(names)))
    candidates = [Candidate(name) for name in names]
    chosen = place(cluster, candidates, copies, held=held, presence=presence)
    assert len(set(chosen)) == len(chosen) == copies
    assert set(chosen) <= set(names)
    again = place(cluster, candidates[::-1], copies, held=held, presence=presence)
    assert again == chosen


@given(CANDIDATES, PRESENCE, HELD, st.data())
def test_what_is_held_stays_when_a_rule_is_looked_at_again(names, presence, held, data):
    copies = data.draw(st.integers(1, len(names)))
    candidates = [Candidate(name) for name in names]
    chosen = set(place("c", candidates, copies, held=held, presence=presence))
    kept = held & set(names)
    assert kept <= chosen or chosen <= kept


@given(CANDIDATES, PRESENCE)
def test_most_of_the_data_decides_when_nothing_is_held(names, presence):
    (chosen,) = place("c", [Candidate(name) for name in names], 1, presence=presence)
    most = max(presence.get(name, Presence()).available_bytes for name in names)
    assert presence.get(chosen, Presence()).available_bytes == most


@given(CANDIDATES)
def test_too_few_candidates_are_refused(names):
    with pytest.raises(InsufficientTargets):
        place("c", [Candidate(name) for name in names], len(names) + 1)


def test_lots_follow_the_weights_when_nothing_else_decides():
    candidates = [Candidate("A", 3.0), Candidate("B", 1.0), Candidate("C", 0.0)]
    drawn = [place(f"cluster {n}", candidates, 1)[0] for n in range(4000)]
    assert drawn.count("C") == 0
    assert 2.5 < drawn.count("A") / drawn.count("B") < 3.6


@pytest.mark.parametrize(
    ("replicating", "stuck", "state"),
    [(0, 0, "OK"), (1, 0, "REPLICATING"), (0, 1, "STUCK"), (5, 1, "STUCK")],
)
def test_rule_state_follows_its_locks(replicating, stuck, state):
    assert rule_state(replicating, stuck) is RuleState(state)


SOURCES = st.lists(
    st.builds(
        Source, st.sampled_from(NAMES), st.just("u"), st.integers(0, 9), st.booleans(),
        st.integers(0, 2),
    ),
    max_size=6,
)  # fmt: skip


@given(SOURCES)
def test_sources_are_ordered_by_failures_then_kind_then_distance(sources):
    ordered = order_sources(sources)
    keys = [(one.strikes, one.is_tape, one.distance) for one in ordered]
    assert keys == sorted(keys)
    assert sorted(ordered, key=repr) == sorted(sources, key=repr)
