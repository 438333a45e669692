"""Answers in SQL."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Index, MetaData, Row, String, Table, delete, or_, select

from twinfra.core.database import Database, UTCDateTime
from twinfra.orchestration.ranking.records import RankingRecord

METADATA = MetaData()
RANKINGS = Table(
    "rankings",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("at", UTCDateTime, nullable=False),
    Column("group", String(255), nullable=False),
    Column("asked_by", String(255), nullable=False),
    Column("deployment", String(255)),
    Column("body", JSON, nullable=False),
    Index("ix_rankings_at", "at"),
    Index("ix_rankings_deployment_at", "deployment", "at"),
)


class SqlRankingStore:
    """Answers in the database of ranking."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: RankingRecord) -> None:
        """Keep an answer."""
        values = {
            "id": record.id,
            "at": record.at,
            "group": record.group,
            "asked_by": record.asked_by,
            "deployment": record.deployment,
            "body": dict(record.body),
        }
        async with self._database.begin() as connection:
            await connection.execute(RANKINGS.insert().values(values))

    async def get(self, ranking_id: str) -> RankingRecord | None:
        """Return an answer."""
        async with self._database.read() as connection:
            found = await connection.execute(select(RANKINGS).where(RANKINGS.c.id == ranking_id))
            row = found.first()
        return _record(row) if row is not None else None

    async def of_deployment(self, deployment: str, limit: int) -> Sequence[RankingRecord]:
        """Return the answers for a deployment, the newest first."""
        query = (
            select(RANKINGS)
            .where(RANKINGS.c.deployment == deployment)
            .order_by(RANKINGS.c.at.desc(), RANKINGS.c.id)
            .limit(limit)
        )
        async with self._database.read() as connection:
            return [_record(row) for row in await connection.execute(query)]

    async def purge(self, before: datetime, *, keep: int) -> int:
        """Drop answers older than `before`, and all but the newest `keep`; return how many."""
        newest = select(RANKINGS.c.at).order_by(RANKINGS.c.at.desc()).offset(keep - 1).limit(1)
        old = or_(RANKINGS.c.at < before, RANKINGS.c.at < newest.scalar_subquery())
        async with self._database.begin() as connection:
            dropped = await connection.execute(delete(RANKINGS).where(old))
        return dropped.rowcount


def _record(row: Row[Any]) -> RankingRecord:
    return RankingRecord(
        id=row.id,
        at=row.at,
        group=row.group,
        asked_by=row.asked_by,
        deployment=row.deployment,
        body=row.body,
    )
