"""Services prove themselves to the issuer and get tokens for themselves."""

import stat

import pytest

from twinfra.access.issuer.settings import IssuerServiceSettings
from twinfra.access.issuer.signing import SigningKeys
from twinfra.access.issuer.wiring import KEYS_FILE, signing_keys
from twinfra.access.jose import parse_jwt

pytestmark = pytest.mark.asyncio(loop_scope="module")


def own_form(**more):
    return {"grant_type": "client_credentials", **more}


def claims(token):
    return parse_jwt(token).claims


def keys_of(context):
    return signing_keys(context.home, context.settings(IssuerServiceSettings), context.clock)


async def test_discovery_says_what_the_issuer_can_do(federation):
    document = (await federation.get("/.well-known/openid-configuration")).json()

    assert document["issuer"] == federation.url
    assert "S256" in document["code_challenge_methods_supported"]
    for name, value in document.items():
        if name.endswith("_endpoint") or name == "jwks_uri":
            assert value.startswith(federation.url + "/")


@pytest.mark.story("services and people as the design says")
async def test_service_is_known_by_its_neighbour_when_it_proves_itself(federation):
    tokens = federation.tokens("datasets")
    token = await tokens.service(federation.context.url("edge@cloud-a"))
    await tokens.close()

    principal = await federation.principal("edge@cloud-a", token)

    assert principal.is_service
    assert principal.service_name == "datasets"
    assert principal.groups == frozenset()


async def test_token_is_of_the_profile_that_neighbours_check(federation):
    form = own_form(resource=federation.context.url("datasets"))
    answer = await federation.token(form, "monitoring")
    got = parse_jwt(answer.json()["access_token"])

    assert answer.headers["Cache-Control"] == "no-store"
    assert got.header["typ"] == "at+jwt"
    assert got.claims["wlcg.ver"] == "1.0"
    assert got.claims["aud"] == federation.context.url("datasets")
    assert got.claims["exp"] - got.claims["iat"] == answer.json()["expires_in"] == 3600
    assert got.claims["client_id"] == "monitoring"


async def test_audience_may_be_a_service_name_when_asked_for(federation):
    form = own_form(audience="datasets")
    got = claims((await federation.token(form, "monitoring")).json()["access_token"])

    assert got["aud"] == federation.context.url("datasets")


@pytest.mark.parametrize(
    "client", ["unknown", "../people/alice.code", "", ".", "DATASETS", "datasets/", "a@b@c"]
)
async def test_client_is_refused_when_it_is_unknown(federation, client):
    answer = await federation.token(own_form(), client, secret=federation.person("alice"))

    assert (answer.status, answer.json()["error"]) == (401, "invalid_client")
    assert answer.headers["WWW-Authenticate"].startswith("Basic")


async def test_client_is_refused_when_its_secret_is_wrong_or_sent_twice(federation):
    federation.secret("datasets")
    wrong = await federation.token(own_form(), "datasets", secret="wrong")
    none = await federation.token(own_form(client_id="datasets"))
    both = await federation.token(own_form(client_secret=federation.secret("datasets")), "datasets")
    other = await federation.token(own_form(client_id="monitoring"), "datasets")

    assert [answer.status for answer in (wrong, none, both, other)] == [401] * 4


async def test_secret_may_come_in_the_form(federation):
    form = own_form(client_id="datasets", client_secret=federation.secret("datasets"))

    assert (await federation.token(form)).status == 200


async def test_public_client_gets_no_token_of_its_own(federation):
    answer = await federation.token(own_form(client_id="twinfra-cli"))

    assert (answer.status, answer.json()["error"]) == (400, "unauthorized_client")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"resource": "https://evil.test"}, "invalid_target"),
        ({"audience": "nobody"}, "invalid_target"),
        ({"scope": "storage.read:/"}, "invalid_scope"),
        ({"scope": "twinfra.service compute.create"}, "invalid_scope"),
        ({"scope": " ".join(f"s{n}" for n in range(100))}, "invalid_scope"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "invalid_request"),
    ],
)
async def test_request_is_refused_when_policy_does_not_allow_it(federation, form, error):
    answer = await federation.token(own_form(**form), "monitoring")

    assert (answer.status, answer.json()["error"]) == (400, error)


async def test_service_gets_capabilities_when_policy_names_them(federation):
    form = own_form(scope="twinfra.service storage.modify:/a", audience="edge@cloud-a")
    answer = await federation.token(form, "datasets")

    assert answer.json()["scope"] == "twinfra.service storage.modify:/a"


async def test_parameter_is_refused_when_it_is_sent_twice(federation):
    body = "grant_type=client_credentials&scope=twinfra.service&scope=storage.read:/"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await federation.post("/token", body.encode(), "datasets", headers=headers)

    assert (answer.status, answer.json()["error"]) == (400, "invalid_request")


@pytest.mark.story("Secrets only by file")
async def test_keys_lie_in_a_file_that_only_the_owner_reads(federation):
    path = federation.context.home.secrets / KEYS_FILE

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    published = (await federation.get("/jwks")).json()["keys"]
    assert all(set(key) == {"kty", "kid", "alg", "use", "crv", "x", "y"} for key in published)


async def test_old_tokens_stay_good_when_another_process_rotates_the_keys(federation, clock):
    form = own_form(audience="datasets")
    old = (await federation.token(form, "monitoring")).json()["access_token"]
    check = (await federation.principal("datasets", old)).token

    keys = keys_of(federation.context)
    kid = keys.rotate(clock.now())
    new = (await federation.token(form, "monitoring")).json()["access_token"]

    assert parse_jwt(new).header["kid"] == kid != parse_jwt(old).header["kid"]
    assert (await federation.principal("datasets", new)).is_service
    assert (await federation.principal("datasets", check)).is_service


async def test_old_key_is_withdrawn_when_all_that_it_signed_has_ended(federation, clock):
    async def published():
        return {key["kid"] for key in (await federation.get("/jwks")).json()["keys"]}

    keys = keys_of(federation.context)
    first = await published()
    kid = keys.rotate(clock.now())
    await clock.advance(5 * 3600)
    keys.rotate(clock.now())
    assert first < await published()

    await clock.advance(2 * 3600)
    keys.rotate(clock.now())
    assert first.isdisjoint(await published())
    assert kid in await published()


async def test_metrics_want_a_token_for_the_issuer(federation):
    assert (await federation.get("/metrics")).status == 401
    token = (await federation.token(own_form(audience="issuer"), "monitoring")).json()
    assert (await federation.get("/metrics", token=token["access_token"])).status == 200


async def test_keys_are_rsa_when_settings_say_nothing(tmp_path, clock):
    path = tmp_path / "keys.json"
    keys = SigningKeys(path, IssuerServiceSettings().algorithm, clock.now())
    token = keys.sign({"sub": "a"}, typ="at+jwt")

    again = SigningKeys(path, IssuerServiceSettings().algorithm, clock.now())

    assert keys.jwks() == again.jwks()
    assert set(keys.jwks()["keys"][0]) == {"kty", "kid", "alg", "use", "n", "e"}
    assert parse_jwt(token).header == {
        "alg": "RS256",
        "typ": "at+jwt",
        "kid": keys.jwks()["keys"][0]["kid"],
    }
