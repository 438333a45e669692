"""A site tells the catalogue and the datasets service that it is there, and goes on telling.

What it says of itself is found out, not wished: it calls itself ``isolated`` only where the
container runtime has proved that it can be.
"""

import platform
from dataclasses import dataclass
from typing import Any

from twinfra.compute.containers.model import Isolation
from twinfra.compute.containers.uplink import find_uplink
from twinfra.compute.sites.settings import ComputeSettings, ProviderSettings
from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.data.datasets.client import DatasetsClient
from twinfra.orchestration.catalogue.client import CatalogueClient, Provider

log = get_logger(__name__)

TRY_AGAIN_S = 1.0
STORAGE_EVERY_BEATS = 30


@dataclass(frozen=True)
class SiteFacts:
    """What is known of a site at its start.

    Attributes:
        name: of the site.
        compute: how much there is.
        provider: how it presents itself.
        isolation: what the chosen container runtime can do.
        edge_url: base URL of its storage edge.
        interlink_url: base URL of its interLink API.
    """

    name: str
    compute: ComputeSettings
    provider: ProviderSettings
    isolation: Isolation
    edge_url: str
    interlink_url: str

    @property
    def rse(self) -> str:
        """The name of its storage element."""
        return self.provider.rse or self.name.upper()

    @property
    def isolated(self) -> bool:
        """Whether its containers have namespaces of their own."""
        return self.isolation.isolated

    def capabilities(self) -> tuple[str, ...]:
        """Return what it offers."""
        way_out = self.compute.network == "private" and bool(find_uplink())
        outbound = way_out or self.compute.network == "host" or not self.isolated
        offers = {
            "isolated": self.isolated,
            "services": self.provider.services and self.isolation.available,
            "outbound": outbound and self.isolation.available,
            "gpu": bool(self.compute.gpus),
            "batch": self.compute.queue and self.isolation.available,
        }
        return tuple(sorted(name for name, there in offers.items() if there))

    def document(self) -> dict[str, Any]:
        """Return the provider document."""
        place = self.provider.location
        return {
            "name": self.name,
            "kind": self.provider.kind,
            "rse": self.rse,
            "edge_url": self.edge_url,
            "interlink_url": self.interlink_url,
            "location": {"country": place.country, "lat": place.lat, "lon": place.lon},
            "resources": {
                "cpu": max(0.0, self.compute.cpus - self.compute.reserved_cpus),
                "memory_bytes": self.compute.memory_bytes,
                "gpus": [
                    {"model": kind, "count": count} for kind, count in self.compute.gpus.items()
                ],
                "slots": self.compute.slots,
                "architecture": platform.machine(),
            },
            "capabilities": list(self.capabilities()),
            "containers": {
                "available": self.isolation.available,
                "why_not": self.isolation.why_not,
                "fix": self.isolation.fix,
            },
            "policies": {"groups": list(self.provider.groups)},
            "link_bandwidth_bytes_per_s": dict(self.provider.link_bandwidth_bytes_per_s),
            "cost": {"cpu_hour": self.provider.cpu_hour_cost},
            "benchmark_hepscore23": self.provider.benchmark_hepscore23,
        }


class Registration:
    """Registers a site and says that it is still there.

    Args:
        facts: of the site.
        catalogue: told what the site offers.
        datasets: told where its storage is.
        clock: paces it.
    """

    def __init__(
        self,
        facts: SiteFacts,
        catalogue: CatalogueClient,
        datasets: DatasetsClient,
        clock: Clock,
    ) -> None:
        self._facts, self._catalogue, self._datasets = facts, catalogue, datasets
        self._clock = clock
        self.registered = False

    async def run(self) -> None:
        """Go on telling for ever; runs until cancelled. A neighbour that is away is tried again."""
        self._say_why()
        beat = 0
        while True:
            try:
                if beat % STORAGE_EVERY_BEATS == 0:
                    await self.register_storage()
                await self.register()
            except TwinfraError as error:
                log.warning("site_not_registered", site=self._facts.name, detail=error.detail)
                self.registered, beat = False, 0
                await self._clock.sleep(TRY_AGAIN_S)
                continue
            if not self.registered:
                self.registered = True
                log.info("site_registered", site=self._facts.name)
            beat += 1
            await self._clock.sleep(self._facts.provider.heartbeat_s)

    async def register(self) -> None:
        """Tell the catalogue what the site offers; saying it again is a heartbeat."""
        provider = Provider.from_json(self._facts.document())
        await self._catalogue.register(provider, ttl_s=self._facts.provider.ttl_s or None)

    async def register_storage(self) -> None:
        """Tell the datasets service where the site's storage is."""
        await self._datasets.register_rse(
            self._facts.rse,
            base_url=self._facts.edge_url,
            attributes={"site": self._facts.name, "type": "DISK"},
        )

    def _say_why(self) -> None:
        isolation = self._facts.isolation
        if not isolation.available:
            log.error(
                "site_without_container_runtime",
                site=self._facts.name,
                why_not=isolation.why_not,
                fix=isolation.fix,
            )
        elif not isolation.isolated:
            log.warning(
                "site_not_isolated",
                site=self._facts.name,
                runtime=isolation.runtime,
                why_not=isolation.why_not,
                fix=isolation.fix,
            )
