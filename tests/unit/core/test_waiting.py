"""Waiting with a bound."""

import pytest

from twinfra.testkit.ports import free_port, listening
from twinfra.testkit.waiting import wait_for, wait_for_sync


async def test_the_answer_is_given_when_the_condition_comes_true():
    answers = iter([None, 0, "now"])
    assert await wait_for(lambda: next(answers)) == "now"


async def test_an_awaitable_is_awaited_when_it_is_the_condition():
    async def so():
        return 7

    assert await wait_for(so) == 7


async def test_it_says_what_was_waited_for_when_time_is_over():
    with pytest.raises(AssertionError, match=r"the door: not so within 0 s, last answer False"):
        await wait_for(lambda: False, timeout_s=0, what="the door")


def test_it_says_what_was_waited_for_when_there_is_no_loop():
    with pytest.raises(AssertionError, match=r"the door: not so within 0 s, last answer 0"):
        wait_for_sync(lambda: 0, timeout_s=0, what="the door")
    answers = iter([False, 3])
    assert wait_for_sync(lambda: next(answers)) == 3


def test_ports_are_free_and_apart_when_many_are_asked_for():
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == 50
    assert not any(map(listening, ports[:3]))
