"""The JWT suite: what must not open an API, each with its reason (ASVS 5.0, 9.1 and 9.2)."""

import json
import time
from datetime import UTC, datetime

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from twinfra.access.authenticator import Authenticator
from twinfra.access.errors import TokenRefused
from twinfra.access.jose import usable_keys
from twinfra.access.model import ANY_AUDIENCE
from twinfra.access.settings import AccessSettings
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.issuer import AUDIENCE, TestIssuer, encode_part, sign


class KeysOf:
    """The published keys of a test issuer, without a socket."""

    def __init__(self, issuer):
        self.issuer, self.asked = issuer, []

    async def find(self, kid):
        self.asked.append(kid)
        published = {"keys": [key.as_dict(private=False) for key in self.issuer.keys]}
        key = usable_keys(published).get(kid)
        if key is None:
            raise TokenRefused("key-unknown")
        return key


@pytest.fixture(scope="module")
def clock():
    return VirtualClock(datetime(2026, 6, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def issuer(clock):
    made = TestIssuer(algorithm="RS256", clock=clock)
    yield made
    made.stop()


@pytest.fixture(scope="module")
def elliptic(clock):
    made = TestIssuer(algorithm="ES256", clock=clock)
    yield made
    made.stop()


@pytest.fixture
def check(issuer, elliptic, clock):
    authenticator = Authenticator(
        [issuer.trust(), elliptic.trust()],
        AUDIENCE,
        clock=clock,
        keys={issuer.url: KeysOf(issuer), elliptic.url: KeysOf(elliptic)},
    )
    return authenticator.authenticate


async def reason(check, token):
    with pytest.raises(TokenRefused) as refused:
        await check(token)
    return refused.value.reason


def public_pem(issuer):
    return issuer.key.as_pem(private=False)


def with_header(issuer, key=None, **header):
    base = {"alg": "RS256", "typ": "at+jwt", "kid": issuer.key.kid, **header}
    return sign(base, issuer.claims(), key or issuer.key)


def unsigned(issuer, algorithm):
    return (
        f"{encode_part({'alg': algorithm, 'kid': issuer.key.kid})}.{encode_part(issuer.claims())}."
    )


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", "NONE", "", None, 7, ["RS256"]])
async def test_token_is_refused_when_it_claims_no_algorithm(check, issuer, algorithm):
    assert await reason(check, unsigned(issuer, algorithm)) == "algorithm"


@pytest.mark.parametrize("shape", ["pem", "jwk", "empty", "weak"])
async def test_token_is_refused_when_the_public_key_is_used_as_a_secret(check, issuer, shape):
    secrets = {
        "pem": public_pem(issuer),
        "jwk": json.dumps(issuer.key.as_dict(private=False)).encode(),
        "empty": b"\0" * 32,
        "weak": b"secret-secret-secret-secret-secret",
    }
    import base64
    import hashlib
    import hmac

    head = f"{encode_part({'alg': 'HS256', 'typ': 'at+jwt', 'kid': issuer.key.kid})}"
    body = f"{head}.{encode_part(issuer.claims())}"
    mac = hmac.new(secrets[shape], body.encode(), hashlib.sha256).digest()
    token = f"{body}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    assert await reason(check, token) == "algorithm"


@pytest.mark.parametrize("algorithm", ["RS512", "PS512", "RS384"])
async def test_token_is_refused_when_its_algorithm_is_not_allowed(check, issuer, algorithm):
    assert await reason(check, with_header(issuer, alg=algorithm)) == "algorithm"


async def test_token_is_refused_when_its_algorithm_is_of_another_key_family(check, issuer):
    other = ECKey.generate_key("P-256")

    assert await reason(check, with_header(issuer, key=other, alg="ES256")) == "signature"


async def test_token_is_refused_when_its_algorithm_is_not_the_one_of_the_key(check, issuer):
    assert await reason(check, with_header(issuer, alg="PS256")) == "signature"


@pytest.mark.parametrize("algorithm", ["RS256", "ES256"])
async def test_token_is_refused_when_its_signature_is_empty(check, issuer, elliptic, algorithm):
    good = (issuer if algorithm == "RS256" else elliptic).token()

    assert await reason(check, good.rsplit(".", 1)[0] + ".") == "signature"


async def test_token_is_refused_when_an_elliptic_signature_is_all_zero(check, elliptic):
    good = elliptic.token()
    zero = encode_part(b"\0" * 64)

    assert await reason(check, good.rsplit(".", 1)[0] + "." + zero) == "signature"


@pytest.mark.parametrize("member", ["jwk", "jku", "x5u", "x5c"])
async def test_embedded_keys_are_ignored_when_the_header_offers_them(check, issuer, member):
    attacker = RSAKey.generate_key(2048)
    offers = {
        "jwk": attacker.as_dict(private=False),
        "jku": "https://attacker.test/jwks",
        "x5u": "https://attacker.test/cert",
        "x5c": ["MIIB"],
    }

    forged = with_header(issuer, key=attacker, **{member: offers[member]})
    assert await reason(check, forged) == "signature"


KIDS = ["../../etc/passwd", "' OR 1=1 --", "https://attacker.test/key", "x" * 10_000, "", None, 5]


@pytest.mark.parametrize("kid", KIDS, ids=lambda kid: str(kid)[:20])
async def test_token_is_refused_when_its_key_name_is_hostile(check, issuer, kid):
    assert await reason(check, with_header(issuer, kid=kid)) in {"key-unknown", "malformed"}


@pytest.mark.parametrize("header", [{"crit": ["b64"]}, {"b64": False}, {"crit": []}])
async def test_token_is_refused_when_it_demands_an_extension(check, issuer, header):
    head = {"alg": "RS256", "kid": issuer.key.kid, **header}
    token = f"{encode_part(head)}.{encode_part(issuer.claims())}.{encode_part(b'x' * 256)}"

    assert await reason(check, token) == "malformed"


async def test_token_is_refused_when_a_json_member_is_repeated(check, issuer):
    text = json.dumps(issuer.claims())
    doubled = (text[:-1] + ', "sub": "bob"}').encode()

    assert await reason(check, issuer.sign(doubled)) == "malformed"


@pytest.mark.parametrize(
    "value", ["1780000000", 1e300, -5, True, None, float(10**12), [1], {}], ids=str
)
async def test_token_is_refused_when_its_end_is_no_moment(check, issuer, value):
    claims = {**issuer.claims(), "exp": value}

    assert await reason(check, issuer.sign(claims)) in {"claims", "expired"}


async def test_token_is_accepted_when_its_end_is_a_fraction(check, issuer, clock):
    claims = {**issuer.claims(), "exp": clock.now().timestamp() + 0.5}

    assert (await check(issuer.sign(claims))).sub == "alice"


@pytest.mark.parametrize("name", ["exp", "aud", "sub", "iat", "jti"])
async def test_token_is_refused_when_a_needed_claim_is_missing(check, issuer, name):
    assert await reason(check, issuer.token(**{name: None})) == "claims"


@pytest.mark.parametrize("sub", ["", "a b", "é", "x" * 256, 7, "a\n"])
async def test_token_is_refused_when_its_subject_is_of_the_wrong_form(check, issuer, sub):
    assert await reason(check, issuer.token(sub)) == "claims"


async def test_token_is_refused_with_the_reason_when_it_has_just_expired(check, issuer):
    assert await reason(check, issuer.token(expires_in=0)) == "expired"
    assert (await check(issuer.token(expires_in=1))).sub == "alice"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_token_is_refused_when_it_begins_beyond_the_leeway(check, issuer, clock, claim):
    now = clock.now().timestamp()

    assert (await check(issuer.token(**{claim: now + 59}))).sub == "alice"
    assert await reason(check, issuer.token(**{claim: now + 61})) == "not-yet-valid"


AUDIENCES = [
    "https://service.test/",
    "https://service.tes",
    "https://SERVICE.test",
    "https://service.test.evil.test",
    "https://service.test:443",
    ["https://other.test", "https://third.test"],
    ANY_AUDIENCE,
]


@pytest.mark.story("A wrong token, an expired one, one for another audience: 401 with the reason")
@pytest.mark.parametrize("aud", AUDIENCES, ids=str)
async def test_token_is_refused_with_the_reason_when_it_is_for_another_audience(check, issuer, aud):
    assert await reason(check, issuer.token(aud=aud)) == "audience"


@pytest.mark.parametrize("aud", [[], [5], {}, 5, [AUDIENCE, None]], ids=str)
async def test_token_is_refused_when_its_audience_is_of_the_wrong_form(check, issuer, aud):
    assert await reason(check, issuer.token(aud=aud)) == "claims"


async def test_token_is_accepted_when_we_are_one_of_its_audiences(check, issuer):
    principal = await check(issuer.token(aud=["https://other.test", AUDIENCE]))

    assert principal.sub == "alice"


def lookalikes(url):
    port = url.rpartition(":")[2]
    return [
        url + "/",
        url.upper(),
        url.replace("http://", "http://good@"),
        f"{url}@evil.test",
        f"http://127.0.0.1:{int(port) + 1}",
        f"{url}/realms/a/../b",
        f"{url}#x",
        "http://127.0.0.1",
        "",
        None,
        7,
    ]


async def test_token_is_refused_when_its_issuer_only_looks_like_a_trusted_one(check, issuer):
    for lookalike in lookalikes(issuer.url):
        claims = {**issuer.claims(), "iss": lookalike}
        assert await reason(check, issuer.sign(claims)) == "issuer-unknown", lookalike


async def test_token_is_refused_when_another_trusted_issuer_signed_it(check, issuer, elliptic):
    claims = {**issuer.claims(), "iss": elliptic.url}

    assert await reason(check, issuer.sign(claims)) == "key-unknown"


@pytest.mark.parametrize("typ", ["JWT", "logout+jwt", "", None, "id_token"])
async def test_token_is_refused_when_it_is_not_an_access_token(check, issuer, typ):
    assert await reason(check, issuer.sign(issuer.claims(), typ=typ)) == "type"


@pytest.mark.parametrize("extra", [{"nonce": "n"}, {"at_hash": "h"}])
async def test_id_token_is_refused_when_an_outside_issuer_types_both_alike(issuer, clock, extra):
    check = outside(issuer, clock).authenticate

    assert (await check(issuer.sign(issuer.claims(), typ="JWT"))).sub == "alice"
    assert await reason(check, issuer.sign(issuer.claims(**extra), typ="JWT")) == "type"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a.b",
        "a.b.c",
        "a.b.c.d.e",
        "..",
        "\x00.\x00.\x00",
        "é.é.é",
        f"{encode_part(b'[]')}.{encode_part({})}.",
        f"{encode_part({'alg': 'RS256'})}.{encode_part(b'[' * 5000)}.",
        "x" * 1_000_000,
    ],
    ids=lambda text: text[:12],
)
async def test_token_is_refused_when_it_is_not_well_formed(check, text):
    assert await reason(check, text) == "malformed"


