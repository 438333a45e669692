"""Which sites there are, and where their edges stand: from the catalogue and the settings."""

from collections.abc import Mapping

from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.orchestration.catalogue.client import CatalogueClient

log = get_logger(__name__)


class Directory:
    """Knows the edge of each site.

    Args:
        catalogue: asked for providers.
        further: base URLs by site, besides; they win.
    """

    def __init__(self, catalogue: CatalogueClient, further: Mapping[str, str]) -> None:
        self._catalogue, self._further = catalogue, dict(further)
        self._edges: dict[str, str] = dict(further)

    @property
    def edges(self) -> Mapping[str, str]:
        """Return base URLs by site, as last known."""
        return self._edges

    async def refresh(self) -> None:
        """Ask the catalogue; what was known stays known while it does not answer."""
        try:
            listed = await self._catalogue.providers()
        except TwinfraError as error:
            log.info("catalogue_unavailable", error=error.detail)
            return
        found = {each.name: each.provider.edge_url for each in listed if each.provider.edge_url}
        self._edges = {site: url.rstrip("/") for site, url in found.items()} | self._further

    async def edge_of(self, site: str) -> str | None:
        """Return the base URL of a site's edge, asking once if it is not known."""
        if site not in self._edges:
            await self.refresh()
        return self._edges.get(site)
