"""The typed client of the catalogue."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinfra.core.errors import UpstreamFault
from twinfra.core.http.client import OK, HttpClient, error_of
from twinfra.orchestration.catalogue.errors import VersionMismatch
from twinfra.orchestration.catalogue.model import Provider, ProviderState

__all__ = ["CatalogueClient", "ListedProvider", "Provider", "ProviderState", "VersionMismatch"]


@dataclass(frozen=True, slots=True)
class ListedProvider:
    """A provider, and how it stands."""

    provider: Provider
    state: ProviderState
    etag: str

    @property
    def name(self) -> str:
        """Return the name of the site."""
        return self.provider.name


class CatalogueClient:
    """Speaks to the catalogue.

    Args:
        http: a client on its base URL; every call may bring a token of its own instead.
    """

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def providers(self, *, token: str | None = None, **filters: str) -> list[ListedProvider]:
        """Return the providers by name.

        Args:
            token: instead of the client's own.
            filters: ``state``, ``kind``, ``capability``, ``group``, ``country``.
        """
        reply = await self._http.request(
            "GET", "/providers", params=filters, token=token, retry=True
        )
        return [_listed(document) for document in reply.json()]

    async def provider(self, name: str, *, token: str | None = None) -> ListedProvider:
        """Return one provider.

        Raises:
            NotFound: there is none of that name.
        """
        reply = await self._http.request("GET", f"/providers/{name}", token=token, retry=True)
        return _listed(reply.json())

    async def register(
        self,
        provider: Provider,
        *,
        ttl_s: float | None = None,
        if_match: str | None = None,
        token: str | None = None,
    ) -> ListedProvider:
        """Register a provider, change it, or say that it is still there; repeat it at will.

        Args:
            provider: as it is now.
            ttl_s: how long without a word it counts as there; default: the catalogue's.
            if_match: only if the provider still has this entity tag.
            token: instead of the client's own.

        Raises:
            VersionMismatch: it has another tag, or none.
            InsufficientScope: the token does not speak for that site.
            InvalidRequest: the document is not accepted; the text names the field.
        """
        body = {**provider.to_json(), "ttl_s": ttl_s}
        reply = await self._http.request(
            "PUT",
            f"/providers/{provider.name}",
            json=body,
            headers={"If-Match": if_match} if if_match else None,
            expect=(*OK, 412),
            token=token,
            retry=if_match is None,
        )
        if reply.status == 412:
            raise VersionMismatch(error_of(reply, f"PUT {provider.name}").detail)
        return _listed(reply.json())

    async def remove(self, name: str, *, token: str | None = None) -> None:
        """Forget a provider.

        Raises:
            NotFound: there is none of that name.
        """
        await self._http.request("DELETE", f"/providers/{name}", token=token)

    async def history(self, name: str, *, token: str | None = None) -> list[dict[str, Any]]:
        """Return what happened to a provider, the newest first."""
        reply = await self._http.request("GET", f"/providers/{name}/history", token=token)
        lines: list[dict[str, Any]] = reply.json()
        return lines

    async def peers(self, *, token: str | None = None) -> frozenset[str]:
        """Return ``host:port`` of every registered storage edge."""
        reply = await self._http.request("GET", "/peers", token=token, retry=True)
        return frozenset(reply.json()["peers"])

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()


def _listed(document: Mapping[str, Any]) -> ListedProvider:
    try:
        return ListedProvider(
            Provider.from_json(document), ProviderState(document["state"]), document["etag"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UpstreamFault("the catalogue answered with something else than a provider") from error
