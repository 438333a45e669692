"""The pages: what each shows, asked from the services with the visitor's own tokens."""

import asyncio
import json
from collections.abc import Awaitable, Mapping
from typing import Any

from twinfra.access.person_tokens import PersonTokens
from twinfra.core.errors import TwinfraError
from twinfra.core.http.client import HttpClient

MOST = 50


class Federation:
    """Asks the services for a visitor.

    Args:
        clients: an HTTP client of each service, without a token of its own.
    """

    def __init__(self, clients: Mapping[str, HttpClient]) -> None:
        self._clients = clients

    async def get(self, tokens: PersonTokens, service: str, path: str) -> Any:
        """Return a service's JSON answer; Rucio's lists of lines come as a list.

        Raises:
            TwinfraError: the service refused or is away.
        """
        client = self._clients[service]
        token = await tokens.token(client.base_url)
        reply = await client.request("GET", path, token=token)
        if "json-stream" in reply.headers.get("Content-Type", ""):
            return [json.loads(line) for line in reply.body.splitlines() if line]
        return reply.json()

    def client(self, service: str) -> HttpClient:
        """Return the client of a service, for streams."""
        return self._clients[service]

    async def overview(self, tokens: PersonTokens, groups: list[str]) -> dict[str, Any]:
        """Return what the first page shows; a part whose service is away says so itself."""
        troubles: dict[str, str] = {}

        async def part(name: str, asking: Awaitable[Any], otherwise: Any) -> Any:
            try:
                return await asking
            except TwinfraError as error:
                troubles[name] = error.detail
                return otherwise

        deployments, sites, health, datasets = await asyncio.gather(
            part("deployments", self.get(tokens, "deployments", "/deployments?size=20"), {}),
            part("catalogue", self.get(tokens, "catalogue", "/providers"), []),
            part("monitoring", self.get(tokens, "monitoring", "/status"), []),
            part("datasets", self._datasets(tokens, groups), []),
        )
        by_site = {status["site"]: status for status in health}
        return {
            "deployments": deployments.get("content", []),
            "sites": [{**each, "health": by_site.get(each["name"])} for each in sites],
            "datasets": datasets,
            "troubles": troubles,
        }

    async def deployment(self, tokens: PersonTokens, deployment: str) -> dict[str, Any]:
        """Return all that is known of one deployment."""
        parts = ("resources", "placement", "attempts", "runs")
        document, *rest = await asyncio.gather(
            self.get(tokens, "deployments", f"/deployments/{deployment}"),
            *(
                self.get(tokens, "deployments", f"/deployments/{deployment}/{part}")
                for part in parts
            ),
        )
        found = dict(zip(parts, rest, strict=True))
        resources = found["resources"]
        if isinstance(resources, dict):
            found["resources"] = resources.get("content", [])
        return {"deployment": document, **found}

    async def _datasets(self, tokens: PersonTokens, groups: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        for group in groups:
            names = await self.get(tokens, "datasets", f"/dids/{group}/dids/search?type=collection")
            paths = (f"/dids/{group}/{name}?dynamic_depth=FILE" for name in names[:MOST])
            asked = (self.get(tokens, "datasets", path) for path in paths)
            found += await asyncio.gather(*asked)
        return found
