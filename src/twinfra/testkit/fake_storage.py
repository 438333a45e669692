"""A storage in memory over WebDAV with third-party copy, for tests that need one to misbehave.

It pulls, tells markers, computes digests, and can be slow, spoil bytes or refuse. How a real one
behaves is shown by our edge and by XRootD; this one shows what we do when one does not.
"""

import asyncio
import base64
import hashlib
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from twinfra.core.tls import ServerTls, client_context

PIECE_BYTES = 16 * 1024


@dataclass
class FakeStorageServer:
    """Files by path; knobs for what goes wrong.

    Attributes:
        url: base URL, once it serves.
        files: bytes by path, such as ``/dav/in/a``.
        tokens: bearer tokens that are accepted; empty: any, but one there must be.
        rate_bytes_per_s: how fast copies come in; none: at once.
        spoil: destinations whose first byte is changed on the way.
        copies: destination paths that were ordered, in order.
        active: copies under way by destination.
        most_active: the most copies of one destination at once.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str] = field(default_factory=set)
    rate_bytes_per_s: float | None = None
    spoil: set[str] = field(default_factory=set)
    copies: list[str] = field(default_factory=list)
    active: dict[str, int] = field(default_factory=dict)
    most_active: int = 0
    _tls: ssl.SSLContext | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one request."""
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not sent or (self.tokens and sent not in self.tokens):
            return web.Response(status=401 if not sent else 403)
        match request.method:
            case "HEAD" | "GET":
                return self._read(request)
            case "PUT":
                self.files[request.path] = await request.read()
                return web.Response(status=201)
            case "DELETE":
                gone = self.files.pop(request.path, None)
                return web.Response(status=404 if gone is None else 204)
            case "COPY":
                return await self._pull(request)
        return web.Response(status=405)

    def _read(self, request: web.Request) -> web.Response:
        body = self.files.get(request.path)
        if body is None:
            return web.Response(status=404)
        headers = {}
        if wanted := request.headers.get("Want-Digest"):
            headers["Digest"] = _digest(wanted.lower(), body)
        return web.Response(body=body, headers=headers)

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path in self.files and request.headers.get("Overwrite") == "F":
            return web.Response(status=412)
        self.copies.append(path)
        answer = web.StreamResponse(status=201)
        answer.content_type = "text/perf-marker-stream"
        await answer.prepare(request)
        self.active[path] = self.active.get(path, 0) + 1
        self.most_active = max(self.most_active, self.active[path])
        try:
            last = await self._pull_into(request, answer)
        finally:
            self.active[path] -= 1
        await answer.write(last.encode())
        return answer

    async def _pull_into(self, request: web.Request, answer: web.StreamResponse) -> str:
        headers = {"Authorization": request.headers.get("TransferHeaderAuthorization", "")}
        source = request.headers["Source"]
        got = b""
        async with (
            aiohttp.ClientSession() as session,
            session.get(source, headers=headers, ssl=self._tls or True) as reply,
        ):
            if reply.status != 200:
                return f"failure: Remote side failed with status code {reply.status}\n"
            while piece := await reply.content.read(PIECE_BYTES):
                got += piece
                await answer.write(_marker(len(got)))
                if self.rate_bytes_per_s:
                    await asyncio.sleep(len(piece) / self.rate_bytes_per_s)
        if request.path in self.spoil:
            got = bytes([got[0] ^ 1]) + got[1:]
        self.files[request.path] = got
        return "success: Created\n"


@asynccontextmanager
async def fake_storage(tls: ServerTls) -> AsyncIterator[FakeStorageServer]:
    """Serve a storage in memory on a free loopback port until the block ends."""
    storage = FakeStorageServer(_tls=client_context(tls.cafile))
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", storage.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.2)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.context())
    await site.start()
    storage.url = f"https://localhost:{runner.addresses[0][1]}"
    try:
        yield storage
    finally:
        await runner.cleanup()


def _marker(count: int) -> bytes:
    lines = ("Perf Marker", "    Timestamp: 0", "    Stripe Index: 0")
    return "\n".join([*lines, f"    Stripe Bytes Transferred: {count}", "End", ""]).encode()


def _digest(wanted: str, body: bytes) -> str:
    if "md5" in wanted:
        sums = hashlib.md5(body, usedforsecurity=False).digest()
        return f"md5={base64.b64encode(sums).decode()}"
    return f"adler32={zlib.adler32(body):08x}"
