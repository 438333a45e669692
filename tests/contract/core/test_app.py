"""What every HTTP service of ours has, asked over a real socket."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from fastapi import Request
from prometheus_client.parser import text_string_to_metric_families
from pydantic import BaseModel

from twinfra.core.errors import BY_STATUS, RateLimited, Unauthenticated
from twinfra.core.http.app import create_app
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Listener, Service
from twinfra.core.telemetry import current_trace_id
from twinfra.testkit.ports import free_port
from twinfra.testkit.serving import serving
from twinfra.testkit.waiting import wait_for

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"}
ANY = tuple(range(200, 600))
CANARY = "canary-0123456789"


class Body(BaseModel):
    size: int
    name: str


async def _guard(request: Request):
    if request.headers.get("authorization") != "Bearer good":
        raise Unauthenticated("no token was sent")


def make(name="toy", **options):
    app = create_app(name, title="A toy", authenticate=_guard, **options)

    @app.get("/fail/{status}")
    async def fail(status: int):
        raise BY_STATUS[status](f"because {status}", context={"why": "inner"}, retry_after_s=0.3)

    @app.get("/crash")
    async def crash():
        raise RuntimeError(f"a bug with Bearer {CANARY}")

    @app.post("/things")
    async def things(body: Body):
        return body

    @app.post("/raw")
    async def raw(request: Request):
        return {"bytes": len(await request.body())}

    return app


@asynccontextmanager
async def opened(context, app, name="toy"):
    port = free_port()
    async with serving(context, Service(name, [Listener(app, port)])):
        client = HttpClient(f"https://localhost:{port}", tls=context.tls_client())
        yield client
        await client.close()


@pytest.fixture
async def client(context):
    async with opened(context, make(body_limit_bytes=1000)) as made:
        yield made


async def test_health_needs_no_token_when_asked(client):
    for path in ("/healthz", "/readyz"):
        assert (await client.request("GET", path)).json() == {"status": "ok", "service": "toy"}


async def test_not_ready_is_503_when_the_service_says_so(context):
    async with opened(context, make(ready=lambda: False)) as client:
        assert (await client.request("GET", "/readyz", expect=(503,))).json()["service"] == "toy"
        assert (await client.request("GET", "/healthz")).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/docs", "/openapi.json"])
async def test_operation_pages_want_a_token_when_the_service_has_a_guard(client, path):
    refused = await client.request("GET", path, expect=(401,))
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert (await client.request("GET", path, token="good")).status == 200


async def test_metrics_count_requests_when_scraped(client):
    await client.request("GET", "/healthz")
    await client.request("GET", "/nowhere", expect=(404,))
    text = (await client.request("GET", "/metrics", token="good")).text()
    samples = {
        (sample.labels["method"], sample.labels["status"])
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "twinfra_http_requests_total" and sample.labels["service"] == "toy"
    }
    assert {("GET", "200"), ("GET", "404")} <= samples


@pytest.mark.parametrize("status", sorted(BY_STATUS))
@pytest.mark.story("problem details on its own routes")
async def test_an_error_is_a_problem_when_a_route_raises_it(client, status):
    reply = await client.request("GET", f"/fail/{status}", expect=ANY, headers=TRACEPARENT)
    leaf = BY_STATUS[status]
    assert reply.status == status
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert reply.headers["Retry-After"] == "1"
    assert ("WWW-Authenticate" in reply.headers) == (status == 401)
    body = reply.json()
    assert body["type"].endswith("/" + leaf.code)
    assert (body["detail"], body["instance"]) == (f"because {status}", f"/fail/{status}")
    assert "inner" not in reply.text()


async def test_each_field_is_named_when_a_body_is_not_valid(client):
    reply = await client.request("POST", "/things", json={"size": "big"}, expect=(400,))
    body = reply.json()
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert {entry["field"] for entry in body["errors"]} == {"body.size", "body.name"}
    assert body["code"] == "invalid-request"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not-found"),
        ("DELETE", "/things", 405, "http-405"),
        ("POST", "/raw", 413, "http-413"),
        ("POST", "/things", 413, "http-413"),
    ],
)
async def test_it_is_a_problem_when_the_framework_refuses(client, method, path, status, code):
    big = b"x" * 2000 if method == "POST" else None
    reply = await client.request(method, path, data=big, expect=(status,))
    assert reply.headers["Content-Type"] == "application/problem+json"
    assert (reply.json()["code"], reply.json()["status"]) == (code, status)
    assert (reply.headers.get("Allow") == "POST") == (status == 405)


async def test_a_body_is_refused_when_it_grows_too_large_without_saying_so(client):
    async def parts():
        for _ in range(3):
            yield b"x" * 500

    assert (await client.request("POST", "/raw", data=parts(), expect=(413,))).status == 413
    assert (await client.request("POST", "/raw", data=b"x" * 1000)).json() == {"bytes": 1000}


async def test_a_bug_is_500_with_a_trace_id_and_no_cause_when_a_route_crashes(log_lines, context):
    async with opened(context, make()) as client:
        reply = await client.request("GET", "/crash", expect=(500,), headers=TRACEPARENT)
        await wait_for(lambda: [each for each in log_lines() if each.get("path") == "/crash"][1:])
    body = reply.json()
    assert (body["code"], body["trace_id"]) == ("internal-error", TRACE)
    assert "a bug" not in reply.text()
    crashed, answered = (each for each in log_lines() if each.get("path") == "/crash")
    assert (crashed["event"], crashed["trace_id"]) == ("request_crashed", TRACE)
    assert "RuntimeError: a bug" in crashed["exception"]
    assert CANARY not in json.dumps(log_lines())
    assert (answered["event"], answered["status"]) == ("request_answered", 500)


async def test_the_application_has_no_second_word_when_it_crashed(log_lines, context):
    async with opened(context, make()) as client:
        await client.request("GET", "/crash", expect=(500,))
    assert len([each for each in log_lines() if "exception" in each]) == 1


@pytest.mark.story("structured logs with a trace id that crosses services (W3C traceparent)")
async def test_the_trace_id_crosses_when_a_service_calls_another(log_lines, context):
    behind = create_app("behind", title="Behind")

    @behind.get("/inner")
    async def inner():
        return {"trace_id": current_trace_id()}

    async with opened(context, behind, "behind") as inwards:
        front = create_app("front", title="Front")

        @front.get("/outer")
        async def outer():
            return (await inwards.request("GET", "/inner")).json()

        async with opened(context, front, "front") as client:
            given = await client.request("GET", "/outer", headers=TRACEPARENT)
            drawn = await client.request("GET", "/outer")
    assert given.json() == {"trace_id": TRACE}
    new = drawn.json()["trace_id"]
    lines = [each for each in log_lines() if each["event"] == "request_answered"]
    assert [(each["container"], each["trace_id"]) for each in lines] == [
        ("behind", TRACE), ("front", TRACE), ("behind", new), ("front", new),
    ]  # fmt: skip


async def test_each_request_keeps_its_own_trace_when_many_come_at_once(context, log_lines):
    app = create_app("many", title="Many")

    @app.get("/me")
    async def me():
        await asyncio.sleep(0)
        return {"trace_id": current_trace_id()}

    async def ask(client, number):
        sent = {"traceparent": f"00-{number:032x}-b7ad6b7169203331-01"}
        return (await client.request("GET", "/me", headers=sent)).json()["trace_id"]

    async with opened(context, app, "many") as client:
        answers = await asyncio.gather(*(ask(client, number) for number in range(1, 30)))
    assert answers == [f"{number:032x}" for number in range(1, 30)]


async def test_a_compatible_api_spells_errors_its_own_way_when_it_says_how(context):
    from starlette.responses import PlainTextResponse

    def spell(_request, error):
        return PlainTextResponse(f"theirs {error.code}", error.status)

    async with opened(context, make(render=spell)) as client:
        for path, status, text in (
            ("/fail/429", 429, f"theirs {RateLimited.code}"),
            ("/nowhere", 404, "theirs not-found"),
            ("/crash", 500, "theirs internal-error"),
        ):
            assert (await client.request("GET", path, expect=(status,))).text() == text
