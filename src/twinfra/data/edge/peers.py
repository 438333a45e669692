"""`Peers` by the settings and the catalogue: the edges of all registered sites.

While the catalogue is away its last answer counts; an address that is not in it, nor in the
settings, is never connected to.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping

from twinfra.core.errors import TwinfraError, Unavailable
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.data.edge.dav.destination import parse_url
from twinfra.data.edge.ports import Peer
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.orchestration.catalogue.client import CatalogueClient

log = get_logger(__name__)

ASK_AGAIN_S = 1.0
Ask = Callable[[], Awaitable[Mapping[str, str]]]


class RegisteredPeers:
    """The storages of the federation, and those that the settings name.

    Args:
        fixed: ``host:port`` of further storages.
        ask: returns the base URL of each site's edge by the site's name; none: nobody is asked.
        clock: tells how old the answer is.
        refresh_s: age at which it is asked for again.
    """

    def __init__(
        self, fixed: Iterable[str], ask: Ask | None, clock: Clock, *, refresh_s: float
    ) -> None:
        self._fixed = dict(_peer(address) for address in fixed)
        self._ask, self._clock, self._refresh_s = ask, clock, refresh_s
        self._known: dict[tuple[str, int], Peer] = {}
        self._asked_at = float("-inf")
        self._silent = False
        self._asking = asyncio.Lock()

    async def find(self, host: str, port: int) -> Peer | None:
        """Return the peer at `host` and `port`, or none if it is not registered.

        Raises:
            Unavailable: that cannot be known while the catalogue is silent.
        """
        address = (host.lower(), port)
        known = self._known.get(address)
        await self._refresh(self._refresh_s if known else ASK_AGAIN_S)
        found = self._known.get(address) or self._fixed.get(address)
        if found is None and self._silent:
            raise Unavailable("the catalogue of storages does not answer")
        return found

    async def _refresh(self, older_than_s: float) -> None:
        if self._ask is None:
            return
        async with self._asking:
            if self._clock.monotonic() - self._asked_at < older_than_s:
                return
            self._asked_at = self._clock.monotonic()
            try:
                answer = await self._ask()
            except TwinfraError as error:
                log.warning("peers_not_refreshed", error=str(error))
                self._silent = True
                return
            self._known, self._silent = {}, False
            for site, url in answer.items():
                try:
                    door = parse_url(url)
                except HttpRefusal:
                    log.warning("peer_has_no_url", site=site)
                    continue
                self._known[door.host, door.port] = Peer(door.host, door.port, site)


def catalogue_edges(catalogue: CatalogueClient) -> Ask:
    """Return what asks `catalogue` for the edges of all sites."""

    async def ask() -> Mapping[str, str]:
        listed = await catalogue.providers()
        return {
            item.provider.name: item.provider.edge_url for item in listed if item.provider.edge_url
        }

    return ask


def _peer(address: str) -> tuple[tuple[str, int], Peer]:
    url = parse_url(f"https://{address}/")
    return (url.host, url.port), Peer(url.host, url.port)