async def test_token_is_refused_when_its_base64_is_not_canonical(check, elliptic):
    good = elliptic.token()
    head, body, tail = good.split(".")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    twin = alphabet[alphabet.index(tail[-1]) ^ 1]

    for spelled in (
        tail[:-1] + twin,
        tail + "=",
        tail + "\n",
        " " + tail,
        tail[:4] + "+" + tail[5:],
    ):
        token = f"{head}.{body}.{spelled}"
        assert await reason(check, token) in {"malformed", "signature"}


async def test_encrypted_and_nested_tokens_are_refused_when_sent_as_bearer(check, issuer):
    from joserfc import jwe

    header = {"alg": "dir", "enc": "A256GCM", "cty": "JWT"}
    key = OctKey.import_key(b"k" * 32)
    encrypted = jwe.encrypt_compact(header, issuer.token().encode(), key)

    assert await reason(check, encrypted) == "malformed"
    assert await reason(check, issuer.sign(issuer.token().encode(), cty="JWT")) == "malformed"


@pytest.mark.parametrize("version", ["2.0", "1", "", "1.0.0", None, 1.0])
async def test_token_is_refused_when_its_profile_version_is_unknown(check, issuer, version):
    claims = {**issuer.claims(), "wlcg.ver": version}

    assert await reason(check, issuer.sign(claims)) == "version"


