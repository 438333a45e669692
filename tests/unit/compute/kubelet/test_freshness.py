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


@pytest.fixture
async def ask():
    tasks = []

    def begin(site, count):
        pods = {
            str(n): SimpleNamespace(uid=str(n), stage=Stage.LIVE, ref=lambda n=n: str(n))
            for n in range(count)
        }
        heard, missed = [], []
        freshness = Freshness(
            site, pods, lambda report: heard.append(report.uid), missed.append,
            KubeletSettings(), VirtualClock(),
        )  # fmt: skip
        for uid in pods:
            freshness.soon(uid)
        tasks.append(asyncio.create_task(freshness._ask()))
        return heard, missed

    yield begin
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


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


async def test_a_site_that_is_away_is_asked_once(ask):
    site = Site({"1"}, Unavailable)
    ask(site, 300)
    await wait_for(lambda: site.calls)
    await asyncio.sleep(0)
    assert site.calls == [300]
