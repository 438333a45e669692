"""The door itself: one TLS socket, its routes, its limits."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from twinfra.compute.kubelet.door import commands, forwarding
from twinfra.compute.kubelet.door.auth import Guard
from twinfra.compute.kubelet.door.errors import Refused, refused
from twinfra.compute.kubelet.door.figures import Figures
from twinfra.compute.kubelet.door.logs import container_of, lines_of, options_of
from twinfra.compute.kubelet.door.ports import DoorPod, DoorSite, PodDoor, Reviews
from twinfra.compute.kubelet.door.settings import DoorSettings
from twinfra.compute.kubelet.door.upgrade import is_websocket
from twinfra.core.errors import TwinfraError
from twinfra.core.home import LOOPBACK
from twinfra.core.tasks import end
from twinfra.core.telemetry import get_logger

log = get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
METHODS = ("GET", "POST")
SILENCE_S = 1.0


@dataclass(frozen=True)
class Behind:
    """What stands behind a door: a node, its pods, its site, and the cluster's judgement."""

    node: str
    pods: PodDoor
    site: DoorSite
    reviews: Reviews


class KubeletDoor:
    """The HTTPS API of one node.

    Guarantees: nothing is answered to a caller whom the cluster does not admit; no answer and no
    session uses more than the settings allow.

    Args:
        behind: what it opens to.
        tls: a server context that asks for client certificates, see `certificates`.
        settings: bounds.
        host: to listen on; default: the settings', else this machine alone.
        port: to listen on; 0: any free one.
        keep: runs while the door is open; keeps the certificate good.
    """

    def __init__(
        self,
        behind: Behind,
        tls: ssl.SSLContext,
        settings: DoorSettings,
        *,
        host: str = "",
        port: int | None = None,
        keep: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        self._behind, self._tls, self._settings = behind, tls, settings
        self._host = host or settings.listen or LOOPBACK
        self._wanted_port = settings.port if port is None else port
        self._guard = Guard(behind.reviews, behind.node, settings)
        self._figures = Figures(behind.node, behind.pods, behind.site, settings)
        self._sessions = 0
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None
        self._keep = keep
        self._keeping: list[asyncio.Task[None]] = []

    @property
    def port(self) -> int:
        """Where it listens; 0 until it does."""
        if self._server is None or not self._server.sockets:
            return 0
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Begin to listen."""
        settings = self._settings
        runner = web.AppRunner(
            self._app(),
            access_log=None,
            logger=logging.getLogger("twinfra.kubelet.door"),
            keepalive_timeout=settings.keepalive_s,
            max_line_size=settings.max_line_bytes,
            max_field_size=settings.max_header_bytes,
            handler_cancellation=True,
            shutdown_timeout=settings.linger_s,
        )
        await runner.setup()
        self._runner = runner
        self._server = await asyncio.get_running_loop().create_server(
            self._connection,
            self._host,
            self._wanted_port,
            ssl=self._tls,
            ssl_handshake_timeout=settings.handshake_s,
        )
        if self._keep is not None:
            self._keeping.append(asyncio.create_task(self._keep()))
        log.info("kubelet_door_open", node=self._behind.node, host=self._host, port=self.port)

    async def close(self) -> None:
        """Stop listening and end all sessions."""
        await end(self._keeping)
        if self._server is not None:
            self._server.close()
        if self._runner is not None and self._runner.server is not None:
            await self._runner.server.shutdown(self._settings.linger_s)
            await self._runner.cleanup()

    def _connection(self) -> asyncio.BaseProtocol:
        server = self._runner.server if self._runner is not None else None
        if server is None or len(server.connections) >= self._settings.max_connections:
            return _Full()
        return server()

    def _app(self) -> web.Application:
        app = web.Application(
            middlewares=[self._edge], client_max_size=self._settings.max_body_bytes
        )
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        for method in METHODS:
            for tail in ("{container}", "{uid}/{container}"):
                app.router.add_route(method, f"/exec/{{namespace}}/{{pod}}/{tail}", self._exec)
                app.router.add_route(method, f"/attach/{{namespace}}/{{pod}}/{tail}", self._attach)
            for tail in ("", "/{uid}"):
                path = f"/portForward/{{namespace}}/{{pod}}{tail}"
                app.router.add_route(method, path, self._forward)
        app.router.add_get("/stats/summary", self._summary)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/metrics/resource", self._resource)
        app.router.add_get("/pods", self._listing(running=False))
        for path in ("/runningpods", "/runningpods/"):
            app.router.add_get(path, self._listing(running=True))
        return app

    @web.middleware
    async def _edge(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Admit the caller, and answer refusals as plain text."""
        try:
            await self._guard.admit(request)
            return await handler(request)
        except TwinfraError as error:
            answer = refused(error)
        except Refused as error:
            answer = error
        return web.Response(status=answer.status, text=answer.text, headers=answer.headers)

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="ok")

    async def _pod(self, request: web.Request, missing: str) -> DoorPod:
        where = request.match_info
        found = await self._behind.pods.find(where["namespace"], where["pod"])
        if found is None or where.get("uid", found.uid) != found.uid:
            raise Refused(404, missing.format(where["pod"]))
        return found

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        options = options_of(request.query)
        pod = await self._pod(request, 'pod "{}" does not exist')
        container = container_of(pod, request.match_info["container"], options)
        answer = web.StreamResponse(headers={"Content-Type": "text/plain"})
        async with aclosing(lines_of(self._behind.site, pod, container.name, options)) as lines:  # type: ignore[type-var] # a generator
            coming: asyncio.Task[bytes | None] = asyncio.create_task(_first(lines))
            try:
                # a refusal is an answer of its own; silence is none, and the caller may be patient
                await asyncio.wait({coming}, timeout=SILENCE_S)
                if coming.done():
                    coming.result()
                await answer.prepare(request)
                if (first := await coming) is not None:
                    await answer.write(first)
                async for piece in lines:
                    await answer.write(piece)
            except TwinfraError as error:
                if not answer.prepared:
                    raise
                log.warning("log_cut_short", pod_uid=pod.uid, why=error.detail)
                if request.transport is not None:
                    request.transport.close()
            finally:
                await end([coming])
        await answer.write_eof()
        return answer

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        wanted = commands.Wanted.of(request.query)
        command = request.query.getall("command", [])
        if not command or len(command) > self._settings.max_command_words:
            raise Refused(400, "you must specify a command")
        pod, container = await self._target(request)
        site = self._behind.site

        async def dial() -> Any:
            return await site.exec(
                pod.uid,
                container,
                command,
                stdin=wanted.stdin,
                stdout=wanted.stdout,
                stderr=wanted.stderr,
                tty=wanted.tty,
            )

        work = commands.serve(request, wanted, dial, self._settings)
        return await self._session("exec", request, work)

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        wanted = commands.Wanted.of(request.query)
        pod, container = await self._target(request)
        site = self._behind.site

        async def dial() -> Any:
            return await site.attach(
                pod.uid,
                container,
                stdin=wanted.stdin,
                stdout=wanted.stdout,
                stderr=wanted.stderr,
                tty=wanted.tty,
            )

        work = commands.serve(request, wanted, dial, self._settings)
        return await self._session("attach", request, work)

    async def _target(self, request: web.Request) -> tuple[DoorPod, str]:
        pod = await self._pod(request, "pod does not exist")
        name = request.match_info["container"]
        if pod.container(name) is None:
            raise Refused(404, f"container not found ({name})")
        return pod, name

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        pod = await self._pod(request, "pod does not exist")

        async def dial(port: int) -> Any:
            return await self._behind.site.tunnel(pod.uid, port)

        work = forwarding.serve(request, dial, self._settings)
        return await self._session("port-forward", request, work)

    async def _session(
        self, kind: str, request: web.Request, work: Awaitable[web.StreamResponse]
    ) -> web.StreamResponse:
        if self._sessions >= self._settings.max_sessions:
            getattr(work, "close", lambda: None)()
            raise Refused(429, "too many sessions")
        self._sessions += 1
        wire = "websocket" if is_websocket(request) else "spdy"
        log.info("kubelet_session_opened", node=self._behind.node, kind=kind, wire=wire)
        try:
            return await work
        finally:
            self._sessions -= 1

    async def _summary(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(await self._figures.summary())

    async def _resource(self, _: web.Request) -> web.StreamResponse:
        text = await self._figures.exposition()
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        body = await asyncio.to_thread(generate_latest)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def _listing(self, *, running: bool) -> Handler:
        async def listing(request: web.Request) -> web.StreamResponse:
            answer = web.StreamResponse(headers={"Content-Type": "application/json"})
            before = b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":['
            async with aclosing(self._behind.pods.objects(running=running)) as pods:  # type: ignore[type-var] # a generator
                first = await _first(pods)
                await answer.prepare(request)
                await answer.write(before + (first or b""))
                async for pod in pods:
                    await answer.write(b"," + pod)
            await answer.write(b"]}\n")
            await answer.write_eof()
            return answer

        return listing


class _Full(asyncio.Protocol):
    """Closes a connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _first(pieces: Any) -> bytes | None:
    """Return the first piece; a refusal before it is still an answer of its own."""
    try:
        piece: bytes = await anext(pieces)
    except StopAsyncIteration:
        return None
    return piece
