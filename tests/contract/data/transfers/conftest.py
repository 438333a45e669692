"""A storage over TLS whose answers a test writes itself."""

import asyncio
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from twinfra.core.http.client import HttpClient
from twinfra.core.tls import client_context, server_tls
from twinfra.data.transfers.webdav import WebdavStorage

MARKER = (
    "Perf Marker\n    Timestamp: 1569403183\n    Stripe Index: {index}\n"
    "    Stripe Bytes Transferred: {bytes}\n    Total Stripe Count: 1\nEnd\n"
)


@dataclass
class Scripted:
    """Answers by method; notes what it was asked."""

    url: str = ""
    handlers: dict = field(default_factory=dict)
    asked: list = field(default_factory=list)
    dropped: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request):
        self.asked.append((request.method, request.path, dict(request.headers)))
        return await self.handlers[request.method](request)

    def answers(self, method, status=200, body=b"", headers=None):
        async def handler(request):
            return web.Response(status=status, body=body, headers=headers or {})

        self.handlers[method] = handler

    def streams(self, *pieces, status=201, pause_s=0.0, then_hang=False):
        async def handler(request):
            answer = web.StreamResponse(status=status)
            answer.content_type = "text/perf-marker-stream"
            await answer.prepare(request)
            try:
                for piece in pieces:
                    await answer.write(piece.encode())
                    await asyncio.sleep(pause_s)
                if then_hang:
                    await asyncio.sleep(60)
            except (asyncio.CancelledError, ConnectionError):
                self.dropped.set()
                raise
            return answer

        self.handlers["COPY"] = handler


class Peers:
    def __init__(self, verdict=True):
        self.verdict, self.asked = verdict, []

    async def allowed(self, url):
        self.asked.append(url)
        return self.verdict(url) if callable(self.verdict) else self.verdict

    def site_of(self, url):
        return None


@pytest.fixture
async def server(tmp_path):
    script = Scripted()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    files = server_tls(tmp_path)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=files.context())
    await site.start()
    script.url = f"https://localhost:{site._server.sockets[0].getsockname()[1]}"
    script.cafile = files.cafile
    yield script
    await runner.cleanup()


@pytest.fixture
def peers():
    return Peers()


@pytest.fixture
async def storage(server, peers):
    http = HttpClient("", tls=client_context(server.cafile))
    yield WebdavStorage(http, peers, stat_limit_s=2, stall_s=0.5)
    await http.close()


@pytest.fixture
def marker():
    return lambda count, index=0: MARKER.format(bytes=count, index=index)
