"""Services act for people: exchange, delegation, outside issuers; rights only shrink."""

import pytest
import pytest_asyncio

from twinfra.access.errors import TokenRefused
from twinfra.access.jose import parse_jwt
from twinfra.core.errors import InsufficientScope

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS = "urn:ietf:params:oauth:token-type:access_token"


def claims(token):
    return parse_jwt(token).claims


def form(subject, **more):
    return {
        "grant_type": EXCHANGE,
        "subject_token": subject,
        "subject_token_type": ACCESS,
        **more,
    }


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def deployments(federation):
    made = federation.tokens("deployments")
    yield made
    await made.close()


@pytest_asyncio.fixture(loop_scope="module")
async def datasets(federation):
    made = federation.tokens("datasets")
    yield made
    await made.close()


@pytest.mark.story("services and people as the design says")
async def test_exchanged_token_is_the_person_acted_for_by_the_service(federation, deployments):
    subject = await federation.person_token("deployments")
    edge = federation.context.url("edge@cloud-a")

    token = await deployments.exchange(subject, edge, "storage.read:/datasets")
    principal = await federation.principal("edge@cloud-a", token)

    assert (principal.sub, principal.actor) == ("alice", "service:deployments")
    assert principal.scopes == ("storage.read:/datasets",)
    assert principal.groups == {"climate"}
    assert not principal.is_service


async def test_chain_of_actors_is_kept_when_services_call_on(federation, deployments, datasets):
    subject = await federation.person_token("deployments")
    second = await deployments.exchange(
        subject, federation.context.url("datasets"), "storage.read:/a"
    )
    edge = federation.context.url("edge@cloud-a")

    third = claims(await datasets.exchange(second, edge, "storage.read:/a/b"))

    assert third["act"] == {"sub": "service:datasets", "act": {"sub": "service:deployments"}}
    assert third["sub"] == "alice"


@pytest.mark.parametrize(
    ("held", "wanted"),
    [
        ("storage.read:/a", "storage.read:/"),
        ("storage.read:/a", "storage.read:/ab"),
        ("storage.read:/a", "storage.modify:/a"),
        ("storage.read:/a", "compute.create"),
        ("storage.read:/", "twinfra.service"),
        ("storage.read:/", "openid"),
    ],
)
async def test_exchange_is_refused_when_more_is_wanted_than_held(
    federation, deployments, held, wanted
):
    subject = await federation.person_token("deployments", scope=held)

    with pytest.raises(InsufficientScope):
        await deployments.exchange(subject, federation.context.url("edge@cloud-a"), wanted)


async def test_exchange_is_refused_when_no_rule_allows_the_neighbour(federation, deployments):
    subject = await federation.person_token("deployments")

    with pytest.raises(InsufficientScope):
        await deployments.exchange(subject, federation.context.url("monitoring"))


async def test_exchange_is_refused_when_the_service_has_no_rule(federation):
    subject = await federation.person_token("monitoring")
    answer = await federation.token(form(subject, audience="datasets"), "monitoring")

    assert answer.json()["error"] == "unauthorized_client"


async def test_exchange_is_refused_when_the_token_was_meant_for_another(federation, deployments):
    subject = await federation.person_token("datasets")

    with pytest.raises(TokenRefused):
        await deployments.exchange(subject, federation.context.url("edge@cloud-a"))


async def test_exchange_is_refused_when_the_subject_is_a_service(federation, deployments):
    own = await deployments.service(federation.context.url("deployments"))

    with pytest.raises(TokenRefused):
        await deployments.exchange(own, federation.context.url("edge@cloud-a"))


async def test_exchanged_token_ends_no_later_than_the_subject_token(federation, clock):
    subject = await federation.person_token("deployments")
    await clock.advance(3000)
    answer = await federation.token(form(subject, audience="datasets"), "deployments")

    assert answer.json()["expires_in"] == 600
    assert answer.json()["issued_token_type"] == ACCESS
    await clock.advance(601)
    late = await federation.token(form(subject, audience="datasets"), "deployments")
    assert late.json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "more",
    [
        {"actor_token": "x", "actor_token_type": ACCESS},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:id_token"},
        {"subject_token": ""},
    ],
)
async def test_exchange_is_refused_when_it_asks_for_what_is_not_offered(federation, more):
    subject = await federation.person_token("deployments")
    answer = await federation.token({**form(subject), **more}, "deployments")

    assert (answer.status, answer.json()["error"]) == (400, "invalid_request")


async def test_command_line_cannot_exchange(federation):
    subject = await federation.person_token("deployments")
    answer = await federation.token(form(subject, client_id="twinfra-cli"))

    assert answer.json()["error"] == "unauthorized_client"


