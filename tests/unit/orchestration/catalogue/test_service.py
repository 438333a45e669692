"""The catalogue's use cases on both databases, with a clock that stands still."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from twinfra.access.model import Principal
from twinfra.core.errors import InsufficientCapacity, InvalidRequest
from twinfra.orchestration.catalogue.errors import VersionMismatch
from twinfra.orchestration.catalogue.model import (
    ChangeKind,
    Condition,
    Provider,
    ProviderFilter,
    ProviderState,
    Resources,
    address_of,
)
from twinfra.orchestration.catalogue.service import Catalogue
from twinfra.orchestration.catalogue.settings import CatalogueSettings
from twinfra.orchestration.catalogue.store import SqlProviderStore
from twinfra.orchestration.catalogue.wiring import MIGRATIONS
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.waiting import wait_for

SITE = Principal(
    "https://i", "service:plugin@hpc-b", "x", frozenset(), (), None, "t", is_service=True
)
OLGA = Principal(
    "https://i", "olga", "cli", frozenset({"operators"}), (), None, "t", is_service=False
)
HPC = Provider("hpc-b", "hpc")


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def catalogue(database, clock):
    await database.migrate(MIGRATIONS)
    settings = CatalogueSettings(history_lines=4, max_providers=3)
    return Catalogue(SqlProviderStore(database, history_lines=4), settings, clock)


async def test_deadline_moves_and_nothing_else_when_a_heartbeat_comes(catalogue, clock):
    first, is_new = await catalogue.register(SITE, HPC, ttl_s=10)
    await clock.advance(7)
    second, again_new = await catalogue.register(SITE, HPC, ttl_s=10)
    assert (is_new, again_new) == (True, False)
    assert second.expires_at - first.expires_at == timedelta(seconds=7)
    assert (second.updated_at, second.registered_at) == (first.updated_at, first.registered_at)
    assert await catalogue.get("hpc-b") == second


async def test_provider_is_stale_exactly_from_its_deadline_on(catalogue, clock):
    await catalogue.register(SITE, HPC, ttl_s=10)
    wanted = ProviderFilter(state=ProviderState.STALE)
    await clock.advance(9.9)
    assert await catalogue.find(wanted) == []
    assert await catalogue.expire() == []
    await clock.advance(0.1)
    assert [each.provider for each in await catalogue.find(wanted)] == [HPC]
    assert await catalogue.expire() == ["hpc-b"]
    assert await catalogue.expire() == []


async def test_watch_notes_each_deadline_when_it_passes_and_wakes_for_news(catalogue, clock):
    task = asyncio.create_task(catalogue.watch())
    try:
        await catalogue.register(SITE, HPC, ttl_s=10)

        async def kinds():
            await clock.advance(0.5)
            return [line.kind for line in await catalogue.history("hpc-b")]

        async def noted():
            return await kinds() == [ChangeKind.STALE, ChangeKind.REGISTERED]

        await wait_for(noted, what="the deadline is noted")
        assert clock.monotonic() >= 10
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_oldest_lines_are_dropped_when_history_is_full(catalogue):
    for cpu in range(8):
        await catalogue.register(SITE, replace(HPC, resources=Resources(cpu=cpu)))
    lines = await catalogue.history("hpc-b")
    assert [line.document["resources"]["cpu"] for line in lines] == [7, 6, 5, 4]


async def test_registration_is_refused_when_the_catalogue_is_full(catalogue):
    for number in range(3):
        await catalogue.register(OLGA, Provider(f"site-{number}", "cloud"))
    with pytest.raises(InsufficientCapacity):
        await catalogue.register(OLGA, Provider("site-3", "cloud"))
    await catalogue.register(OLGA, Provider("site-2", "edge"))


async def test_time_to_live_is_refused_when_it_is_beyond_the_settings(catalogue):
    for ttl_s in (0.5, 1e9):
        with pytest.raises(InvalidRequest, match="ttl_s must be from 1 to 86400"):
            await catalogue.register(SITE, HPC, ttl_s=ttl_s)


async def test_one_of_two_wins_when_both_change_what_they_saw(catalogue):
    seen, _ = await catalogue.register(SITE, HPC)
    condition = Condition(if_match=seen.provider.etag)
    changes = [replace(HPC, resources=Resources(cpu=cpu)) for cpu in range(1, 6)]
    answers = await asyncio.gather(
        *(catalogue.register(SITE, each, condition=condition) for each in changes),
        return_exceptions=True,
    )
    lost = [each for each in answers if isinstance(each, VersionMismatch)]
    assert len(lost) == 4


async def test_one_of_two_wins_when_both_want_to_be_first(catalogue):
    condition = Condition(if_none_match="*")
    answers = await asyncio.gather(
        *(catalogue.register(SITE, HPC, condition=condition) for _ in range(4)),
        return_exceptions=True,
    )
    assert sum(not isinstance(each, Exception) for each in answers) == 1


@pytest.mark.parametrize(
    ("condition", "etag", "holds"),
    [
        (Condition(), None, True),
        (Condition(if_match="*"), None, False),
        (Condition(if_match="*"), '"a"', True),
        (Condition(if_match='"b", "a"'), '"a"', True),
        (Condition(if_match='W/"a"'), '"a"', False),
        (Condition(if_none_match="*"), None, True),
        (Condition(if_none_match="*"), '"a"', False),
        (Condition(if_none_match='"b"'), '"a"', True),
    ],
)
def test_condition_holds_as_http_says(condition, etag, holds):
    assert condition.holds(etag) is holds


def test_address_has_the_schemes_port_when_the_url_names_none():
    assert address_of("https://edge.example.org") == "edge.example.org:443"
    assert address_of("http://127.0.0.1:81/x") == "127.0.0.1:81"
    assert address_of("https://[::1]:99999") is None
    assert address_of("nonsense") is None
