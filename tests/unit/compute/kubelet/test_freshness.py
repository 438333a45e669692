"""Asking for many pods at once, at a site whose answers are spoiled by some of them."""

import asyncio
from types import SimpleNamespace

import pytest

from twinfra.compute.kubelet.pods.freshness import SPOILERS_MOST, Freshness
from twinfra.compute.kubelet.pods.record import Stage
from twinfra.compute.kubelet.settings import KubeletSettings
from twinfra.core.errors import InvalidRequest, Unavailable, UpstreamFault
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.waiting import wait_for


class Site:
    """Answers as one whose plug-in puts an error in the place of some pods' entries."""

    def __init__(self, spoilers=(), error=UpstreamFault):
        self.spoilers, self.error, self.calls = set(spoilers), error, []

    async def status(self, refs):
        self.calls.append(len(refs))
        if any(ref in self.spoilers for ref in refs):
            raise self.error("the plug-in's answer is no list of statuses: error: no such job")
        return [SimpleNamespace(uid=ref) for ref in refs]


class Asking:
    """A node's pods, asked for at a site on virtual time."""

    def __init__(self):
        self.clock, self.heard, self.missed = VirtualClock(), [], []

    def __call__(self, site, count):
        pods = {str(n): pod(str(n)) for n in range(count)}
        self.freshness = Freshness(
            site, pods, lambda report: self.heard.append(report.uid), self.missed.append,
            KubeletSettings(), self.clock,
        )  # fmt: skip
        self.freshness.all_soon()
        self.task = asyncio.create_task(self.freshness._ask())
        return self.heard, self.missed

    async def pass_time(self, times):
        for _ in range(times):
            await self.clock.advance(10)


def pod(uid):
    return SimpleNamespace(
        uid=uid, stage=Stage.LIVE, deleting=False, vanished=False, final=False, ref=lambda: uid
    )


@pytest.fixture
async def ask():
    asking = Asking()
    yield asking
    asking.task.cancel()
    await asyncio.gather(asking.task, return_exceptions=True)


async def test_all_are_asked_for_in_one_call(ask):
    site = Site()
    heard, missed = ask(site, 300)
    await wait_for(lambda: len(heard) == 300)
    assert (site.calls, missed) == ([300], [])


@pytest.mark.parametrize("error", [UpstreamFault, InvalidRequest])
async def test_others_are_heard_of_when_one_entry_is_an_error(ask, error):
    site = Site({"17", "200"}, error)
    heard, missed = ask(site, 300)
    await wait_for(lambda: len(heard) == 298)
    assert set(site.spoilers).isdisjoint(heard)
    assert missed == []  # an error is not the word that a pod is unknown
    assert len(site.calls) < 50


async def test_a_site_that_only_answers_nonsense_is_not_asked_for_each(ask):
    site = Site({str(n) for n in range(300)})
    heard, missed = ask(site, 300)
    await wait_for(lambda: site.calls.count(1) == SPOILERS_MOST)
    await asyncio.sleep(0)
    assert (heard, missed) == ([], [])
    assert len(site.calls) < 40


async def test_all_others_are_heard_of_when_many_entries_are_errors(ask):
    site = Site({str(n) for n in range(0, 300, 12)})
    heard, _ = ask(site, 300)
    await ask.pass_time(10)
    assert len(set(heard)) == 275
    site.spoilers = set()
    for _ in range(5):
        ask.freshness.all_soon()
        await ask.pass_time(1)
    assert len(set(heard)) == 300


async def test_others_are_asked_for_together_once_it_is_known_who_spoils(ask):
    site = Site({"17"})
    heard, _ = ask(site, 300)
    await wait_for(lambda: len(heard) == 299)
    site.calls.clear()
    ask.freshness.all_soon()
    await wait_for(lambda: len(heard) == 2 * 299 and len(site.calls) == 2)
    assert site.calls == [299, 1]


async def test_a_site_that_is_away_is_asked_once(ask):
    site = Site({"1"}, Unavailable)
    ask(site, 300)
    await wait_for(lambda: site.calls)
    await asyncio.sleep(0)
    assert site.calls == [300]
