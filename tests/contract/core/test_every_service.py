"""Every central service in one process, with the real issuer and event bus: what all have.

The process is the one that ``twinfra up`` runs: ``twinfra serve hub``.
"""

import asyncio
import re
import sys
from contextlib import asynccontextmanager

import pytest
from prometheus_client.parser import text_string_to_metric_families

from twinfra.access.issuer.settings import IssuerServiceSettings
from twinfra.access.issuer.wiring import signing_keys
from twinfra.access.person_tokens import sign_in_here
from twinfra.cli.processes import HUB, WIRING
from twinfra.core.errors import Unavailable
from twinfra.core.home import Home
from twinfra.core.http.app import OPERATION
from twinfra.core.http.client import HttpClient
from twinfra.core.nats_server import nats_server_argv
from twinfra.core.service import Context
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.testkit.issuer import TestIssuer, encode_part
from twinfra.testkit.ports import listening
from twinfra.testkit.processes import running
from twinfra.testkit.waiting import wait_for

ANY = tuple(range(200, 600))
OWN = {"catalogue", "monitoring", "accounting", "notifications", "ranking", "dashboard"}
"""Services that have no other API to be compatible with: all their errors are problem details."""
DISCOVERY = {
    "issuer": {
        "/.well-known/openid-configuration", "/jwks", "/token", "/device_authorization",
        "/introspect", "/revoke",
    },
    "datasets": {"/ping"},
    "transfers": {"/"},
    "deployments": {"/", "/info", "/.well-known/jwks.json"},
}  # fmt: skip
"""What OIDC, Rucio, FTS and INDIGO ask without a token; the issuer's last four have their own."""
services = pytest.mark.parametrize("service", WIRING)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    place = Home(tmp_path_factory.mktemp("hub"))
    argv = nats_server_argv(place, WIRING, [])
    log = place.logs / "nats.log"
    with running(argv, log=log, ready=lambda: listening(place.port("nats"))):
        argv = [sys.executable, "-m", "twinfra.cli.main", "serve", HUB, "--home", place.root]
        ports = [place.port(name) for name in WIRING]
        ready = lambda: all(map(listening, ports))  # noqa: E731 - a condition
        with running(argv, log=place.logs / "hub.log", ready=ready, timeout_s=100):
            yield place


@pytest.fixture(scope="module")
def alice(home):
    """Gives alice's token for an audience, issued by the real issuer."""
    kept = {}

    async def ask(audience):
        tokens = await sign_in_here(Context(home), "alice")
        try:
            return await tokens.token(audience)
        finally:
            await tokens.close()

    def token(audience):
        if audience not in kept:
            kept[audience] = asyncio.run(ask(audience))
        return kept[audience]

    for name in WIRING:
        token(Context(home).url(name))
    return token


@pytest.fixture(scope="module")
def keys(home):
    return signing_keys(home, IssuerServiceSettings.load(home), SYSTEM_CLOCK)


@asynccontextmanager
async def client_of(home, service):
    context = Context(home)
    client = HttpClient(context.url(service), tls=context.tls_client(), timeout_s=60)
    yield client
    await client.close()


async def routes(client, service, token):
    """Return method and path of each route that wants a token, its parameters filled in."""
    document = (await client.request("GET", "/openapi.json", token=token)).json()
    found = [
        (method.upper(), re.sub(r"\{[^}]*\}", "x", path))
        for path, operations in document["paths"].items()
        for method in operations
        if path not in {"/healthz", "/readyz", *DISCOVERY.get(service, ())}
    ]
    return [*found, ("GET", "/docs"), ("GET", "/openapi.json")]


@services
@pytest.mark.story("Every service: `/healthz`, `/readyz`, `/metrics`, OpenAPI at `/docs`")
async def test_operation_routes_answer_when_the_service_runs(home, alice, service):
    token = alice(Context(home).url(service))
    async with client_of(home, service) as client:
        health = await client.request("GET", "/healthz")
        assert health.json() == {"status": "ok", "service": service}

        async def ready():
            return (await client.request("GET", "/readyz", expect=ANY)).status == 200

        await wait_for(ready, timeout_s=30, what=f"{service} is ready")
        metrics = await client.request("GET", "/metrics", token=token)
        names = {family.name for family in text_string_to_metric_families(metrics.text())}
        assert {"twinfra_http_requests", "twinfra_http_request_seconds"} <= names
        docs = await client.request("GET", "/docs", token=token)
        assert "openapi.json" in docs.text()
        document = (await client.request("GET", "/openapi.json", token=token)).json()
        assert document["openapi"].startswith("3.")
        assert document["info"]["title"]


@services
async def test_every_operation_is_named_once_when_the_api_describes_itself(home, alice, service):
    async with client_of(home, service) as client:
        token = alice(Context(home).url(service))
        document = (await client.request("GET", "/openapi.json", token=token)).json()
    found = [each for path in document["paths"].values() for each in path.values()]
    names = [each["operationId"] for each in found]
    assert sorted(names) == sorted(set(names))
    assert [each["operationId"] for each in found if not each.get("summary")] == []


