"""Use cases of ranking: answer, keep the answer, show it again; and who may."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from twinfra.access.audit import audit
from twinfra.access.authorization import is_member, require_group
from twinfra.access.model import Principal
from twinfra.core.errors import InvalidRequest, NotFound
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.orchestration.ranking.formula import rank
from twinfra.orchestration.ranking.model import Request
from twinfra.orchestration.ranking.ports import FactSource, RankingStore, Scorer
from twinfra.orchestration.ranking.records import RankingRecord, answer_document
from twinfra.orchestration.ranking.settings import RankingSettings

MOST_LISTED = 200
log = get_logger(__name__)


class RankingService:
    """Ranks sites.

    Args:
        source: of facts.
        scorer: scores the sites that will do.
        store: keeps answers.
        settings: limits.
        clock: dates answers.
        new_id: names them.
    """

    def __init__(
        self,
        *,
        source: FactSource,
        scorer: Scorer,
        store: RankingStore,
        settings: RankingSettings,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._source, self._scorer, self._store = source, scorer, store
        self._settings, self._clock, self._new_id = settings, clock, new_id

    async def rank(self, who: Principal, request: Request) -> dict[str, Any]:
        """Return the answer to a request, and keep it.

        Raises:
            InsufficientScope: a person asks for a group that is not theirs.
            InvalidRequest: an input does not exist, or there are too many.
            TwinfraError: a neighbour does not answer; ask again.
        """
        if not who.is_service:
            require_group(who, request.group, action="ranking.rank", resource=request.group)
        if len(request.inputs) > self._settings.max_inputs:
            raise InvalidRequest(f"more than {self._settings.max_inputs} inputs")
        facts = await self._source.facts(request)
        ranked = rank(request, facts, self._scorer)
        now, ranking_id = self._clock.now(), self._new_id()
        body = answer_document(ranking_id, now, request, ranked)
        await self._store.add(
            RankingRecord(ranking_id, now, request.group, who.sub, request.deployment, body)
        )
        log.info(
            "sites_ranked",
            ranking_id=ranking_id,
            deployment=request.deployment,
            best=ranked.candidates[0].site if ranked.candidates else None,
            candidates=len(ranked.candidates),
            excluded=len(ranked.excluded),
        )
        return body

    async def answer(self, who: Principal, ranking_id: str) -> dict[str, Any]:
        """Return an answer of the past.

        Raises:
            NotFound: there is none, or it is for another group.
        """
        found = await self._store.get(ranking_id)
        if found is None or not _may_see(who, found):
            if found is not None:
                audit("ranking.read", who, "denied", ranking_id, group=found.group)
            raise NotFound(f"there is no ranking {ranking_id}")
        return dict(found.body)

    async def of_deployment(self, who: Principal, deployment: str) -> list[dict[str, Any]]:
        """Return the answers for a deployment that `who` may see, the newest first."""
        found = await self._store.of_deployment(deployment, MOST_LISTED)
        return [dict(record.body) for record in found if _may_see(who, record)]

    async def purge(self) -> None:
        """Drop old answers, for ever, at intervals."""
        while True:
            before = self._clock.now() - timedelta(seconds=self._settings.keep_s)
            dropped = await self._store.purge(before, keep=self._settings.keep_answers)
            if dropped:
                log.info("rankings_dropped", count=dropped)
            await self._clock.sleep(self._settings.purge_interval_s)


def _may_see(who: Principal, record: RankingRecord) -> bool:
    return who.is_service or is_member(who, record.group)
