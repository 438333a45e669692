"""The API server's HTTP door: interLink's six paths for kubelets, and what it forwards of ours.

Every method is taken where upstream's server takes every method; success is exactly 200.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Annotated

import aiohttp
from fastapi import APIRouter, Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import authenticated
from twinfra.access.model import Principal
from twinfra.compute.interlink.client import SESSION_HEADER
from twinfra.compute.interlink.http import (
    NO_CACHE,
    ServerPipe,
    caller_of,
    deny,
    lenient,
    render_plain,
    shut,
)
from twinfra.compute.interlink.model.create import POD_TOKEN_HEADER, PodCreateRequest
from twinfra.compute.interlink.model.files import FilesRequest
from twinfra.compute.interlink.model.logs import LogRequest
from twinfra.compute.interlink.model.ping import EXTENSIONS_HEADER
from twinfra.compute.interlink.model.pod import pod_ref, pod_refs
from twinfra.compute.interlink.model.reading import UID, decode, objects
from twinfra.compute.interlink.remote import PROTOCOL, check_protocol
from twinfra.compute.interlink.rights import require
from twinfra.compute.interlink.server.plugin import PluginLink
from twinfra.compute.interlink.server.service import ApiService, Call
from twinfra.compute.interlink.tunnel import ClientPipe, join
from twinfra.core.errors import InvalidRequest, NotFound, TwinfraError
from twinfra.core.http.app import create_app
from twinfra.core.ids import new_uuid

ANY = ["GET", "POST", "PUT", "DELETE", "PATCH"]
FORWARDED_GET = frozenset({"events", "stats"})
PLUGIN_DOWN = frozenset({502, 503, 504})


class InterlinkApi:
    """The routes, over the use cases.

    Args:
        name: of the service, as in logs.
        service: the use cases.
        link: to the plug-in, for what is streamed.
        authenticator: says who calls.
        max_body_bytes: of a request.
    """

    def __init__(
        self,
        name: str,
        service: ApiService,
        link: PluginLink,
        authenticator: Authenticator,
        *,
        max_body_bytes: int,
    ) -> None:
        self._name, self._service, self._link = name, service, link
        self._authenticator, self._max_body_bytes = authenticator, max_body_bytes

    def app(self) -> FastAPI:
        """Return the application."""
        guard = authenticated(self._authenticator)
        app = create_app(
            self._name,
            title="twinfra interLink API",
            authenticate=guard,
            render=render_plain,
            body_limit_bytes=self._max_body_bytes,
        )
        app.include_router(self._pods(guard))
        app.include_router(self._cache(guard))
        app.include_router(self._own(guard))
        for path in ("/ext/portforward", "/ext/exec", "/ext/attach"):
            app.add_api_websocket_route(path, self._into_pod)
        return app

    def _pods(self, guard: Callable[[Request], Awaitable[Principal]]) -> APIRouter:
        router = APIRouter(tags=["interLink"])
        caller = Annotated[Principal, Depends(guard)]

        @lenient(router, "/create", "POST", *ANY, summary="Have a pod run")
        async def create(request: Request, who: caller) -> Response:
            asked = PodCreateRequest.from_wire(decode(await request.body()))
            answer = await self._service.create(_call(request, who), asked)
            return Response(answer, media_type="application/json")

        @lenient(router, "/delete", "DELETE", *ANY, summary="End and forget a pod")
        async def delete(request: Request, who: caller) -> Response:
            body = await request.body()
            answer = await self._service.delete(_call(request, who), pod_ref(decode(body)), body)
            return PlainTextResponse(answer)

        @lenient(router, "/status", "GET", *ANY, summary="How are these pods?")
        async def status(request: Request, who: caller) -> Response:
            body = decode(await request.body())
            pods = list(objects(body, "pods"))
            found = await self._service.status(_call(request, who), pods, pod_refs(body))
            return JSONResponse(found)

        @lenient(router, "/getLogs", "GET", *ANY, summary="Lines of a container")
        async def logs(request: Request, who: caller) -> Response:
            wanted = LogRequest.from_wire(decode(await request.body()))
            require(who, "read")
            call = _call(request, who)
            return await _passed_on(self._link.logs(call.caller, call.session, wanted))

        return router

    def _cache(self, guard: Callable[[Request], Awaitable[Principal]]) -> APIRouter:
        router = APIRouter(tags=["interLink"])
        caller = Annotated[Principal, Depends(guard)]

        @lenient(router, "/pinglink", "POST", *ANY, summary="Is the site there?")
        async def ping(request: Request, who: caller) -> Response:
            try:
                reply, extensions = await self._service.ping(_call(request, who))
            except TwinfraError as error:
                if error.status in PLUGIN_DOWN:
                    return PlainTextResponse("503", 503)
                raise
            headers = {EXTENSIONS_HEADER: ", ".join(extensions)} if extensions else {}
            kind = reply.headers.get("Content-Type", "application/json")
            return Response(reply.body, media_type=kind, headers=headers)

        @lenient(router, "/updateCache", "POST", *ANY, summary="Forget a pod's cached status")
        async def update_cache(request: Request, who: caller) -> Response:
            uid = _uid(await request.body())
            await self._service.forget(_call(request, who), uid)
            return PlainTextResponse("Updated cache")

        return router

    def _own(self, guard: Callable[[Request], Awaitable[Principal]]) -> APIRouter:
        router = APIRouter(prefix="/ext", tags=["extensions"])
        caller = Annotated[Principal, Depends(guard)]

        @router.get("/{name}", summary="What the plug-in offers beside interLink's paths")
        async def forward(name: str, request: Request, who: caller) -> Response:
            if name not in FORWARDED_GET:
                raise NotFound(f"/ext/{name} is not forwarded")
            require(who, "read")
            call = _call(request, who)
            last = request.headers.get("last-event-id", "")
            params = dict(request.query_params)
            return await _passed_on(
                self._link.extension(call.caller, call.session, f"/ext/{name}", params, last)
            )

        @router.put("/files", summary="New files for a running pod's volumes")
        async def files(request: Request, who: caller) -> Response:
            body = await request.body()
            FilesRequest.from_wire(decode(body))
            require(who, "modify")
            call = _call(request, who)
            answer = await self._link.files(call.caller, call.session, body)
            return Response(answer, media_type="application/json")

        return router

    async def _into_pod(self, socket: WebSocket) -> None:
        """Carry a WebSocket on to the plug-in's."""
        path = socket.url.path
        protocols = () if path == "/ext/portforward" else (PROTOCOL,)
        try:
            who = await caller_of(socket, self._authenticator)
            require(who, "modify")
            if protocols:
                check_protocol(socket.scope.get("subprotocols", ()))
            query = socket.query_params.multi_items()
            further = await self._link.tunnel(who, path, query, protocols)
        except TwinfraError as error:
            await deny(socket, error)
            return
        try:
            await socket.accept(*protocols)
            await join(ServerPipe(socket), ClientPipe(further))
            await shut(socket)
        finally:
            await further.close()


def _call(request: Request, who: Principal) -> Call:
    """Return the caller and the session, made where the request names none."""
    return Call(
        who,
        request.headers.get(SESSION_HEADER) or f"Request-{new_uuid()}",
        request.headers.get(POD_TOKEN_HEADER, ""),
    )


def _uid(body: bytes) -> str:
    """Read what ``/updateCache`` is sent: a pod, as kubelets do, or its bare UID."""
    text = body.decode("utf-8", "replace").strip().strip('"')
    if UID.fullmatch(text):
        return text
    if not text.startswith("{"):
        raise InvalidRequest("invalid request body")
    return pod_ref(decode(body)).uid


async def _passed_on(opened: AbstractAsyncContextManager[aiohttp.ClientResponse]) -> Response:
    """Return a plug-in's answer as it comes; its connection ends with ours."""
    stack = AsyncExitStack()
    answer = await stack.enter_async_context(opened)

    async def pieces() -> AsyncIterator[bytes]:
        async with stack:
            async for piece in answer.content.iter_any():
                yield piece

    kind = answer.headers.get("Content-Type", "text/plain; charset=utf-8")
    return StreamingResponse(pieces(), media_type=kind, headers=NO_CACHE)
