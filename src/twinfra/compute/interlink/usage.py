"""Usage records of pods: made when an attempt has ended, posted until accounting has them."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from twinfra.accounting.client import AccountingClient, JobUsage, Person, from_json, to_json
from twinfra.compute.containers.keeper.model import PodStats
from twinfra.compute.interlink.plugin.journal import Journal
from twinfra.compute.interlink.plugin.model import KeptPod
from twinfra.compute.interlink.pods.request import PodRequest
from twinfra.compute.sites.model import JobStatus, job_name
from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)

LOOK_AGAIN_S = 30.0
PAUSE_S = 2.0


@dataclass(frozen=True)
class UsageMaker:
    """Makes the usage record of an attempt.

    Attributes:
        site: as in the catalogue.
        submit_host: where jobs are handed in, such as ``host:port/queue``.
        queue: of the back end.
        benchmark_hepscore23: of one core.
    """

    site: str
    submit_host: str
    queue: str
    benchmark_hepscore23: float

    def record(
        self,
        pod: KeptPod,
        request: PodRequest,
        status: JobStatus,
        stats: PodStats | None,
        now: datetime,
    ) -> tuple[str, dict[str, Any]] | None:
        """Return the record of the present attempt; none where nothing ever ran."""
        if status.started_at is None:
            return None
        ended_at = max(status.finished_at or now, status.started_at)
        name = job_name(pod.uid, pod.attempt)
        wall_s = (ended_at - status.started_at).total_seconds()
        images = [entry.image_id for entry in pod.report.containers if entry.image_id]
        person = Person(pod.owner.issuer, pod.owner.sub)
        usage = JobUsage(
            id=f"job:{self.site}:{name}",
            site=self.site,
            person=None if pod.owner.is_service else person,
            group=pod.owner.group or None,
            deployment=pod.deployment or None,
            node=pod.node or None,
            started_at=status.started_at,
            ended_at=ended_at,
            local_job_id=f"{self.site}/{pod.native_id}",
            wall_s=round(wall_s),
            cpu_s=0 if stats is None else round(stats.cpu_time_s),
            processors=max(1, round(request.cpus)),
            gpus=float(sum(request.gpus.values())),
            memory_peak_bytes=None if stats is None else stats.memory_peak_bytes,
            benchmark_hepscore23=self.benchmark_hepscore23,
            queue=self.queue,
            submit_host=self.submit_host,
            machine_name=status.node or None,
            image=images[0] if images else None,
            attempt=pod.attempt,
            exit_code=status.exit_code,
        )
        return usage.id, to_json(usage)


class UsagePost:
    """Posts usage records, at least once; accounting keeps each once.

    Args:
        journal: holds them until then.
        client: of accounting.
    """

    def __init__(self, journal: Journal, client: AccountingClient) -> None:
        self._journal, self._client = journal, client

    async def run(self) -> None:
        """Post what stands in the outbox, for ever; runs until cancelled."""
        while True:
            self._journal.usage_news.clear()
            try:
                posted = await self.post()
            except TwinfraError as error:
                log.warning("usage_waits_for_accounting", code=error.code, detail=error.detail)
                await asyncio.sleep(PAUSE_S)
                continue
            if not posted:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self._journal.usage_news.wait()

    async def post(self) -> int:
        """Post one batch; return how many records left the outbox.

        A record that accounting will never take leaves it too: the log has it.
        """
        waiting = await self._journal.store.usage()
        if not waiting:
            return 0
        receipt = await self._client.post([from_json(record) for _, record in waiting])
        refused = {rejection.id: rejection.reason for rejection in receipt.rejected}
        for record_id, record in waiting:
            if record_id in refused:
                log.error("usage_refused", record=record, reason=refused[record_id])
        await self._journal.store.drop_usage([record_id for record_id, _ in waiting])
        return len(waiting)
