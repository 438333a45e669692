"""The typed client of monitoring."""

from collections.abc import Mapping
from typing import Any

from twinfra.core.errors import UpstreamFault
from twinfra.core.http.client import HttpClient
from twinfra.orchestration.monitoring.model import Check, Free, Queue, SiteStatus

__all__ = ["Check", "Free", "MonitoringClient", "Queue", "SiteStatus"]


class MonitoringClient:
    """Speaks to monitoring.

    Args:
        http: a client on its base URL; every call may bring a token of its own instead.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def statuses(self, *, token: str | None = None) -> list[SiteStatus]:
        """Return how all sites are, by name."""
        reply = await self._http.request("GET", "/status", token=token, retry=True)
        return [_status(body) for body in reply.json()]

    async def status(self, site: str, *, token: str | None = None) -> SiteStatus:
        """Return how a site is.

        Raises:
            NotFound: the catalogue does not know it.
        """
        reply = await self._http.request("GET", f"/status/{site}", token=token, retry=True)
        return _status(reply.json())

    async def probe(self, site: str, *, token: str | None = None) -> SiteStatus:
        """Have a site looked at now, and return how it is.

        Raises:
            NotFound: the catalogue does not know it.
        """
        reply = await self._http.request("POST", f"/probe/{site}", token=token, retry=True)
        return _status(reply.json())

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def _status(body: Mapping[str, Any]) -> SiteStatus:
    try:
        return SiteStatus.from_json(body)
    except (KeyError, TypeError, ValueError) as error:
        raise UpstreamFault("monitoring answered with something else than a status") from error
