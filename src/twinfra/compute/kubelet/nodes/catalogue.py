"""Asks the catalogue how big sites are, now and then; one that is away changes nothing.

Its neighbour `controller` lets a site's own ping come first.
"""

import asyncio

from twinfra.compute.containers.machine import architecture
from twinfra.compute.interlink.client import Ping
from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.orchestration.catalogue.client import CatalogueClient, Provider

log = get_logger(__name__)

ANSWER_S = 5.0


class CatalogueSizes:
    """`Sizes` from the catalogue.

    Args:
        client: on it; calls as this service.
        clock: tells how old an answer is.
        every_s: a site is asked for at most so often.
    """

    def __init__(self, client: CatalogueClient, clock: Clock, *, every_s: float) -> None:
        self._client, self._clock, self._every_s = client, clock, every_s
        self._known: dict[str, Ping] = {}
        self._again_s: dict[str, float] = {}

    async def size(self, site: str) -> Ping:
        """Return what the catalogue says of a site, as it was last told."""
        now_s = self._clock.monotonic()
        if now_s >= self._again_s.get(site, now_s):
            self._again_s[site] = now_s + self._every_s
            try:
                async with asyncio.timeout(ANSWER_S):
                    self._known[site] = size_of((await self._client.provider(site)).provider)
            except (TwinfraError, TimeoutError) as error:
                log.info("catalogue_not_told", site=site, why=str(error) or "no answer in time")
        return self._known.get(site, Ping())


def size_of(provider: Provider) -> Ping:
    """Return a provider's size as a ping would tell it; what the provider leaves out is unknown."""
    size = provider.resources
    counts: dict[str, int] = {}
    for gpu in size.gpus:
        counts[gpu.model] = counts.get(gpu.model, 0) + gpu.count
    return Ping(
        cpus=size.cpu or None,
        memory_bytes=size.memory_bytes or None,
        accelerators=counts,
        architecture=architecture(size.architecture),
    )