async def test_token_is_accepted_when_its_profile_version_is_a_newer_minor(check, issuer):
    assert (await check(issuer.token(**{"wlcg.ver": "1.9"}))).sub == "alice"


@pytest.mark.parametrize(
    "scope",
    [
        "storage.read",
        "storage.read:",
        "storage.read:foo",
        "storage.read:/a/../b",
        "storage.read:/a/%2e%2e/b",
        "storage.read:/a//b",
        "storage.read:/a%2Fb",
        "storage.modify:/a/./b",
        "storage.create:/a%zz",
        "storage.stage:/a%00",
        "storage.read:/%c3%28",
    ],
)
async def test_token_is_refused_when_a_storage_scope_is_of_the_wrong_form(check, issuer, scope):
    assert await reason(check, issuer.token(scope=scope)) == "scope"


async def test_unknown_scopes_grant_nothing_when_they_come_along(check, issuer):
    principal = await check(issuer.token(scope="storage.fly:/ storage:/ openid"))

    assert principal.scopes == ("storage.fly:/", "storage:/", "openid")


async def test_refusal_holds_no_part_of_the_token(check, issuer):
    token = issuer.expired()

    with pytest.raises(TokenRefused) as refused:
        await check(token)

    said = f"{refused.value.detail} {refused.value.context} {refused.value.headers}"
    assert not any(part in said for part in token.split("."))


