"""The services proxy over a socket: who may call, what is streamed, what happens at a switch."""

import asyncio
import io
import json

import aiohttp
import pytest
from aiohttp import web

from twinfra.core.bus import Event
from twinfra.testkit.waiting import wait_for


def echo(seen):
    """A service that says what it was asked."""
    app = web.Application(client_max_size=8 << 20)

    async def answer(request):
        body = await request.read()
        seen.append({name.lower(): value for name, value in request.headers.items()})
        return web.json_response(
            {"method": request.method, "path": request.raw_path, "size": len(body)},
            headers={"X-Own": "yes", "Connection": "keep-alive"},
        )

    async def ready(request):
        return web.Response(text="ready")

    async def moved(request):
        return web.Response(status=302, headers={"Location": "/elsewhere?x=1"})

    async def ticks(request):
        stream = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await stream.prepare(request)
        for number in range(3):
            await stream.write(f"data: {number}\n\n".encode())
        seen.append("ticking")
        try:
            while True:
                await asyncio.sleep(0.05)
                await stream.write(b": still here\n\n")
        finally:
            seen.append("gone")

    async def broken(request):
        stream = web.StreamResponse(headers={"Content-Length": "100"})
        await stream.prepare(request)
        await stream.write(b"half")
        request.transport.abort()
        return stream

    app.router.add_get("/ready", ready)
    app.router.add_get("/moved", moved)
    app.router.add_get("/ticks", ticks)
    app.router.add_get("/broken", broken)
    app.router.add_route("*", "/{rest:.*}", answer)
    return app


@pytest.mark.story(
    "an inference service reachable through the services proxy of the design with a token"
)
async def test_only_group_owner_and_services_get_through(orchestrator):
    _, node, uid = await orchestrator.served()
    path, seen = f"/services/{node}/hello", []
    issuer, url = orchestrator.issuer, orchestrator.url
    async with orchestrator.pod(uid, echo(seen)):
        await orchestrator.world.play(3)
        for token, status in (
            (orchestrator.token(), 200),
            (orchestrator.token("carol"), 200),
            (issuer.service_token("notifications", aud=url), 200),
            (orchestrator.token("bob", ("hydrology",)), 403),
            (issuer.expired(aud=url), 401),
            (issuer.token(aud="https://other.test"), 401),
            ("", 401),
        ):
            reply = await orchestrator.ask("GET", path, token)
            assert reply.status == status, reply.text()
            if status != 200:
                assert reply.headers["Content-Type"] == "application/problem+json"
                assert reply.json()["status"] == status
            if status == 401:
                assert reply.headers["WWW-Authenticate"].startswith("Bearer")
        stranger = await orchestrator.ask("GET", "/services/nothing/hello")
        assert stranger.status == 404
    assert len(seen) == 3


async def test_service_sees_the_request_and_no_token(orchestrator):
    _, node, uid = await orchestrator.served()
    seen = []
    async with orchestrator.pod(uid, echo(seen)):
        await orchestrator.world.play(3)
        reply = await orchestrator.ask(
            "PUT",
            f"/services/{node}/a%2Fb/c?q=1&q=%20",
            data=b"x" * 100_000,
            headers={"X-Forwarded-User": "root", "X-Mine": "1", "Connection": "X-Gone",
                     "X-Gone": "1", "Content-Type": "text/plain"},
        )  # fmt: skip
        assert reply.json() == {"method": "PUT", "path": "/a%2Fb/c?q=1&q=%20", "size": 100_000}
        assert reply.headers["X-Own"] == "yes"
        moved = await orchestrator.ask("GET", f"/services/{node}/moved")
        assert (moved.status, moved.headers["Location"]) == (
            302,
            f"/services/{node}/elsewhere?x=1",
        )
        root = await orchestrator.ask("GET", f"/services/{node}")
        assert root.json()["path"] == "/"
    headers = seen[0]
    assert "authorization" not in headers
    assert orchestrator.token() not in str(headers)
    assert headers["x-forwarded-user"] == "alice"
    assert headers["x-forwarded-groups"] == "climate"
    assert headers["x-forwarded-prefix"] == f"/services/{node}"
    assert headers["x-mine"] == "1"
    assert "x-gone" not in headers


