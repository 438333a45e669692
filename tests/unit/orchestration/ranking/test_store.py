"""Answers are kept for a while, on both databases."""

from datetime import UTC, datetime, timedelta

import pytest

from twinfra.orchestration.ranking.records import RankingRecord
from twinfra.orchestration.ranking.store import SqlRankingStore
from twinfra.orchestration.ranking.wiring import MIGRATIONS

START = datetime(2026, 1, 1, tzinfo=UTC)


def record(number: int, deployment: str | None = "d") -> RankingRecord:
    at = START + timedelta(minutes=number)
    return RankingRecord(f"r{number}", at, "climate", "alice", deployment, {"id": f"r{number}"})


@pytest.fixture
async def store(database):
    await database.migrate(MIGRATIONS)
    made = SqlRankingStore(database)
    for number in range(6):
        await made.add(record(number, "d" if number < 4 else None))
    return made


async def test_answer_is_read_back_when_it_was_kept(store):
    assert await store.get("r1") == record(1)
    assert await store.get("r9") is None
    assert await store.of_deployment("d", 2) == [record(3), record(2)]
    assert await store.of_deployment("other", 2) == []


async def test_old_answers_are_dropped_when_their_time_is_over(store):
    assert await store.purge(START + timedelta(minutes=2), keep=100) == 2
    assert await store.get("r1") is None
    assert await store.get("r2") == record(2)


async def test_oldest_answers_are_dropped_when_there_are_too_many(store):
    assert await store.purge(START, keep=2) == 4
    assert await store.purge(START, keep=2) == 0
    assert [await store.get(f"r{n}") is not None for n in range(6)] == [False] * 4 + [True] * 2
