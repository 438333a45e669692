"""A site over the fake back end: plug-in and API server on real sockets, an issuer for tests."""

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from twinfra.compute.containers.images.model import ImageConfig, UnpackedImage
from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.interlink.pods.plan import Ground
from twinfra.compute.interlink.wiring import SiteFoundation, build_api, build_plugin
from twinfra.core.errors import NotFound
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.core.service import Context, Stop, run_services
from twinfra.testkit.fake_site import FakeSite
from twinfra.testkit.issuer import ALL_SCOPES, TestIssuer
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for

SITE = "hpc-b"
UID = "7c1f0d52-6f2e-4b7e-9f0e-2f4f6a8d1c11"


class PlainRuntime:
    """Starts containers as they are; the fake site starts nothing anyway."""

    name = "plain"

    def launch(self, spec):
        return Launch((), spec.command, env=dict(spec.env), inner_env=dict(spec.env))


class AnyImage:
    """Has every image but ``missing:1``."""

    def __init__(self, root):
        self.root = root

    def resolve(self, reference):
        if reference.startswith("missing"):
            raise NotFound(f"no image {reference}")
        return "sha256:" + "0" * 64

    def ensure(self, reference, credentials=None, *, policy=""):
        digest = self.resolve(reference)
        return UnpackedImage(reference, digest, self.root, ImageConfig(cmd=("/bin/true",)))


@dataclass
class House:
    """The site under test, and how to speak to it."""

    ctx: Context
    issuer: TestIssuer
    site: FakeSite
    folder: Path
    clients: list[HttpClient] = field(default_factory=list)

    @property
    def api(self):
        return self.ctx.url(f"interlink@{SITE}")

    @property
    def plugin(self):
        return self.ctx.url(f"plugin@{SITE}")

    def token(self, sub="alice", *, aud=None, **more):
        more.setdefault("scope", ALL_SCOPES)
        return self.issuer.token(sub, aud=aud or self.api, **more)

    def service_token(self, name="deployments", *, aud=None):
        return self.issuer.service_token(name, aud=aud or self.api)

    def http(self, base=None, token=None):
        base = base or self.api

        async def source():
            return token or self.service_token(aud=base)

        made = HttpClient(base, tls=self.ctx.tls_client(), token=source)
        self.clients.append(made)
        return made

    def client(self, token=None):
        return InterlinkClient(self.http(token=token))

    async def curl(self, *argv, token=None, base=None):
        """Run curl as a stranger would; give status and body."""
        base = base or self.api
        bearer = token or self.service_token(aud=base)
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--cacert", str(self.ctx.tls_server().cafile),
            "-H", f"Authorization: Bearer {bearer}", "-w", "\n%{http_code}", "-m", "20", *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err
        body, _, status = out.rpartition(b"\n")
        return int(status), body


def make_pod(uid=None, **spec):
    """Return a small pod."""
    annotations = spec.pop("annotations", {})
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "train-0",
            "namespace": "ml",
            "uid": uid or new_uuid(),
            "annotations": annotations,
        },
        "spec": {
            "restartPolicy": "Never",
            "containers": [{"name": "main", "image": "python:3.12", "command": ["true"]}],
            **spec,
        },
        "status": {"phase": "Pending"},
    }


@pytest.fixture
def pod():
    return make_pod


@pytest.fixture
async def serving(context):
    """Run services until the test ends."""
    async with contextlib.AsyncExitStack() as stack:

        async def run(*services):
            stop = Stop()
            task = asyncio.create_task(run_services(context, services, stop=stop))

            async def end():
                stop.now.set()
                await task

            stack.push_async_callback(end)
            doors = [door for service in services for door in service.listeners]
            ports = [door.port for door in doors if door.port]
            await wait_for(
                lambda: task.done() or all(listening(port) for port in ports),
                timeout_s=20, what="the doors",
            )  # fmt: skip
            if task.done():
                await task
            return end

        yield run


@pytest.fixture
def issuer(context):
    with TestIssuer(tls=context.tls_server(), port=context.home.port("issuer")) as made:
        yield made


@pytest.fixture
def foundation(tmp_path):
    ground = Ground(PlainRuntime(), isolated=True, network="none")
    return SiteFoundation(FakeSite(), ground, AnyImage(tmp_path / "rootfs"))


@pytest.fixture
async def house(context, issuer, serving, foundation, tmp_path):
    await serving(build_plugin(context, SITE, foundation))
    made = House(context, issuer, foundation.site, tmp_path)

    async def start_api():
        made.end_api = await serving(build_api(context, SITE))

    made.start_api = start_api
    await start_api()
    yield made
    for client in made.clients:
        await client.close()


class Stranger:
    """A plug-in of somebody else: records what it gets, answers what it was told."""

    def __init__(self):
        self.seen = []
        self.answers = {
            "/create": (200, json.dumps({"PodUID": UID, "PodJID": "48213"}).encode()),
            "/delete": (200, b"deleted"),
            "/status": (200, b"[]"),
            "/getLogs": (200, b"line 1\nline 2\n"),
        }

    async def handle(self, request):
        body = await request.read()
        self.seen.append((request.method, request.path, body, dict(request.headers)))
        status, answer = self.answers[request.path]
        return web.Response(status=status, body=answer)

    def calls(self, path):
        return [call for call in self.seen if call[1] == path]


@pytest.fixture
async def stranger():
    made = Stranger()
    app = web.Application()
    app.router.add_route("*", "/{any}", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = site._server.sockets[0].getsockname()[1]
    made.stop = runner.cleanup
    yield made
    await runner.cleanup()
