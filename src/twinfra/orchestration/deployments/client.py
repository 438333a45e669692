"""The typed client of the deployments service: ours, or an INDIGO orchestrator for its own routes.

Documents come as the API gives them (``model.views`` says what is in them); waiting is by events,
never by polling.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twinfra.core.errors import Conflict, Unavailable, UpstreamTimeout
from twinfra.core.http.client import HttpClient, Reply, error_of
from twinfra.core.time import SYSTEM_CLOCK, Clock
from twinfra.orchestration.deployments.model.states import Status

__all__ = ["DeploymentEvent", "DeploymentsClient", "Status"]

JSON = dict[str, Any]
RECONNECT_S = (0.1, 5.0)
PAGE = 100


@dataclass(frozen=True)
class DeploymentEvent:
    """One line of a deployment's history: a status, a run's phase, progress."""

    seq: int
    kind: str
    data: Mapping[str, Any]


class DeploymentsClient:
    """Speaks to the deployments service.

    Args:
        http: a client on its base URL; its token is used unless a call brings its own.
        clock: paces reconnections.
    """

    def __init__(self, http: HttpClient, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._http, self._clock = http, clock

    async def info(self) -> JSON:
        """Return who answers; needs no token."""
        return dict((await self._http.request("GET", "/info")).json())

    async def configuration(self, *, token: str | None = None) -> dict[str, str]:
        """Return the endpoints in use."""
        return dict((await self._get("/configuration", token)).json())

    async def create(
        self,
        template: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        repeat_key: str | None = None,
        token: str | None = None,
        **wishes: Any,
    ) -> JSON:
        """Deploy a TOSCA template; return the deployment's document at once.

        Args:
            template: TOSCA Simple Profile YAML.
            parameters: values of its inputs.
            repeat_key: the same request under the same key makes one deployment.
            token: instead of the client's own.
            wishes: ``callback timeoutMins providerTimeoutMins maxProvidersRetry keepLastAttempt
                userGroup``.

        Raises:
            InvalidRequest: the template, its parameters or its data are wrong; ``errors`` has all.
            InsufficientScope: the group is not one of the caller's.
        """
        body = {"template": template, "parameters": dict(parameters or {}), **wishes}
        headers = {"Idempotency-Key": repeat_key} if repeat_key else None
        reply = await self._http.request(
            "POST",
            "/deployments",
            json=body,
            headers=headers,
            token=token,
            retry=repeat_key is not None,
        )
        return dict(reply.json())

    async def update(
        self,
        deployment_id: str,
        template: str,
        parameters: Mapping[str, Any] | None = None,
        *,
        token: str | None = None,
        **wishes: Any,
    ) -> JSON:
        """Replace the template; parameters are merged into those in force.

        Raises:
            Conflict: the deployment is not in a status that allows it.
        """
        body = {"template": template, "parameters": dict(parameters or {}), **wishes}
        path = f"/deployments/{deployment_id}"
        return dict((await self._http.request("PUT", path, json=body, token=token)).json())

    async def get(self, deployment_id: str, *, token: str | None = None) -> JSON:
        """Return one deployment.

        Raises:
            NotFound: there is none for the caller.
        """
        return dict((await self._get(f"/deployments/{deployment_id}", token)).json())

    async def deployments(self, *, token: str | None = None, **filters: str) -> list[JSON]:
        """Return all deployments that fit, newest first.

        Args:
            token: instead of the client's own.
            filters: ``createdBy``, ``userGroup``, ``status``.
        """
        found: list[JSON] = []
        page, pages = 0, 1
        while page < pages:
            params = {**filters, "page": page, "size": PAGE}
            reply = await self._http.request(
                "GET", "/deployments", params=params, token=token, retry=True
            )
            body = reply.json()
            found += body["content"]
            page, pages = page + 1, int(body["page"]["totalPages"])
        return found

    async def delete(
        self, deployment_id: str, *, force: bool = False, token: str | None = None
    ) -> None:
        """Begin to remove a deployment; one that is being removed is fine."""
        params = {"force": "true"} if force else None
        path = f"/deployments/{deployment_id}"
        try:
            await self._http.request("DELETE", path, params=params, token=token)
        except Conflict:
            return

    async def template(self, deployment_id: str, *, token: str | None = None) -> str:
        """Return the template in force."""
        return (await self._get(f"/deployments/{deployment_id}/template", token)).text()

    async def log(
        self,
        deployment_id: str,
        *,
        tail: int = 1000,
        node: str | None = None,
        token: str | None = None,
    ) -> str:
        """Return what happened, and the end of what jobs wrote."""
        params = {"tail": tail, "node": node}
        path = f"/deployments/{deployment_id}/log"
        return (await self._http.request("GET", path, params=params, token=token)).text()

    async def resources(self, deployment_id: str, *, token: str | None = None) -> list[JSON]:
        """Return the nodes as resources; services have their address in ``metadata.url``."""
        path = f"/deployments/{deployment_id}/resources?size=1000"
        return list((await self._get(path, token)).json()["content"])

    async def placement(self, deployment_id: str, *, token: str | None = None) -> list[JSON]:
        """Return what ranking said for each run: candidates with factors, excluded with reasons."""
        return list((await self._get(f"/deployments/{deployment_id}/placement", token)).json())

    async def attempts(self, deployment_id: str, *, token: str | None = None) -> list[JSON]:
        """Return every try at every site."""
        return list((await self._get(f"/deployments/{deployment_id}/attempts", token)).json())

    async def runs(self, deployment_id: str, *, token: str | None = None) -> list[JSON]:
        """Return every run of every node."""
        return list((await self._get(f"/deployments/{deployment_id}/runs", token)).json())

    async def events(
        self, deployment_id: str, *, after: int = 0, token: str | None = None
    ) -> AsyncIterator[DeploymentEvent]:
        """Give the history from line `after` on and what comes, until the deployment is deleted.

        A connection that breaks is made again where it broke; nothing is missed or given twice.

        Raises:
            NotFound: there is no such deployment for the caller.
        """
        pause_s = RECONNECT_S[0]
        while True:
            try:
                async for event in self._stream(deployment_id, after, token):
                    after, pause_s = event.seq, RECONNECT_S[0]
                    yield event
                    if event.data.get("status") == Status.DELETE_COMPLETE:
                        return
            except (Unavailable, UpstreamTimeout):
                pass
            await self._clock.sleep(pause_s)
            pause_s = min(RECONNECT_S[1], pause_s * 2)

    async def wait_settled(
        self,
        deployment_id: str,
        *,
        tell: Callable[[DeploymentEvent], None] | None = None,
        token: str | None = None,
    ) -> JSON:
        """Wait until nothing is in progress; return the deployment as it is then.

        Args:
            deployment_id: which.
            tell: is given each line of the history while the wait lasts, from its beginning.
            token: instead of the client's own.

        Raises:
            NotFound: there is none for the caller.
        """
        found = await self.get(deployment_id, token=token)
        if Status(found["status"]).settled:
            return found
        async for event in self.events(deployment_id, token=token):
            if tell is not None:
                tell(event)
            if event.kind == "status" and Status(event.data["status"]).settled:
                found = await self.get(deployment_id, token=token)
                if Status(found["status"]).settled:
                    return found
        return await self.get(deployment_id, token=token)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def _get(self, path: str, token: str | None) -> Reply:
        return await self._http.request("GET", path, token=token, retry=True)

    async def _stream(
        self, deployment_id: str, after: int, token: str | None
    ) -> AsyncIterator[DeploymentEvent]:
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
        path = f"/deployments/{deployment_id}/events"
        async with self._http.stream("GET", path, headers=headers, token=token) as answer:
            if answer.status != 200:
                reply = Reply(answer.status, answer.headers, await answer.read())
                raise error_of(reply, f"GET {path}")
            async for raw in answer.content:
                line = raw.decode().rstrip("\r\n")
                if line.startswith("data:"):
                    data = json.loads(line.removeprefix("data:"))
                    yield DeploymentEvent(int(data["seq"]), str(data["kind"]), data)
