"""The plug-in's HTTP door: interLink's four paths, and ours under ``/ext``.

The published paths answer plain text on errors and exactly 200 on success; ``/status`` and
``/getLogs`` take their body with GET. Ours answer problem details.
"""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import authenticated
from twinfra.access.model import Principal
from twinfra.compute.interlink.http import (
    NO_CACHE,
    ServerPipe,
    caller_of,
    deny,
    lenient,
    port_of,
    render_plain,
    shut,
    stream_of,
)
from twinfra.compute.interlink.model.create import POD_TOKEN_HEADER, RetrievedPodData
from twinfra.compute.interlink.model.files import FilesRequest
from twinfra.compute.interlink.model.logs import LogRequest
from twinfra.compute.interlink.model.pod import pod_ref, pod_refs
from twinfra.compute.interlink.model.reading import decode
from twinfra.compute.interlink.plugin.model import KeptEvent
from twinfra.compute.interlink.plugin.service import PluginService
from twinfra.compute.interlink.plugin.stream import PodStream
from twinfra.compute.interlink.plugin.workloads import Workloads
from twinfra.compute.interlink.remote import (
    PROTOCOL,
    check_protocol,
    command_of,
    serve,
    streams_of,
)
from twinfra.compute.interlink.rights import require, sees
from twinfra.compute.interlink.tunnel import pump
from twinfra.core.errors import RateLimited, TwinfraError
from twinfra.core.http.app import create_app


class PluginApi:
    """The routes, over the use cases.

    Args:
        name: of the service, as in logs.
        service: the use cases.
        stream: of events.
        authenticator: says who calls.
        workloads: says whose the pods of clusters are.
        ready: says whether the service can do its work.
        max_body_bytes: of a request.
        max_tunnels: connections into pods at once.
    """

    def __init__(  # noqa: PLR0913 - its collaborators, given once by wiring
        self,
        name: str,
        service: PluginService,
        stream: PodStream,
        authenticator: Authenticator,
        workloads: Workloads,
        *,
        ready: Callable[[], bool],
        max_body_bytes: int,
        max_tunnels: int,
    ) -> None:
        self._name, self._service, self._stream = name, service, stream
        self._authenticator, self._ready = authenticator, ready
        self._workloads = workloads
        self._max_body_bytes, self._max_tunnels = max_body_bytes, max_tunnels
        self._tunnels = 0

    def app(self) -> FastAPI:
        """Return the application."""
        guard = authenticated(self._authenticator)
        app = create_app(
            self._name,
            title="twinfra interLink plug-in",
            authenticate=guard,
            ready=self._ready,
            render=render_plain,
            body_limit_bytes=self._max_body_bytes,
        )
        app.include_router(self._published(guard))
        app.include_router(self._own(guard))
        app.add_api_websocket_route("/ext/portforward", self._portforward)
        app.add_api_websocket_route("/ext/exec", self._exec)
        app.add_api_websocket_route("/ext/attach", self._attach)
        return app

    def _published(self, guard: Callable[[Request], Awaitable[Principal]]) -> APIRouter:
        router = APIRouter(tags=["interLink"])
        caller = Annotated[Principal, Depends(guard)]
        service = self._service

        @router.post("/create", summary="Take a pod")
        async def create(request: Request, who: caller) -> Response:
            data = RetrievedPodData.from_wire(decode(await request.body()))
            token = request.headers.get(POD_TOKEN_HEADER, "")
            mapped = await self._workloads.owner(who, token, pod_ref(data.pod))
            return JSONResponse((await service.create(who, data, mapped)).to_wire())

        @lenient(router, "/delete", "POST", "DELETE", summary="End and forget a pod")
        async def delete(request: Request, who: caller) -> Response:
            await service.delete(who, pod_ref(decode(await request.body())))
            return PlainTextResponse("deleted")

        @lenient(router, "/status", "GET", "POST", summary="How are these pods?")
        async def status(request: Request, who: caller) -> Response:
            refs = pod_refs(decode(await request.body()))
            if not refs:
                return JSONResponse((await service.ping(who)).to_wire())
            found = await service.status(who, refs)
            return JSONResponse([report.to_wire() for report in found])

        @lenient(router, "/getLogs", "GET", "POST", summary="Lines of a container")
        async def logs(request: Request, who: caller) -> Response:
            wanted = LogRequest.from_wire(decode(await request.body()))
            lines = await service.logs(who, wanted)
            return await stream_of(lines, "text/plain; charset=utf-8")

        return router

    def _own(self, guard: Callable[[Request], Awaitable[Principal]]) -> APIRouter:
        router = APIRouter(prefix="/ext", tags=["extensions"])
        caller = Annotated[Principal, Depends(guard)]

        @router.get("/events", summary="Changes of pods, server-sent")
        async def events(request: Request, who: caller) -> Response:
            require(who, "read")

            def visible(event: KeptEvent) -> bool:
                return sees(who, event.issuer, event.sub, event.group)

            last = request.headers.get("last-event-id")
            frames = await self._stream.start(last, visible)
            return StreamingResponse(frames, media_type="text/event-stream", headers=NO_CACHE)

        @router.get("/stats", summary="Real figures of a pod")
        async def stats(uid: str, who: caller) -> dict[str, Any]:
            return asdict(await self._service.stats(who, uid))

        @router.put("/files", summary="New files for a running pod's volumes")
        async def files(request: Request, who: caller) -> dict[str, Any]:
            wanted = FilesRequest.from_wire(decode(await request.body()))
            return {"changed": await self._service.renew(who, wanted)}

        return router

    async def _portforward(self, socket: WebSocket) -> None:
        """Carry raw bytes between a WebSocket and a port of a pod."""
        await self._into(socket, self._to_port)

    async def _exec(self, socket: WebSocket) -> None:
        """Carry the streams of a command in a container."""
        await self._into(socket, self._to_session)

    _attach = _exec

    async def _into(
        self, socket: WebSocket, carry: Callable[[WebSocket, Principal], Awaitable[None]]
    ) -> None:
        """Serve a connection into a pod, counted; what is refused is answered as over HTTP."""
        if self._tunnels >= self._max_tunnels:
            await deny(socket, RateLimited("too many connections into pods"))
            return
        self._tunnels += 1
        try:
            await carry(socket, await caller_of(socket, self._authenticator))
        except TwinfraError as error:
            await deny(socket, error)
        finally:
            self._tunnels -= 1

    async def _to_port(self, socket: WebSocket, who: Principal) -> None:
        uid, port = socket.query_params.get("uid", ""), port_of(socket)
        reader, writer = await self._service.connect(who, uid, port)
        await socket.accept()
        await pump(ServerPipe(socket), reader, writer)
        await shut(socket)

    async def _to_session(self, socket: WebSocket, who: Principal) -> None:
        query = socket.query_params
        check_protocol(socket.scope.get("subprotocols", ()))
        streams = streams_of(query)
        command = command_of(query) if socket.url.path == "/ext/exec" else None
        uid, container = query.get("uid", ""), query.get("container", "")
        session = await self._service.join(who, uid, container, streams, command)
        try:
            await socket.accept(PROTOCOL)
            await serve(ServerPipe(socket), session, streams)
            await shut(socket)
        finally:
            await session.close()
