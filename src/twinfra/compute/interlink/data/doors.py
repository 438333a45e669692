"""The neighbours that data goes through, and the tokens for them."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinfra.access.model import Delegation
from twinfra.access.tokens import TokenClient
from twinfra.compute.interlink.plugin.model import KeptPod
from twinfra.core.http.client import HttpClient
from twinfra.data.datasets.client import DatasetsClient

DAV = "/dav"
DATASETS = "/datasets"
NO_PERMISSION: dict[str, Any] = {}
"""In the place of a delegation: of a person whose token our issuer cannot keep."""


@dataclass(frozen=True)
class DataDoors:
    """What a site reaches for data.

    Attributes:
        rse: the site's own storage element.
        storage: its files, as the edge serves them under ``/dav``.
        edge_url: base URL of the edge.
        datasets_url: base URL of the datasets service.
        tokens: of the plug-in.
        tls: trusts our services.
    """

    rse: str
    storage: Path
    edge_url: str
    datasets_url: str
    tokens: TokenClient
    tls: ssl.SSLContext | None = None

    def datasets(self) -> DatasetsClient:
        """Return a client that asks as the plug-in itself."""
        source = self.tokens.for_service(self.datasets_url)
        return DatasetsClient(HttpClient(self.datasets_url, tls=self.tls, token=source))

    async def datasets_token(self, pod: KeptPod, scope: str = "") -> str:
        """Return a token for the datasets service that acts for the pod's owner."""
        if pod.delegation is None:
            return await self.tokens.service(self.datasets_url)
        delegation = Delegation.from_dict(pod.delegation)
        return await self.tokens.on_behalf(delegation, self.datasets_url, scope)

    async def release(self, pod: KeptPod) -> None:
        """End the owner's delegation, if there is one."""
        if pod.delegation:
            await self.tokens.revoke(Delegation.from_dict(pod.delegation))

    async def edge_token(self, pod: KeptPod, folder: str) -> str:
        """Return a token for the edge with which the pod's owner may write below `folder`."""
        scope = f"storage.modify:{folder}"
        if pod.delegation is None:
            return await self.tokens.service(self.edge_url)
        delegation = Delegation.from_dict(pod.delegation)
        return await self.tokens.on_behalf(delegation, self.edge_url, scope)
