"""Which storages may be called: those of the catalogue's providers and those of the settings.

A URL that somebody submits is called with the service's network and the submitter's tokens, so
nothing that is not registered is ever called, redirects included.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.data.transfers.model.links import address_of

log = get_logger(__name__)

ANY = "*"
ASK_AGAIN_S = 1.0
Registry = Callable[[], Awaitable[Mapping[str, str]]]


class CataloguePeers:
    """Remembers what the catalogue says; asks again when it is old or a storage is not known.

    Args:
        registry: gives the base URL of each site's storage by site.
        further: ``host:port`` of storages outside the catalogue; ``*`` allows any.
        refresh_s: how long an answer is believed.
        clock: tells its age.
    """

    def __init__(
        self, registry: Registry, further: tuple[str, ...], *, refresh_s: float, clock: Clock
    ) -> None:
        self._registry, self._further = registry, frozenset(further)
        self._refresh_s, self._clock = refresh_s, clock
        self._sites: dict[str, str] = {}
        self._asked_at: float | None = None
        self._failed = False
        self._asking = asyncio.Lock()

    async def allowed(self, url: str) -> bool | None:
        """Say whether the URL's host and port are registered; none if that cannot be known."""
        if ANY in self._further:
            return True
        address = address_of(url)
        if address in self._further:
            return True
        async with self._asking:  # whoever comes while the catalogue is asked waits for its answer
            known = address in self._sites
            if self._older_than(self._refresh_s if known else ASK_AGAIN_S):
                await self._ask()
        if address in self._sites:
            return True
        return None if self._failed else False

    def site_of(self, url: str) -> str | None:
        """Return the site whose storage this is, as far as known."""
        return self._sites.get(address_of(url))

    def _older_than(self, seconds: float) -> bool:
        return self._asked_at is None or self._clock.monotonic() - self._asked_at > seconds

    async def _ask(self) -> None:
        self._asked_at = self._clock.monotonic()
        try:
            found = await self._registry()
        except TwinfraError as error:
            log.warning("storage_registry_unavailable", error=error.detail)
            self._failed = True
            return
        self._failed = False
        self._sites = {address_of(url): site for site, url in found.items()}
