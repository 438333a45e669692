"""Services of the orchestration room, built by their own wiring and reached over sockets."""

import asyncio
import importlib
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from twinfra.core.http.client import HttpClient
from twinfra.core.service import Context, Stop, run_services
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for

ANY_STATUS = tuple(range(200, 600))


class Federation:
    """A home, an issuer that gives any token, and services that run on it."""

    def __init__(self, context: Context, issuer: TestIssuer) -> None:
        self.context, self.issuer = context, issuer
        self.home = context.home
        self._clients: list[HttpClient] = []

    @asynccontextmanager
    async def running(self, *names: str):
        """Run central services by name until the block ends."""
        built = [
            importlib.import_module(f"twinfra.orchestration.{name}.wiring").build(self.context)
            for name in names
        ]
        stop = Stop()
        task = asyncio.create_task(run_services(self.context, built, stop=stop))
        try:
            for name in names:
                port = self.home.port(name)
                await wait_for(
                    lambda port=port: task.done() or listening(port), what=f"{name} listens"
                )
            yield built
        finally:
            stop.now.set()
            await task

    def client(self, name: str, token: str | None = None) -> HttpClient:
        """Return a client of a service that sends `token`."""
        url = self.context.url(name)

        async def source() -> str:
            return token or ""

        made = HttpClient(url, tls=self.context.tls_client(), token=source if token else None)
        self._clients.append(made)
        return made

    def person(self, service: str, sub: str = "alice", groups=("climate",), **more) -> str:
        """Return a good token of a person for `service`."""
        return self.issuer.token(sub, groups, aud=self.context.url(service), **more)

    def service(self, service: str, name: str) -> str:
        """Return a good token of the service `name` for `service`."""
        return self.issuer.service_token(name, aud=self.context.url(service))

    async def close(self) -> None:
        """Close all clients."""
        for client in self._clients:
            await client.close()


@pytest.fixture
async def federation(context):
    with TestIssuer.for_home(context.home) as issuer:
        made = Federation(context, issuer)
        yield made
        await made.close()


async def assert_guarded(federation: Federation, service: str, method: str, path: str, json=None):
    """See that a route refuses no token, an old one, a forged one and one for another service."""
    url, issuer = federation.context.url(service), federation.issuer
    client = federation.client(service)
    for token, reason in (
        (None, None),
        (issuer.expired(aud=url), "expired"),
        (issuer.forged(aud=url), "signature"),
        (issuer.token(aud="https://other.test"), "audience"),
    ):
        headers = {"Authorization": f"Bearer {token}"} if token else None
        reply = await client.request(method, path, json=json, headers=headers, expect=ANY_STATUS)
        assert reply.status == 401, (method, path, reply.text())
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")
        assert reply.headers["Content-Type"] == "application/problem+json"
        body = reply.json()
        assert body["status"] == 401
        assert body["instance"] == path.partition("?")[0]
        assert reason is None or reason in body["detail"] + reply.headers["WWW-Authenticate"]


PING = {
    "status": "ok",
    "resources": {"cpu": "8", "accelerators": [{"resourceType": "A100", "available": "2"}]},
    "extensions": [],
    "free": {"cpu": 5.5, "memory": 1 << 30, "slots": 7},
    "queue": {"length": 2, "wait_s": 30},
}


class Doors:
    """A site's two doors: answers pings and health as the test says."""

    def __init__(self):
        self.status, self.body, self.tokens = 200, PING, []

    async def ping(self, request):
        self.tokens.append(request.headers.get("Authorization", ""))
        return web.json_response(self.body, status=self.status)

    async def health(self, request):
        return web.json_response({"status": "ok"})

    @asynccontextmanager
    async def open(self, federation, name):
        app = web.Application()
        app.router.add_post("/pinglink", self.ping)
        app.router.add_get("/healthz", self.health)
        runner = web.AppRunner(app)
        await runner.setup()
        port = federation.home.port(f"interlink@{name}")
        tls = federation.context.tls_server().context()
        await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
        try:
            yield f"https://localhost:{port}"
        finally:
            await runner.cleanup()


@pytest.fixture
def make_doors():
    """The class of a site's doors, for making one."""
    return Doors


@pytest.fixture
def guarded(federation):
    """Check that a route wants a good token."""

    async def check(service: str, method: str, path: str, json=None) -> None:
        await assert_guarded(federation, service, method, path, json)

    return check
