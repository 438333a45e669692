"""The API server before a plug-in that answers late, or byte by byte: 504, and it goes on."""

import asyncio
import itertools
import json
import time

import pytest
from aiohttp import web

from twinfra.compute.interlink.wiring import build_api
from twinfra.core.ids import new_uuid
from twinfra.testkit.waiting import wait_for

SITE = "hpc-b"
PATIENCE_S = 1.0


class SlowPlugin:
    """A plug-in of somebody else: `manner` says how it answers."""

    def __init__(self):
        self.manner, self.calls = "at once", 0
        self.gone = asyncio.Event()

    async def handle(self, request):
        await request.read()
        self.calls += 1
        if self.manner == "late":
            await self.gone.wait()
        answer = web.StreamResponse()
        await answer.prepare(request)
        if self.manner == "dripping":
            while not self.gone.is_set():
                await answer.write(b" ")
                await asyncio.sleep(0.1)
        await answer.write(b"[]")
        return answer


@pytest.fixture
async def slow():
    made = SlowPlugin()
    app = web.Application()
    app.router.add_route("*", "/{any}", made.handle)
    runner = web.AppRunner(app, shutdown_timeout=1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.port = site._server.sockets[0].getsockname()[1]
    yield made
    made.gone.set()
    await runner.cleanup()


@pytest.fixture
async def api(context, issuer, serving, slow):
    """Return a way to curl the API server before the slow one."""
    context.home.root.mkdir(exist_ok=True)
    context.home.settings_file.write_text(
        f'[sites.{SITE}.interlink]\nplugin = "http://127.0.0.1:{slow.port}"\n'
        f"plugin_token = false\nplugin_timeout_s = {PATIENCE_S}\n"
    )
    await serving(build_api(context, SITE))
    url = context.url(f"interlink@{SITE}")
    token = issuer.service_token("kubelet", aud=url)

    async def curl(method, path, body):
        process = await asyncio.create_subprocess_exec(
            "curl", "-sS", "--cacert", str(context.tls_server().cafile), "-m", "20", "-X", method,
            "-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json",
            "-w", "\n%{http_code}", "-d", json.dumps(body), url + path,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        answer, _, status = out.rpartition(b"\n")
        return int(status), answer

    return curl


def calls(pod):
    uid = new_uuid()
    body = pod(uid)
    return {
        "create": ("POST", "/create", {"pod": body}),
        "status": ("GET", "/status", [body]),
        "delete": ("POST", "/delete", body),
        "logs": ("GET", "/getLogs", {"Namespace": "ml", "PodUID": uid, "PodName": "train-0",
                                     "ContainerName": "main", "Opts": {}}),
    }  # fmt: skip


@pytest.mark.real("curl")
@pytest.mark.story("Plug-in slow")
@pytest.mark.parametrize(
    ("call", "manner"),
    [
        *itertools.product(("create", "status", "delete"), ("late", "dripping")),
        ("logs", "late"),  # those may come slowly
    ],
)
async def test_504_and_the_server_is_up_when_the_plugin_is_slow(api, slow, pod, call, manner):
    slow.manner = manner
    began = time.monotonic()
    status, body = await api(*calls(pod)[call])
    assert status == 504, body
    assert time.monotonic() - began < 10 * PATIENCE_S
    assert slow.calls == 1  # what may have been done is not done again here
    slow.manner = "at once"
    assert await api("GET", "/status", [pod()]) == (200, b"[]")


@pytest.mark.real("curl")
async def test_other_calls_go_on_while_one_waits(api, slow, pod):
    slow.manner = "late"
    waiting = asyncio.create_task(api(*calls(pod)["create"]))
    await wait_for(lambda: slow.calls, what="the first call")
    slow.manner = "at once"
    assert await api("GET", "/status", [pod()]) == (200, b"[]")
    assert not waiting.done()
    assert (await waiting)[0] == 504