def outside(issuer, clock, **trust):
    from dataclasses import replace

    trusted = replace(issuer.trust(**trust), inner=False)
    keys = {issuer.url: KeysOf(issuer)}
    return Authenticator([trusted], AUDIENCE, clock=clock, keys=keys)


async def test_outside_issuer_cannot_name_services_or_actors_when_it_tries(issuer, clock):
    check = outside(issuer, clock).authenticate

    service = await check(issuer.service_token("datasets"))
    acting = await check(issuer.token(act={"sub": "service:x"}, orig_iss="https://other.test"))

    assert not service.is_service
    assert acting.actor is None
    assert acting.issuer == issuer.url


async def test_any_audience_is_accepted_only_when_an_issuer_is_trusted_so(issuer, clock):
    token = issuer.token(aud=ANY_AUDIENCE)

    assert await reason(outside(issuer, clock).authenticate, token) == "audience"
    generous = outside(issuer, clock, accept_any_audience=True)
    assert (await generous.authenticate(token)).sub == "alice"


async def test_remembered_token_is_refused_when_its_end_passes(issuer):
    clock = VirtualClock(datetime(2026, 6, 1, tzinfo=UTC))
    settings = AccessSettings(remembered_s=3600)
    keys = KeysOf(issuer)
    check = Authenticator(
        [issuer.trust()], AUDIENCE, clock=clock, keys={issuer.url: keys}, settings=settings
    ).authenticate
    token = issuer.token(expires_in=100)

    await check(token)
    await check(token)
    await clock.advance(101)

    assert keys.asked == [issuer.key.kid]
    assert await reason(check, token) == "expired"


async def test_checking_is_fast_enough_when_nothing_is_remembered(check, elliptic):
    tokens = [elliptic.token(str(number)) for number in range(200)]
    started = time.perf_counter()
    for token in tokens:
        await check(token)

    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("padded_bytes", [128, 256])
def test_key_is_left_out_when_it_is_too_weak(padded_bytes):
    from cryptography.hazmat.primitives.asymmetric import rsa

    numbers = rsa.generate_private_key(65537, 1024).public_key().public_numbers()
    modulus = numbers.n.to_bytes(padded_bytes, "big")
    weak = {"kty": "RSA", "kid": "a", "n": encode_part(modulus), "e": "AQAB"}

    assert usable_keys({"keys": [weak]}) == {}


def test_key_is_left_out_when_it_is_not_a_public_signature_key(issuer):
    good = issuer.key.as_dict(private=False)
    others = [
        {**good, "kid": "enc", "use": "enc"},
        {**good, "kid": None},
        {"kty": "oct", "kid": "oct", "k": encode_part(b"x" * 32)},
        {"kty": "RSA", "kid": "broken", "n": "%%", "e": "AQAB"},
        "text",
        {**good, "kid": "ops", "key_ops": ["encrypt"]},
    ]

    assert list(usable_keys({"keys": [good, *others]})) == [good["kid"]]
    assert usable_keys({"keys": [good, good]}) == {}
    assert usable_keys({"keys": 5}) == usable_keys([]) == {}
