"""Who runs next, and what a site says of its room."""

from hypothesis import given
from hypothesis import strategies as st

from twinfra.compute.sites.local.queue import Offer, Size, figures, free, startable

OFFER = Offer(Size(cpus=4, memory_bytes=100, gpus=1, slots=3), reserved_cpus=1)


def test_jobs_start_in_order_as_far_as_there_is_room():
    waiting = [(1, Size(1, 10)), (2, Size(1, 10)), (3, Size(1, 10)), (4, Size(1, 10))]
    assert startable(free(OFFER, []), waiting) == [1, 2, 3]
    assert startable(free(OFFER, [Size(1, 10)]), waiting) == [1, 2]


def test_nobody_overtakes_a_job_that_does_not_fit_yet():
    waiting = [(1, Size(3, 10)), (2, Size(1, 10))]
    assert startable(free(OFFER, [Size(1, 10)]), waiting) == []


def test_a_job_larger_than_the_site_is_refused_with_the_reason():
    assert "cpus: 4" in OFFER.refusal(Size(cpus=4))
    assert "gpus: 2" in OFFER.refusal(Size(gpus=2))
    assert OFFER.refusal(Size(cpus=3, memory_bytes=100, gpus=1)) == ""


def test_the_wait_is_nothing_while_there_is_room():
    assert figures(OFFER, [Size(1, 10)], 0, [30.0]).wait_s == 0
    full = figures(OFFER, [Size(1, 10)] * 3, 2, [30.0, 60.0])
    assert (full.free_slots, full.queue_length, full.wait_s) == (0, 2, 45.0)


SIZES = st.builds(
    Size, st.floats(0, 8, width=16), st.integers(0, 200), st.integers(0, 2), st.just(1)
)


@given(st.lists(SIZES, max_size=12))
def test_what_starts_together_always_fits(sizes):
    room = free(OFFER, [])
    started = startable(room, list(enumerate(sizes)))
    assert started == list(range(len(started)))
    for key in started:
        room = room.minus(sizes[key])
    assert room.cpus >= -0.02 * len(sizes)
    assert min(room.memory_bytes, room.gpus, room.slots) >= 0
