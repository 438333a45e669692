"""The client of the issuer's token endpoint, over a socket."""

import asyncio

import pytest

from twinfra.access.errors import TokenRefused
from twinfra.access.jose import parse_jwt
from twinfra.access.model import Delegation
from twinfra.access.tokens import TokenClient
from twinfra.core.errors import Unavailable
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.issuer import TestIssuer

AUDIENCE = "https://datasets.test"


@pytest.fixture
def issuer():
    with TestIssuer() as running:
        yield running


@pytest.fixture
def clock():
    return VirtualClock()


@pytest.fixture
async def client(issuer, clock):
    made = TokenClient(issuer.url, "transfers", secret="s", sealing_key=b"k" * 32, clock=clock)
    yield made
    await made.close()


def claims(token):
    return parse_jwt(token).claims


def asked(issuer):
    return issuer.requests.count("/token")


async def test_service_gets_a_token_for_its_neighbour(client):
    got = claims(await client.service(AUDIENCE))

    assert (got["sub"], got["aud"], got["scope"]) == (
        "service:transfers",
        AUDIENCE,
        "twinfra.service",
    )


async def test_issuer_is_asked_once_when_many_want_the_same_token(client, issuer):
    tokens = await asyncio.gather(*(client.service(AUDIENCE) for _ in range(10)))

    assert len(set(tokens)) == 1
    assert asked(issuer) == 1


async def test_others_still_get_the_token_when_the_first_waiter_is_cancelled(client, issuer):
    first = asyncio.create_task(client.service(AUDIENCE))
    await asyncio.sleep(0)
    second = asyncio.create_task(client.service(AUDIENCE))
    await asyncio.sleep(0)
    first.cancel()

    assert await second
    assert asked(issuer) == 1


async def test_token_is_renewed_when_two_thirds_of_its_life_are_over(client, issuer, clock):
    first = await client.service(AUDIENCE)
    await clock.advance(2300)
    assert await client.service(AUDIENCE) == first
    await clock.advance(200)

    assert await client.service(AUDIENCE) != first
    assert asked(issuer) == 2


async def test_exchanged_token_keeps_the_person_and_names_the_actor(client, issuer):
    subject = issuer.token("alice", aud="https://transfers.test")

    got = claims(await client.exchange(subject, AUDIENCE, "storage.read:/x"))

    assert (got["sub"], got["act"]) == ("alice", {"sub": "service:transfers"})
    assert (got["aud"], got["scope"]) == (AUDIENCE, "storage.read:/x")


async def test_delegation_survives_when_stored_and_read_back(client, issuer):
    delegation = await client.delegate(issuer.token("alice", ("climate",)))
    stored = Delegation.from_dict(delegation.to_dict())

    got = claims(await client.on_behalf(stored, AUDIENCE, "storage.read:/"))

    assert stored == delegation
    assert (stored.sub, stored.groups, stored.issuer) == ("alice", ("climate",), issuer.url)
    assert (got["sub"], got["aud"]) == ("alice", AUDIENCE)


async def test_delegation_is_of_no_use_when_another_service_holds_it(client, issuer):
    delegation = await client.delegate(issuer.token())
    other = TokenClient(issuer.url, "datasets", secret="s", sealing_key=b"o" * 32)

    with pytest.raises(TokenRefused):
        await other.on_behalf(delegation, AUDIENCE)
    await other.close()


async def test_delegation_shows_no_secret_when_printed_or_stored(client, issuer):
    subject = issuer.token()
    delegation = await client.delegate(subject)

    assert subject not in str(delegation.to_dict())
    assert delegation.sealed not in repr(delegation)


async def test_error_is_retryable_when_the_issuer_is_away(issuer):
    issuer.stop()
    client = TokenClient(issuer.url, "transfers", secret="s", sealing_key=b"k" * 32)

    with pytest.raises(Unavailable):
        await client.service(AUDIENCE)
    await client.close()
