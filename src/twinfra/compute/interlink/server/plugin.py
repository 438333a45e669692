"""Speaks to a plug-in: the published paths, errors as interLink relays them, and our extensions.

A plug-in is ours or anybody's. What it answers is passed on as it came; only 200 is success.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from twinfra.access.model import Principal
from twinfra.access.tokens import TokenClient
from twinfra.compute.interlink.client import SESSION_HEADER
from twinfra.compute.interlink.model.create import POD_TOKEN_HEADER, RetrievedPodData
from twinfra.compute.interlink.model.logs import LogRequest
from twinfra.compute.interlink.model.reading import Json
from twinfra.compute.interlink.rights import carried_scopes
from twinfra.core.errors import TwinfraError
from twinfra.core.http.client import HttpClient, Reply

FOREIGN_BODY_BYTES = 64 * 1024


class Relayed(TwinfraError):
    """A plug-in's refusal, with its own status and interLink's text around its body."""

    code, title = "plugin-refused", "The plug-in refused"

    def __init__(self, status: int, body: bytes, session: str) -> None:
        text = body[:FOREIGN_BODY_BYTES].decode("utf-8", "replace")
        super().__init__(f"HTTP InterLink session {session}:  call exit status: 500. Body: {text}")
        self.status = status if status >= 400 else 502  # type: ignore[misc] # the plug-in's own


class PluginLink:
    """The way to a site's plug-in.

    Args:
        http: a client on its base URL, without a token.
        tokens: of the API server; none for plug-ins that know no tokens.
        audience: of the plug-in's tokens.
        legacy_list: send a list of one at ``/create``.
        answer_s: an answer that is no stream is whole after so long, or it is none.
    """

    def __init__(
        self,
        http: HttpClient,
        tokens: TokenClient | None,
        audience: str,
        *,
        legacy_list: bool = False,
        answer_s: float,
    ) -> None:
        self._http, self._tokens, self._audience = http, tokens, audience
        self._legacy_list, self._answer_s = legacy_list, answer_s

    async def create(
        self, caller: Principal, session: str, data: RetrievedPodData, pod_token: str = ""
    ) -> bytes:
        """Hand a pod over; return the plug-in's answer. A plug-in of ours gets the pod's token."""
        body: Any = data.to_wire()
        sent = [body] if self._legacy_list else body
        more = {POD_TOKEN_HEADER: pod_token} if pod_token and self._tokens is not None else {}
        async with self._open(
            caller, session, "POST", "/create", json=sent, headers=more, timeout_s=self._answer_s
        ) as answer:
            return await answer.read()

    async def delete(self, caller: Principal, session: str, pod: bytes) -> bytes:
        """Have a pod ended; its JSON goes as it came."""
        async with self._open(
            caller, session, "POST", "/delete", data=pod, timeout_s=self._answer_s
        ) as answer:
            return await answer.read()

    async def status(self, caller: Principal, session: str, pods: list[Json]) -> Reply:
        """Ask how pods are; no pods is the ping."""
        return await self._call(caller, session, "GET", "/status", pods)

    @asynccontextmanager
    async def logs(
        self, caller: Principal, session: str, request: LogRequest
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give a container's lines as they come."""
        async with self._open(caller, session, "GET", "/getLogs", json=request.to_wire()) as answer:
            yield answer

    @asynccontextmanager
    async def extension(
        self, caller: Principal, session: str, path: str, params: Mapping[str, str], last_id: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give the answer of one of our own paths as it comes."""
        more = {"Last-Event-ID": last_id} if last_id else {}
        async with self._open(caller, session, "GET", path, params=params, headers=more) as answer:
            yield answer

    async def tunnel(
        self,
        caller: Principal,
        path: str,
        query: Sequence[tuple[str, str]],
        protocols: Sequence[str] = (),
    ) -> aiohttp.ClientWebSocketResponse:
        """Open a WebSocket into a pod.

        Raises:
            TwinfraError: the leaf that fits the plug-in's refusal.
        """
        token = await self._token(caller)
        return await self._http.websocket(path, token=token, query=query, protocols=protocols)

    async def files(self, caller: Principal, session: str, body: bytes) -> bytes:
        """Have a running pod's files renewed; the JSON goes as it came."""
        async with self._open(
            caller, session, "PUT", "/ext/files", data=body, timeout_s=self._answer_s
        ) as answer:
            return await answer.read()

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def _call(
        self, caller: Principal, session: str, method: str, path: str, body: Any
    ) -> Reply:
        async with self._open(
            caller, session, method, path, json=body, timeout_s=self._answer_s
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    @asynccontextmanager
    async def _open(
        self,
        caller: Principal,
        session: str,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        sent = {SESSION_HEADER: session, **(headers or {})}
        if "data" in more:
            sent["Content-Type"] = "application/json"
        async with self._http.stream(
            method, path, headers=sent, token=await self._token(caller), **more
        ) as answer:
            if answer.status != 200:
                raise Relayed(answer.status, await answer.content.read(FOREIGN_BODY_BYTES), session)
            yield answer

    async def _token(self, caller: Principal) -> str | None:
        """Return the token of a call: ours for a service, the person's, exchanged, for a person."""
        if self._tokens is None:
            return None
        if caller.is_service:
            return await self._tokens.service(self._audience)
        return await self._tokens.exchange(caller.token, self._audience, carried_scopes(caller))