@services
@pytest.mark.story("every API demands a bearer token except health and discovery")
async def test_every_route_is_401_when_no_token_is_sent(home, alice, service):
    wrong = []
    async with client_of(home, service) as client:
        for method, path in await routes(client, service, alice(client.base_url)):
            reply = await client.request(method, path, expect=ANY)
            challenge = reply.headers.get("WWW-Authenticate", "")
            if (reply.status, challenge.partition(" ")[0]) != (401, "Bearer"):
                wrong.append((method, path, reply.status, challenge))
            elif service in OWN or path in OPERATION:
                wrong += _not_a_problem(method, path, reply)
    assert wrong == []


def _not_a_problem(method, path, reply):
    if reply.headers["Content-Type"] != "application/problem+json":
        return [(method, path, reply.headers["Content-Type"])]
    body = reply.json()
    facts = (body["status"], body["code"], body["instance"], body["retryable"])
    said = "a bearer token is needed" in body["detail"] and len(body["trace_id"]) == 32
    return [] if facts == (401, "unauthenticated", path, False) and said else [(method, path, body)]


def bad_tokens(home, keys, service):
    """Return each bad token with what the answer must say."""
    url, now = Context(home).url, int(SYSTEM_CLOCK.now().timestamp())
    good = {
        "iss": url("issuer"), "sub": "alice", "aud": url(service), "exp": now + 600, "iat": now,
        "nbf": now, "jti": "1", "scope": "", "client_id": "twinfra-cli", "wlcg.ver": "1.0",
        "wlcg.groups": ["/climate"],
    }  # fmt: skip

    def signed(**more):
        return keys.sign({**good, **more}, typ="at+jwt")

    unsigned = {"alg": "none", "typ": "at+jwt", "kid": keys.jwks()["keys"][-1]["kid"]}
    stranger = TestIssuer()
    stranger.stop()
    other = "catalogue" if service != "catalogue" else "datasets"
    return {
        "has expired": signed(exp=now - 600, iat=now - 4000, nbf=now - 4000),
        "is for another audience": signed(aud=url(other)),
        "not a well-formed JWT": "garbage",
        "signature is wrong": signed()[:-8] + "AAAAAAAA",
        "issuer that is not trusted": stranger.token(aud=url(service)),
        "is not an access token": keys.sign(good, typ="JWT"),
        "not valid yet": signed(nbf=now + 3600, iat=now + 3600, exp=now + 7200),
        "not allowed": f"{encode_part(unsigned)}.{encode_part(good)}.",
    }, signed()


@services
@pytest.mark.story("A wrong token, an expired one, one for another audience: 401 with the reason")
async def test_every_route_is_401_with_the_reason_when_the_token_is_bad(home, alice, keys, service):
    bad, good = bad_tokens(home, keys, service)
    wrong = []
    async with client_of(home, service) as client:
        for method, path in await routes(client, service, good):
            for reason, token in bad.items():
                reply = await client.request(method, path, token=token, expect=ANY)
                challenge = reply.headers.get("WWW-Authenticate", "")
                told = 'error="invalid_token"' in challenge and reason in challenge
                if reply.status != 401 or not told or reason not in reply.text():
                    wrong.append((method, path, reason, reply.status, challenge, reply.text()))
                if token in reply.text() + str(reply.headers):
                    wrong.append((method, path, reason, "the token is shown"))
    assert wrong == []


@services
@pytest.mark.story("problem details on its own routes")
async def test_it_is_a_problem_when_there_is_no_such_route_or_method(home, alice, service):
    async with client_of(home, service) as client:
        token = alice(client.base_url)
        for method, path, status in (("GET", "/no/such/route", 404), ("PATCH", "/healthz", 405)):
            reply = await client.request(method, path, token=token, expect=ANY)
            assert reply.status == status
            if service in OWN:
                assert reply.headers["Content-Type"] == "application/problem+json"
                assert reply.json()["status"] == status


@pytest.mark.story("structured logs with a trace id that crosses services (W3C traceparent)")
async def test_both_services_log_one_trace_id_when_one_asks_the_other(home, alice):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    sent = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    body = {"requirements": {"cpu": 1, "memory_bytes": 1}, "inputs": [], "group": "climate"}
    async with client_of(home, "ranking") as client:
        token = alice(client.base_url)
        await client.request("POST", "/rank", json=body, headers=sent, token=token, expect=ANY)

    def logged():
        lines = (home.logs / "hub.log").read_text().splitlines()
        return {
            name for name in WIRING for line in lines
            if trace in line and "request_answered" in line and f'"container": "{name}"' in line
        }  # fmt: skip

    await wait_for(lambda: {"ranking", "catalogue"} <= logged(), what="the trace in both logs")


async def test_nobody_listens_without_tls_when_the_hub_runs(home):
    for name in WIRING:
        client = HttpClient(f"http://localhost:{home.port(name)}")
        with pytest.raises(Unavailable):
            await client.request("GET", "/healthz")
        await client.close()


async def test_no_token_is_in_any_log_when_requests_were_made(home, alice):
    text = (home.logs / "hub.log").read_text()
    assert "request_answered" in text
    assert "eyJ" not in text
    assert not any(alice(Context(home).url(name)) in text for name in WIRING)
