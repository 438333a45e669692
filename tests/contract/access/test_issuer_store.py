"""The issuer's tables on both databases: what may happen once happens once."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from twinfra.access.issuer.model import Code, Refresh, Subject
from twinfra.access.issuer.store import IssuerStore

NOW = datetime(2026, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
ALICE = Subject("alice", ("climate", "climate/ocean"), "https://outside.test")
REFRESH = Refresh("d1", "f", "twinfra-cli", ALICE, ("openid",), {"sub": "service:x"}, LATER)
CODE = Code("c1", "device", "pending", "twinfra-cli", {"scopes": ["openid"]}, LATER, "BCDF-GHJK")


@pytest.fixture
async def store(database):
    await database.migrate("twinfra.access.issuer.migrations")
    return IssuerStore(database)


async def test_refresh_token_is_the_same_when_kept_and_found(store):
    await store.add_refresh(REFRESH)

    assert await store.find_refresh("d1") == REFRESH
    assert await store.find_refresh("other") is None


@pytest.mark.story("store contracts, migrations on both")
async def test_refresh_token_is_replaced_once_when_many_try_at_the_same_time(store):
    await store.add_refresh(REFRESH)
    followers = [replace(REFRESH, digest=f"n{number}") for number in range(8)]

    done = await asyncio.gather(
        *(store.rotate_refresh("d1", follower, NOW) for follower in followers)
    )

    assert sorted(done) == [False] * 7 + [True]
    found = [await store.find_refresh(follower.digest) for follower in followers]
    assert sum(token is not None for token in found) == 1
    assert (await store.find_refresh("d1")).used_at == NOW


async def test_all_tokens_of_a_login_are_gone_when_it_ends(store):
    await store.add_refresh(REFRESH)
    await store.add_refresh(replace(REFRESH, digest="d2"))
    await store.add_refresh(replace(REFRESH, digest="d3", family="other"))

    await store.end_family("f")

    assert await store.find_refresh("d1") is await store.find_refresh("d2") is None
    assert await store.find_refresh("d3") is not None


async def test_code_moves_once_when_many_try_at_the_same_time(store):
    await store.add_code(CODE)

    done = await asyncio.gather(
        *(store.move_code("c1", "pending", "approved", {"n": n}) for n in range(8))
    )

    assert sorted(done) == [False] * 7 + [True]
    found = await store.find_code("c1", "device", NOW)
    assert (found.status, found.data) == ("approved", {"n": done.index(True)})


async def test_code_is_not_found_when_it_is_of_another_kind_or_has_ended(store):
    await store.add_code(CODE)

    assert await store.find_user_code("BCDF-GHJK", NOW) == CODE
    assert await store.find_code("c1", "session", NOW) is None
    assert await store.find_code("c1", "device", LATER) is None
    assert await store.find_user_code("BCDF-GHJK", LATER) is None


async def test_ended_rows_are_gone_when_purged(store):
    await store.add_refresh(REFRESH)
    await store.add_code(CODE)
    await store.revoke("j1", NOW)
    await store.revoke("j1", NOW)
    await store.revoke("j2", LATER + timedelta(seconds=1))
    assert await store.is_revoked("j1")

    assert await store.purge(NOW) == 1
    assert not await store.is_revoked("j1")
    assert await store.purge(LATER) == 2
    assert await store.is_revoked("j2")