async def test_delegation_outlives_the_token_that_it_came_from(federation, deployments, clock):
    subject = await federation.person_token("deployments")
    delegation = await deployments.delegate(subject)
    await clock.advance(10 * 86400)
    edge = federation.context.url("edge@cloud-a")

    token = await deployments.on_behalf(delegation, edge, "storage.modify:/out")
    principal = await federation.principal("edge@cloud-a", token)

    assert (principal.sub, principal.actor) == ("alice", "service:deployments")
    assert delegation.person == {"iss": federation.url, "sub": "alice"}


async def test_delegation_is_as_wide_as_the_subject_token_was(federation, deployments):
    subject = await federation.person_token("deployments", scope="storage.read:/a")
    delegation = await deployments.delegate(subject)
    edge = federation.context.url("edge@cloud-a")

    assert await deployments.on_behalf(delegation, edge, "storage.read:/a/b")
    for wider in ("storage.read:/", "storage.modify:/a"):
        with pytest.raises(InsufficientScope):
            await deployments.on_behalf(delegation, edge, wider)


async def test_delegation_ends_when_it_is_revoked(federation, deployments):
    delegation = await deployments.delegate(await federation.person_token("deployments"))
    edge = federation.context.url("edge@cloud-a")
    await deployments.on_behalf(delegation, edge)

    await deployments.revoke(delegation)
    await deployments.revoke(delegation)

    with pytest.raises(TokenRefused):
        await deployments.on_behalf(delegation, edge)


async def test_delegation_is_refused_when_the_rule_does_not_allow_it(federation):
    tokens = federation.tokens("dashboard")
    subject = await federation.person_token("dashboard")

    with pytest.raises(InsufficientScope):
        await tokens.delegate(subject)
    await tokens.close()


async def test_revoked_token_is_inactive_and_cannot_be_exchanged(federation, deployments):
    subject = await federation.person_token("deployments")
    seen = await federation.post("/introspect", {"token": subject}, "deployments")
    assert (seen.json()["active"], seen.json()["sub"]) == (True, "alice")

    await federation.post("/revoke", {"token": subject, "client_id": "twinfra-cli"})

    seen = await federation.post("/introspect", {"token": subject}, "deployments")
    assert seen.json() == {"active": False}
    with pytest.raises(TokenRefused):
        await deployments.exchange(subject, federation.context.url("edge@cloud-a"))


async def test_token_stays_good_when_another_client_revokes_it(federation):
    subject = await federation.person_token("deployments")

    await federation.post("/revoke", {"token": subject}, "datasets")

    seen = await federation.post("/introspect", {"token": subject}, "deployments")
    assert seen.json()["active"]


@pytest.mark.parametrize("token", ["", "x", "a.b.c"])
async def test_introspection_says_inactive_when_the_token_is_nothing(federation, token):
    seen = await federation.post("/introspect", {"token": token or "-"}, "deployments")

    assert seen.json() == {"active": False}


async def test_introspection_is_for_services_only(federation):
    form = {"token": "x", "client_id": "twinfra-cli"}

    assert (await federation.post("/introspect", form)).status == 401
    assert (await federation.post("/introspect", {"token": "x"})).status == 401


async def test_person_is_told_who_they_are(federation):
    token = await federation.person_token("issuer")

    seen = await federation.get("/userinfo", token=token)

    assert seen.json() == {"sub": "alice", "name": "Alice", "groups": ["climate"]}


async def test_outside_person_gets_an_inner_token_that_names_their_issuer(federation, outside):
    subject = outside.token("alice", ("climate",), aud=federation.context.url("deployments"))
    tokens = federation.tokens("deployments")
    edge = federation.context.url("edge@cloud-a")

    token = await tokens.exchange(subject, edge, "storage.read:/a")
    delegation = await tokens.delegate(subject)
    later = await tokens.on_behalf(delegation, edge, "storage.read:/a")
    await tokens.close()

    for given in (token, later):
        principal = await federation.principal("edge@cloud-a", given)
        assert (principal.issuer, principal.sub) == (outside.url, "alice")
        assert principal.token_issuer == federation.url
        assert principal.groups == {"climate"}
    assert delegation.person == {"iss": outside.url, "sub": "alice"}


@pytest.mark.parametrize(
    "claims",
    [
        {"sub": "service:datasets", "scope": "twinfra.service"},
        {"aud": "https://another.test"},
        {"expires_in": -1},
    ],
)
async def test_outside_token_is_refused_when_it_does_not_prove_a_person(
    federation, outside, claims
):
    facts = {"aud": federation.context.url("deployments"), **claims}
    answer = await federation.token(
        form(outside.token(**facts), audience="datasets"), "deployments"
    )

    assert (answer.status, answer.json()["error"]) == (400, "invalid_grant")


async def test_outside_person_without_group_gets_no_capability(federation, outside):
    subject = outside.token("eve", (), aud=federation.context.url("deployments"))
    asked = form(subject, audience="edge@cloud-a", scope="storage.read:/")

    answer = await federation.token(asked, "deployments")

    assert answer.json()["error"] == "invalid_scope"