async def test_bodies_stream_both_ways_and_stop_when_the_caller_goes(orchestrator):
    _, node, uid = await orchestrator.served()
    seen = []
    async with orchestrator.pod(uid, echo(seen)):
        await orchestrator.world.play(3)

        async def pieces():
            for _ in range(20):
                yield b"y" * 50_000

        big = await orchestrator.ask("POST", f"/services/{node}/up", data=pieces())
        assert big.json()["size"] == 1_000_000
        async with orchestrator.http().stream("GET", f"/services/{node}/ticks") as answer:
            assert answer.headers["Content-Type"] == "text/event-stream"
            first = await answer.content.readuntil(b"data: 2\n\n")
            assert first.count(b"data:") == 3
            answer.close()
        await wait_for(lambda: "gone" in seen, what="the service notices that nobody reads")


async def test_request_over_the_limit_is_refused(orchestrator):
    _, node, uid = await orchestrator.served()
    async with orchestrator.pod(uid, echo([])):
        await orchestrator.world.play(3)
        reply = await orchestrator.ask(
            "POST", f"/services/{node}/up", data=io.BytesIO(b"z" * (5 << 20))
        )
        assert reply.status == 413
        assert "Traceback" not in reply.text()


async def test_broken_answer_is_a_broken_connection(orchestrator):
    _, node, uid = await orchestrator.served()
    async with orchestrator.pod(uid, echo([])):
        await orchestrator.world.play(3)
        headers = {"Authorization": f"Bearer {orchestrator.token()}"}
        async with aiohttp.ClientSession() as session:
            url = f"{orchestrator.url}/services/{node}/broken"
            answer = await session.get(url, headers=headers, ssl=orchestrator.context.tls_client())
            with pytest.raises(aiohttp.ClientPayloadError):
                await answer.read()


async def test_503_with_retry_after_when_nothing_serves(orchestrator):
    _, node, uid = await orchestrator.served()
    path = f"/services/{node}/hello"
    early = await orchestrator.ask("GET", path)
    assert (early.status, early.headers["Retry-After"]) == (503, "1")
    assert early.json()["code"] == "unavailable"
    async with orchestrator.pod(uid, echo([])):
        await orchestrator.world.play(3)
        await orchestrator.world.clock.advance(2)
        assert (await orchestrator.ask("GET", path)).status == 200
    down = await orchestrator.ask("GET", path)
    assert (down.status, down.headers["Retry-After"]) == (503, "1")
    assert (await orchestrator.ask("POST", path, json={})).status == 503


@pytest.mark.story("a client at 50 requests/s through the switch sees no error")
async def test_no_request_fails_when_a_new_version_takes_over(orchestrator):
    world = orchestrator.world
    world.data.known.add("climate:model")
    text = """\
tosca_definitions_version: tosca_simple_yaml_1_3
topology_template:
  node_templates:
    predict:
      type: tosca.nodes.twinfra.Service
      properties:
        image: x
        port: 80
        readiness_path: /ready
        inputs: ["climate:model"]
        follow: ["climate:model"]
"""
    client = orchestrator.client()
    uuid = (await client.create(text))["uuid"]
    await world.play()
    (node,) = await client.resources(uuid)
    (old,) = world.driver.site("hpc-b").pods

    def version(name, pause_s):
        app = web.Application()

        async def answer(request):
            await asyncio.sleep(pause_s)
            return web.json_response({"version": name})

        app.router.add_get("/ready", answer)
        app.router.add_route("*", "/{rest:.*}", answer)
        return app

    answers, stop = [], asyncio.Event()
    http = orchestrator.http()

    async def ask(method):
        reply = await http.request(method, f"/services/{node['uuid']}/predict", expect=(200,))
        answers.append(json.loads(reply.body)["version"])

    async def keep_asking():
        async with asyncio.TaskGroup() as group:
            number = 0
            while not stop.is_set():
                number += 1
                group.create_task(ask("GET" if number % 2 else "POST"))
                await asyncio.sleep(0.02)

    async with orchestrator.pod(old, version("old", 0.1)):
        await world.play(2)
        asking = asyncio.create_task(keep_asking())
        await wait_for(lambda: len(answers) > 10, what="the old version answers")
        event = Event(
            type="org.twinfra.dataset.version-added", source="/datasets",
            data={"scope": "climate", "name": "model", "version": 2},
        )  # fmt: skip
        await world.hear(event)
        (new,) = set(world.driver.site("hpc-b").pods) - {old}
        async with orchestrator.pod(new, version("new", 0.01)):

            async def gone():
                await world.play(0.3)
                return old in world.driver.site("hpc-b").gone

            await wait_for(gone, what="the old version is drained and gone")
            await wait_for(lambda: answers[-20:] == ["new"] * 20, what="only the new one answers")
            stop.set()
            await asking
    assert set(answers) == {"old", "new"}
    (_, run) = await client.runs(uuid)
    assert run["state"] == "SERVING"
