"""Facts from the neighbours: the catalogue, monitoring and the datasets service.

Asks all of them at once; an answer without one of them would rank blindly, so it is none. Its
neighbour ``formula`` only sees the facts.
"""

import asyncio
from collections.abc import Mapping, Sequence

from twinfra.core.errors import InvalidRequest, NotFound
from twinfra.data.datasets.client import DatasetsClient, Did, DidType
from twinfra.orchestration.catalogue.client import (
    CatalogueClient,
    ListedProvider,
    Provider,
    ProviderState,
)
from twinfra.orchestration.monitoring.client import MonitoringClient, SiteStatus
from twinfra.orchestration.ranking.model import Facts, InputFacts, Request, SiteFacts


class NeighbourFacts:
    """Gathers facts over the neighbours' clients.

    Args:
        catalogue: what sites there are.
        monitoring: how they are.
        datasets: where the data is.
    """

    def __init__(
        self, catalogue: CatalogueClient, monitoring: MonitoringClient, datasets: DatasetsClient
    ) -> None:
        self._catalogue, self._monitoring, self._datasets = catalogue, monitoring, datasets

    async def facts(self, request: Request) -> Facts:
        """Return all facts for a request; see `FactSource.facts`."""
        wanted = tuple(dict.fromkeys(request.inputs))
        providers, statuses, found = await asyncio.gather(
            self._catalogue.providers(),
            self._monitoring.statuses(),
            asyncio.gather(*(self._input(did) for did in wanted), return_exceptions=True),
        )
        by_site = {status.site: status for status in statuses}
        rses = {each.provider.rse or each.name.upper(): each.name for each in providers}
        return Facts(
            sites=tuple(site_facts(each, by_site.get(each.name), request) for each in providers),
            inputs=_inputs(wanted, found, rses),
        )

    async def _input(self, text: str) -> tuple[int, dict[str, int]]:
        """Return the size of a dataset and how much of it each RSE holds."""
        did = await self._datasets.resolve(Did.parse(text))
        info = await self._datasets.get_did(did)
        held: dict[str, int] = {}
        if info.type is DidType.FILE:
            size = info.size_bytes or 0
            for replica in await self._datasets.list_replicas([did]):
                held.update({rse: size for rse in replica.states if replica.at(rse)})
            return size, held
        size = info.size_bytes or 0
        for each in await self._datasets.dataset_replicas(did):
            held[each.rse] = held.get(each.rse, 0) + each.available_bytes
        return size, held


def site_facts(listed: ListedProvider, status: SiteStatus | None, request: Request) -> SiteFacts:
    """Return the facts of a site from what the catalogue and monitoring say of it."""
    provider = listed.provider
    size = provider.resources
    looked_at = status is not None and status.checked_at is not None
    return SiteFacts(
        name=provider.name,
        kind=provider.kind,
        stale=listed.state is ProviderState.STALE,
        up=status.up if status is not None and looked_at else None,
        down_reason=status.reason if status else "",
        runs_jobs=provider.interlink_url is not None,
        no_containers=_no_containers(provider),
        admits_group=provider.policies.admits(request.group),
        share=provider.policies.shares.get(request.group, 0.0),
        capabilities=provider.capabilities,
        architecture=size.architecture,
        cpu=size.cpu,
        memory_bytes=size.memory_bytes,
        gpus=size.gpu_count,
        free_cpu=status.free.cpu if status else None,
        free_memory_bytes=status.free.memory_bytes if status else None,
        free_gpus=status.free.gpus if status else None,
        free_slots=status.free.slots if status else None,
        queue_length=status.queue.length if status else None,
        queue_wait_s=status.queue.wait_s if status else None,
        failure_rate=status.failure_rate if status else 0.0,
        benchmark_hepscore23=provider.benchmark_hepscore23,
        cpu_hour_cost=provider.cost.cpu_hour,
        bandwidth_bytes_per_s=dict(provider.link_bandwidth_bytes_per_s),
    )


def _no_containers(provider: Provider) -> str:
    if provider.containers.available:
        return ""
    return provider.containers.why_not or "it does not say why"


def _inputs(
    wanted: Sequence[str],
    found: Sequence[tuple[int, dict[str, int]] | BaseException],
    sites: Mapping[str, str],
) -> tuple[InputFacts, ...]:
    missing: list[dict[str, str]] = []
    inputs: list[InputFacts] = []
    for did, answer in zip(wanted, found, strict=True):
        if isinstance(answer, NotFound | InvalidRequest):
            known = isinstance(answer, NotFound)
            detail = f"there is no dataset {did}" if known else answer.detail
            missing.append({"field": "inputs", "detail": detail})
        elif isinstance(answer, BaseException):
            raise answer
        else:
            size, held = answer
            at = {sites[rse]: count for rse, count in held.items() if rse in sites and count}
            inputs.append(InputFacts(did, size, at))
    if missing:
        raise InvalidRequest("; ".join(each["detail"] for each in missing), errors=missing)
    return tuple(inputs)
