"""The notification service over HTTPS with an issuer, a NATS server and the test's own sink."""

import json
import os
import signal
import subprocess
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from twinfra.core.bus import Bus, Event
from twinfra.core.errors import Unavailable
from twinfra.core.http.client import HttpClient
from twinfra.core.nats_server import nats_server_program
from twinfra.core.tls import server_tls
from twinfra.data.notifications.client import NotificationsClient
from twinfra.data.notifications.signing import is_genuine
from twinfra.data.notifications.wiring import build
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.ports import listening
from twinfra.testkit.serving import serving
from twinfra.testkit.waiting import wait_for, wait_for_sync


@dataclass
class SinkServer:
    """Takes webhooks; what it answers is up to the test."""

    url: str = ""
    address: str = ""
    got: list = field(default_factory=list)
    tries: list = field(default_factory=list)
    answer: object = None
    status: int = 200
    down: set = field(default_factory=set)

    async def handle(self, request):
        body = await request.read()
        headers = {key.lower(): value for key, value in request.headers.items()}
        event = json.loads(body)
        self.tries.append(event["id"])
        if self.status != 200 or request.path in self.down:
            return web.Response(status=self.status if self.status != 200 else 500, text="not now")
        self.got.append((request.path, headers, body, event))
        if self.answer is None:
            return web.Response()
        return self.answer(event)

    def ids(self, path=None):
        return [each[3]["id"] for each in self.got if path in {None, each[0]}]

    def genuine(self, secret):
        return all(
            is_genuine(secret, headers, body, now_s=time.time()) for _, headers, body, _ in self.got
        )


class NatsProcess:
    """A NATS server that a test may kill and start again on the same files and port."""

    def __init__(self, folder, port):
        self.folder, self.port, self.process = folder, port, None

    def start(self):
        log = (self.folder / "nats.log").open("ab")
        argv = [nats_server_program(), "-a", "127.0.0.1", "-p", str(self.port)]
        argv += ["-js", "-sd", str(self.folder)]
        self.process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        wait_for_sync(lambda: listening(self.port), what="nats")

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@dataclass
class Federation:
    """All that a test talks to."""

    context: object
    issuer: TestIssuer
    nats: NatsProcess
    sink: SinkServer
    bus: Bus = None
    client: NotificationsClient = None

    @property
    def url(self):
        return self.context.url("notifications")

    def token(self, sub="alice", groups=("climate",)):
        return self.issuer.token(sub, groups, aud=self.url)

    def service_token(self, name="deployments"):
        return self.issuer.service_token(name, aud=self.url)

    @asynccontextmanager
    async def serving(self):
        async with serving(self.context, build(self.context)):
            yield

    async def publish(self, number, kind="org.twinfra.storage.created", **more):
        facts = {
            "site": "edge-c", "id": f"event-{number}",
            "data": {"path": f"/incoming/scenarios/f{number}.nc", "rse": "EDGE-C",
                     "site": "edge-c", "size_bytes": 10, "adler32": "00000001", "md5": None},
        }  # fmt: skip
        await self.bus.publish(Event(kind, "urn:test", f"/f{number}", **{**facts, **more}))

    async def publish_surely(self, number):
        """Publish as an outbox does: again until the broker confirms."""

        async def sent():
            try:
                await self.publish(number)
            except Unavailable:
                return False
            return True

        await wait_for(sent, timeout_s=30)

    async def subscribe(self, *types, path="/events", token=None, **more):
        return await self.client.subscribe(
            types or ["org.twinfra.storage.*"], self.sink.url + path,
            token=token or self.token(), **more,
        )  # fmt: skip


@pytest.fixture
async def sink(home):
    script = SinkServer()
    app = web.Application()
    app.router.add_post("/{path:.*}", script.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_tls(home.tls).context())
    await site.start()
    script.address = f"localhost:{runner.addresses[0][1]}"
    script.url = f"https://{script.address}"
    yield script
    await runner.cleanup()


@pytest.fixture
async def idle(context, home, sink):
    """A federation whose notification service the test starts itself."""
    home.settings_file.write_text(
        f'[notifications]\nallowed_sinks = ["{sink.address}"]\nsink_pause_s = 0.05\n'
        "sites_refresh_s = 0.2\n"
    )
    nats = NatsProcess(home.nats, home.port("nats"))
    nats.start()
    with TestIssuer.for_home(home) as issuer:
        made = Federation(context, issuer, nats, sink, Bus(context.bus_url))
        await made.bus.connect()
        http = HttpClient(made.url, tls=context.tls_client())
        made.client = NotificationsClient(http)
        yield made
        await http.close()
        await made.bus.close()
    if nats.process.poll() is None:
        nats.kill()


@pytest.fixture
async def federation(idle):
    async with idle.serving():
        await wait_for(lambda: idle.bus.connected)
        yield idle
