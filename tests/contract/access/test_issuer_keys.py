"""Keys of an issuer over a socket: discovery, rotation, an issuer that is away or hostile."""

import asyncio
import json
from datetime import UTC, datetime

import pytest

from twinfra.access.errors import TokenRefused
from twinfra.access.issuer_keys import BURST
from twinfra.core.errors import Unavailable
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.issuer import TestIssuer


@pytest.fixture
def clock():
    return VirtualClock(datetime(2026, 6, 1, tzinfo=UTC))


@pytest.fixture
def issuer(clock):
    with TestIssuer(clock=clock) as running:
        yield running


def jwks_requests(issuer):
    return issuer.requests.count("/jwks")


def answer(issuer, path, status=200, body=b"{}", **headers):
    issuer.answers[path] = lambda: (status, headers, body)


async def test_keys_are_fetched_once_when_many_tokens_come_at_the_same_time(issuer):
    check = issuer.authenticator().authenticate
    tokens = [issuer.token(str(number)) for number in range(20)]

    await asyncio.gather(*map(check, tokens))

    assert jwks_requests(issuer) == 1


async def test_new_key_is_accepted_at_once_when_the_issuer_rotates(issuer):
    check = issuer.authenticator().authenticate
    old = issuer.token()
    await check(old)

    issuer.rotate()

    assert (await check(issuer.token())).sub == "alice"
    assert (await check(old)).sub == "alice"


async def test_issuer_is_asked_seldom_when_unknown_keys_come_in_numbers(issuer, clock):
    check = issuer.authenticator(keys_min_interval_s=60).authenticate
    await check(issuer.token())

    for number in range(30):
        with pytest.raises(TokenRefused):
            await check(issuer.sign(issuer.claims(), kid=f"none-{number}"))
    asked = jwks_requests(issuer)
    await clock.advance(60 * BURST)
    issuer.rotate()

    assert asked <= BURST
    assert (await check(issuer.token())).sub == "alice"


async def test_withdrawn_key_is_refused_when_the_kept_keys_grow_old(issuer, clock):
    check = issuer.authenticator(keys_refresh_s=600, remembered_s=0).authenticate
    old = issuer.token()
    await check(old)

    issuer.rotate(withdraw=True)
    await clock.advance(601)

    with pytest.raises(TokenRefused) as refused:
        await check(old)
    assert refused.value.reason == "key-unknown"


async def test_known_keys_still_work_when_the_issuer_is_away(issuer, clock):
    check = issuer.authenticator(keys_refresh_s=600, keys_expiry_s=86400).authenticate
    await check(issuer.token())

    issuer.stop()
    await clock.advance(3600)

    assert (await check(issuer.token("bob"))).sub == "bob"


async def test_kept_keys_are_not_used_when_the_issuer_is_away_too_long(issuer, clock):
    check = issuer.authenticator(keys_refresh_s=600, keys_expiry_s=86400).authenticate
    await check(issuer.token())

    issuer.stop()
    await clock.advance(86401)

    with pytest.raises(Unavailable):
        await check(issuer.token())


async def test_answer_is_try_again_when_the_issuer_was_never_reached(issuer):
    issuer.stop()

    with pytest.raises(Unavailable):
        await issuer.authenticator().authenticate(issuer.token())


async def test_nobody_is_asked_when_the_issuer_is_not_trusted(issuer):
    with TestIssuer() as stranger:
        check = issuer.authenticator().authenticate
        with pytest.raises(TokenRefused) as refused:
            await check(stranger.token())

        assert refused.value.reason == "issuer-unknown"
        assert stranger.requests == []


async def test_nobody_is_asked_when_a_token_offers_the_address_of_its_key(issuer):
    with TestIssuer() as attacker:
        offered = attacker.sign(
            {**attacker.claims(), "iss": issuer.url},
            kid="theirs",
            jku=f"{attacker.url}/jwks",
            x5u=f"{attacker.url}/cert",
        )
        with pytest.raises(TokenRefused):
            await issuer.authenticator().authenticate(offered)

        assert attacker.requests == []


DISCOVERY = "/.well-known/openid-configuration"


async def test_keys_are_not_taken_when_discovery_names_another_issuer(issuer):
    body = {"issuer": "https://other.test", "jwks_uri": f"{issuer.url}/jwks"}
    answer(issuer, DISCOVERY, body=json.dumps(body).encode())

    with pytest.raises(Unavailable):
        await issuer.authenticator().authenticate(issuer.token())
    assert jwks_requests(issuer) == 0


async def test_redirects_are_not_followed_when_keys_are_fetched(issuer):
    with TestIssuer() as other:
        answer(issuer, "/jwks", status=302, Location=f"{other.url}/jwks")

        with pytest.raises(Unavailable):
            await issuer.authenticator().authenticate(issuer.token())
        assert other.requests == []


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b'{"keys": []}', b'{"keys": 5}', b"[" * 100_000, b" " * 5_000_000],
    ids=["html", "list", "none", "number", "deep", "long"],
)
async def test_keys_are_not_taken_when_the_document_is_hostile(issuer, body):
    answer(issuer, "/jwks", body=body)

    with pytest.raises(Unavailable):
        await issuer.authenticator().authenticate(issuer.token())


async def test_other_discovery_path_is_tried_when_the_first_is_absent(issuer):
    answer(issuer, DISCOVERY, status=404)
    body = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/jwks"}
    path = "/.well-known/oauth-authorization-server"
    answer(issuer, path, body=json.dumps(body).encode())

    assert (await issuer.authenticator().authenticate(issuer.token())).sub == "alice"


async def test_federation_certificate_is_demanded_when_the_issuer_speaks_https(home):
    with TestIssuer.for_home(home) as issuer:
        principal = await issuer.authenticator().authenticate(issuer.token())
        assert principal.issuer == issuer.url == f"https://localhost:{home.port('issuer')}"

        from twinfra.access.authenticator import Authenticator

        stranger = Authenticator([issuer.trust()], "https://service.test")
        with pytest.raises(Unavailable):
            await stranger.authenticate(issuer.token())
