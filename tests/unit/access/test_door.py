"""The door of an application: where a token is looked for, and how a refusal is answered."""

from typing import Annotated

import pytest
from fastapi import Depends, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse

from twinfra.access.authorization import (
    is_member,
    matches_service,
    require_group,
    require_service,
)
from twinfra.access.errors import ScopeMissing, TokenRefused
from twinfra.access.http import authenticated, bearer_of
from twinfra.access.model import Principal
from twinfra.core.errors import InsufficientScope
from twinfra.core.http.app import create_app

ALICE = Principal(
    "https://i", "alice", "cli", frozenset({"climate"}), (), None, "t", is_service=False
)
EDGE = Principal(
    "https://i", "service:edge@hpc-b", "x", frozenset(), (), None, "t", is_service=True
)


class Fixed:
    """Knows one token."""

    async def authenticate(self, bearer):
        if bearer == "good":
            return ALICE
        raise TokenRefused("expired" if bearer == "old" else "malformed")


@pytest.fixture
def client():
    guard = authenticated(Fixed(), also="x-rucio-auth-token")
    app = create_app("test", title="Test", authenticate=guard)

    @app.get("/who")
    async def who(principal: Annotated[Principal, Depends(guard)]) -> str:
        return principal.sub

    @app.get("/service")
    async def service(principal: Annotated[Principal, Depends(guard)]) -> None:
        require_service(principal, action="test")

    @app.websocket("/live")
    async def live(socket: WebSocket, principal: Annotated[Principal, Depends(guard)]) -> None:
        await socket.accept()
        await socket.send_text(principal.sub)

    return TestClient(app)


def test_caller_is_named_when_the_token_is_good(client):
    answer = client.get("/who", headers={"Authorization": "Bearer good"})

    assert (answer.status_code, answer.json()) == (200, "alice")


def test_other_header_is_taken_when_the_api_says_so(client):
    assert client.get("/who", headers={"X-Rucio-Auth-Token": "good"}).json() == "alice"
    assert client.get("/who", headers={"X-Rucio-Auth-Token": "Bearer good"}).json() == "alice"


def test_answer_is_401_with_a_bare_challenge_when_no_token_is_sent(client):
    answer = client.get("/who")

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="twinfra"'
    assert answer.json()["code"] == "unauthenticated"


@pytest.mark.story("A wrong token, an expired one, one for another audience: 401 with the reason")
def test_answer_is_401_with_the_reason_when_the_token_has_expired(client):
    answer = client.get("/who", headers={"Authorization": "Bearer old"})

    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert "expired" in answer.headers["www-authenticate"]
    assert answer.json()["detail"] == "the token has expired"


@pytest.mark.story("a good token without the right: 403")
def test_answer_is_403_when_the_token_is_good_and_lacks_the_right(client):
    answer = client.get("/service", headers={"Authorization": "Bearer good"})

    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([("authorization", "Bearer a"), ("authorization", "Bearer b")], "malformed"),
        ([("authorization", "Bearer a"), ("x-also", "b")], "malformed"),
        ([("authorization", "Basic YTpi")], "missing"),
        ([("authorization", "Bearer")], "missing"),
        ([("authorization", "Bearer  ")], "missing"),
        ([("authorization", "")], "missing"),
        ([("cookie", "token=a")], "missing"),
    ],
)
def test_headers_are_refused_when_there_is_not_exactly_one_token(headers, reason):
    with pytest.raises(TokenRefused) as refused:
        bearer_of(headers, also="x-also")

    assert refused.value.reason == reason


def test_token_in_the_query_string_is_not_looked_at(client):
    assert client.get("/who?access_token=good").status_code == 401


def test_token_is_demanded_when_metrics_or_documentation_are_asked_for(client):
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert client.get(path).status_code == 401
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_websocket_is_refused_when_it_brings_no_good_token(client):
    with pytest.raises(WebSocketDenialResponse) as refused, client.websocket_connect("/live"):
        pass
    assert refused.value.status_code == 401

    with client.websocket_connect("/live", headers={"Authorization": "Bearer good"}) as socket:
        assert socket.receive_text() == "alice"


def test_challenge_is_a_valid_header_when_the_detail_holds_quotes():
    refusal = TokenRefused("malformed", 'a "quoted" \\ thing, é')

    refusal.headers["WWW-Authenticate"].encode("ascii")
    assert refusal.headers["WWW-Authenticate"].count('"') == 6


def test_membership_is_exact_when_asked_for():
    assert is_member(ALICE, "climate")
    assert is_member(ALICE, "/climate")
    assert not is_member(ALICE, "climate/ocean")
    assert not is_member(ALICE, "clim")
    with pytest.raises(InsufficientScope):
        require_group(ALICE, "hydrology", action="write", resource="x")


def test_service_is_known_by_its_name_or_site_pattern():
    require_service(EDGE, "transfers", "edge@*", action="x")
    require_service(EDGE, action="x")
    with pytest.raises(InsufficientScope):
        require_service(EDGE, "edge@cloud-a", action="x")
    with pytest.raises(ScopeMissing):
        require_service(ALICE, "edge@*", action="x")
    assert not matches_service("edge@", "edge@*")
    assert not matches_service("edges@a", "edge@*")
