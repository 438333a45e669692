"""What ranking needs of others: facts, a way to score, and memory."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from twinfra.orchestration.ranking.model import Factor, Facts, Request, SiteFacts
from twinfra.orchestration.ranking.records import RankingRecord


class FactSource(Protocol):
    """Where facts come from."""

    async def facts(self, request: Request) -> Facts:
        """Return all facts for a request.

        Raises:
            InvalidRequest: an input does not exist; all of them are named.
            TwinfraError: a neighbour does not answer.
        """
        ...


class Scorer(Protocol):
    """A way to score a site that will do.

    The formula is one; a model that learns from what became of past choices can stand beside it.
    Guarantees: the same arguments give the same factors, each normalised from 0 to 1.
    """

    @property
    def version(self) -> str:
        """Return what names this scorer and its parameters."""
        ...

    def factors(self, request: Request, site: SiteFacts, facts: Facts) -> tuple[Factor, ...]:
        """Return the parts of the site's score."""
        ...


class RankingStore(Protocol):
    """Memory of answers."""

    async def add(self, record: RankingRecord) -> None:
        """Keep an answer."""
        ...

    async def get(self, ranking_id: str) -> RankingRecord | None:
        """Return an answer."""
        ...

    async def of_deployment(self, deployment: str, limit: int) -> Sequence[RankingRecord]:
        """Return the answers for a deployment, the newest first."""
        ...

    async def purge(self, before: datetime, *, keep: int) -> int:
        """Drop answers older than `before`, and all but the newest `keep`; return how many."""
        ...
