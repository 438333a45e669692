"""People sign in: device flow, code flow with PKCE, one-time links, refresh tokens."""

import base64
import hashlib
import re
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from twinfra.access.jose import parse_jwt
from twinfra.access.login import IssuerClient
from twinfra.access.person_tokens import FileLogin, PersonTokens, sign_in_here
from twinfra.core.errors import UpstreamTimeout

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
VERIFIER = "v" * 50
LOOPBACK = "http://127.0.0.1:4711/callback"
FOREIGN = (
    "https://evil.test/",
    "http://127.0.0.1:80@evil.test/",
    "http://localhost.evil.test/",
    "javascript:alert(1)",
    "//evil.test/",
    "",
    "http://127.0.0.1:1/#fragment",
    "https://127.0.0.1:1/",
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


def challenge(verifier=VERIFIER):
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def claims(token):
    return parse_jwt(token).claims


async def start(federation, scope="openid offline_access"):
    form = {"client_id": "twinfra-cli", "scope": scope}
    return (await federation.post("/device_authorization", form)).json()


async def poll(federation, started):
    form = {"client_id": "twinfra-cli", "device_code": started["device_code"]}
    answer = await federation.token({"grant_type": DEVICE, **form})
    return answer.json().get("error") or answer.json()


async def approve(federation, started, person="alice", code=None):
    form = {
        "user_code": started["user_code"],
        "person": person,
        "code": code or federation.person(person),
    }
    return await federation.post("/device/approve", form)


async def test_device_gets_tokens_once_when_the_person_approves(federation, clock):
    started = await start(federation)
    assert await poll(federation, started) == "authorization_pending"
    assert await poll(federation, started) == "slow_down"
    await clock.advance(10)

    assert (await approve(federation, started)).status == 200
    answer = await poll(federation, started)
    await clock.advance(10)

    assert claims(answer["access_token"])["sub"] == "alice"
    assert claims(answer["access_token"])["wlcg.groups"] == ["/climate"]
    assert claims(answer["id_token"])["aud"] == "twinfra-cli"
    assert await poll(federation, started) == "invalid_grant"
    assert (await approve(federation, started)).status == 404


@pytest.mark.parametrize("person", ["alice", "bob", "mallory", ""])
async def test_device_stays_waiting_when_the_code_is_not_that_persons(federation, person):
    started = await start(federation)
    wrong = federation.person("bob") if person == "alice" else federation.person("alice")

    answer = await approve(federation, started, person, wrong)

    assert (answer.status, answer.json()["error"]) == (400, "access_denied")
    assert await poll(federation, started) == "authorization_pending"


async def test_device_is_told_when_nobody_came_in_time(federation, clock):
    started = await start(federation)
    await clock.advance(601)

    assert await poll(federation, started) == "expired_token"
    assert (await approve(federation, started)).status == 404


async def test_device_code_is_of_no_use_when_another_client_has_it(federation):
    started = await start(federation)
    await approve(federation, started)
    form = {"grant_type": DEVICE, "device_code": started["device_code"]}

    answer = await federation.token(form, "dashboard")

    assert answer.json()["error"] == "expired_token"


@pytest.mark.parametrize(("decision", "outcome"), [("allow", "alice"), ("deny", "access_denied")])
async def test_person_decides_on_the_page_when_signed_in(federation, browser, decision, outcome):
    started = await start(federation)
    page = await browser.open(started["verification_uri_complete"])
    assert "Who are you?" in page.text()
    page = await browser.submit(page, person="alice", code=federation.person("alice"))
    assert started["user_code"] in page.text()
    page = await browser.submit(page, user_code=started["user_code"], decision=decision)
    assert page.status == 200

    answer = await poll(federation, started)

    assert (answer if isinstance(answer, str) else claims(answer["access_token"])["sub"]) == outcome


async def test_page_refuses_when_the_form_is_not_its_own(federation, browser):
    started = await start(federation)
    page = await browser.open(started["verification_uri_complete"])
    page = await browser.submit(page, person="alice", code=federation.person("alice"))
    forged = await browser.submit(
        page, user_code=started["user_code"], decision="allow", word="guess"
    )

    assert forged.status == 403
    assert await poll(federation, started) == "authorization_pending"


async def test_sign_in_page_says_so_when_the_code_is_wrong(federation, browser):
    page = await browser.open("/device")
    page = await browser.submit(page, person="alice", code="wrong")

    assert page.status == 403
    assert "wrong" in page.text()
    assert browser.cookies == {}


def authorize(federation, **params):
    query = {
        "response_type": "code",
        "client_id": "dashboard",
        "redirect_uri": federation.context.url("dashboard") + "/login/callback",
        "scope": "openid offline_access",
        "state": "st&te",
        "nonce": "n1",
        "code_challenge": challenge(),
        "code_challenge_method": "S256",
        **params,
    }
    return "/authorize?" + urlencode({k: v for k, v in query.items() if v is not None})


def brought_back(landed):
    return {name: values[0] for name, values in parse_qs(urlsplit(landed.url).query).items()}


async def sign_in(federation, browser, person="alice"):
    page = await browser.open("/device")
    await browser.submit(page, person=person, code=federation.person(person))


async def redeem(federation, code, more=()):
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": federation.context.url("dashboard") + "/login/callback",
        "code_verifier": VERIFIER,
    }
    return await federation.token({**form, **dict(more)}, "dashboard")


async def test_browser_comes_back_with_a_code_when_the_person_signs_in(federation, browser):
    page = await browser.open(authorize(federation))
    landed = await browser.submit(page, person="bob", code=federation.person("bob"))
    back = brought_back(landed)

    answer = (await redeem(federation, back["code"])).json()

    assert landed.url.startswith(federation.context.url("dashboard") + "/login/callback?")
    assert (back["state"], back["iss"]) == ("st&te", federation.url)
    assert claims(answer["access_token"])["wlcg.groups"] == ["/hydrology"]
    assert claims(answer["id_token"])["nonce"] == "n1"


async def test_login_ends_when_a_code_is_used_twice(federation, browser):
    await sign_in(federation, browser)
    code = brought_back(await browser.open(authorize(federation)))["code"]
    first = (await redeem(federation, code)).json()

    assert (await redeem(federation, code)).json()["error"] == "invalid_grant"
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    assert (await federation.token(form, "dashboard")).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_verifier": "w" * 50},
        {"redirect_uri": "http://127.0.0.1:1/"},
        {"code": "guess"},
    ],
)
async def test_code_is_refused_when_something_does_not_fit(federation, browser, wrong):
    await sign_in(federation, browser)
    code = brought_back(await browser.open(authorize(federation)))["code"]

    answer = await redeem(federation, code, wrong)

    assert (answer.status, answer.json()["error"]) == (400, "invalid_grant")


async def test_browser_is_sent_nowhere_when_the_address_is_not_the_clients(federation, browser):
    await sign_in(federation, browser)

    for client in ("dashboard", "twinfra-cli", "datasets"):
        for redirect in FOREIGN:
            asked = authorize(federation, client_id=client, redirect_uri=redirect)
            assert (await browser.open(asked)).status == 400, (client, redirect)


@pytest.mark.parametrize(
    ("params", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"scope": "twinfra.service"}, "invalid_scope"),
        ({"resource": "https://evil.test"}, "invalid_target"),
    ],
)
async def test_client_is_told_when_its_request_is_wrong(federation, browser, params, error):
    await sign_in(federation, browser)

    back = brought_back(await browser.open(authorize(federation, **params)))

    assert (back["error"], back["state"]) == (error, "st&te")


async def test_program_gets_a_code_only_after_a_yes(federation, browser):
    await sign_in(federation, browser)
    page = await browser.open(authorize(federation, client_id="twinfra-cli", redirect_uri=LOOPBACK))
    assert "Let twinfra-cli in as alice?" in page.text()

    landed = await browser.submit(page)

    assert landed.url.startswith(LOOPBACK + "?code=")


async def test_link_signs_in_once_when_made_by_who_reads_the_secret(federation, browser):
    client = IssuerClient.from_context(federation.context)
    onward = federation.context.url("dashboard") + "/deployments"
    link = await client.one_time_link("alice", federation.person("alice"), onward)
    await client.close()

    assert (await browser.open(link)).url == onward
    assert "code" in brought_back(await browser.open(authorize(federation)))
    browser.cookies.clear()
    again = await browser.open(link)
    assert again.status == 403


@pytest.mark.parametrize(
    "onward", ["https://evil.test/", "//evil.test", "javascript:alert(1)", "/\\evil.test"]
)
async def test_link_leads_home_when_its_target_is_foreign(federation, browser, onward):
    client = IssuerClient.from_context(federation.context)
    link = await client.one_time_link("alice", federation.person("alice"), onward)
    await client.close()

    assert urlsplit((await browser.open(link)).url).path == "/device"


async def test_cookie_is_out_of_reach_of_scripts_and_plain_connections(federation):
    form = {"person": "alice", "code": federation.person("alice"), "next": "/device"}
    cookie = (await federation.post("/sign-in", form)).headers["Set-Cookie"]

    assert cookie.startswith("__Host-")
    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"))


async def test_page_escapes_when_the_address_holds_markup(federation, browser):
    page = await browser.open('/device?user_code="><script>alert(1)</script>')

    assert "<script>" not in page.text()
    assert not re.search(r"<script", page.text())


def refresh_form(token, **more):
    return {
        "grant_type": "refresh_token",
        "client_id": "twinfra-cli",
        "refresh_token": token,
        **more,
    }


async def test_refresh_gives_a_token_for_each_service(federation):
    login = await federation.login()
    form = refresh_form(login["refresh_token"], resource=federation.context.url("datasets"))
    answer = (await federation.token(form)).json()

    principal = await federation.principal("datasets", answer["access_token"])

    assert principal.groups == {"climate"}
    assert "storage.read:/" in principal.scopes
    assert answer["refresh_token"] != login["refresh_token"]


async def test_login_ends_when_a_refresh_token_is_used_twice(federation):
    login = await federation.login()
    second = (await federation.token(refresh_form(login["refresh_token"]))).json()

    assert (await federation.token(refresh_form(login["refresh_token"]))).status == 400
    assert (await federation.token(refresh_form(second["refresh_token"]))).status == 400


async def test_refresh_is_never_wider_than_the_login(federation):
    login = await federation.login(scope="offline_access storage.read:/a")

    wider = await federation.token(refresh_form(login["refresh_token"], scope="storage.read:/"))
    narrower = await federation.token(
        refresh_form(login["refresh_token"], scope="storage.read:/a/b")
    )

    assert wider.json()["error"] == "invalid_scope"
    assert narrower.json()["scope"] == "storage.read:/a/b"


@pytest.mark.parametrize("client", ["dashboard", "datasets"])
async def test_refresh_token_is_of_no_use_when_another_client_has_it(federation, client):
    login = await federation.login()
    form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}

    assert (await federation.token(form, client)).json()["error"] == "invalid_grant"


async def test_refresh_token_ends_when_its_time_is_over(federation, clock):
    login = await federation.login()
    await clock.advance(30 * 86400 + 1)

    assert (await federation.token(refresh_form(login["refresh_token"]))).status == 400


async def test_no_refresh_token_is_given_when_none_is_asked_for(federation):
    assert "refresh_token" not in await federation.login(scope="openid")


async def test_person_tokens_are_kept_in_a_file_when_told_so(federation, tmp_path):
    store = FileLogin(tmp_path / "login.json")
    audience = federation.context.url("datasets")
    tokens = await sign_in_here(federation.context, "alice", store)
    first = await tokens.token(audience)
    await tokens.close()

    client = IssuerClient.from_context(federation.context)
    again = PersonTokens(client, store, clock=federation.clock)
    assert again.sub == "alice"
    assert await again.token(audience) == first
    await federation.clock.advance(3000)
    renewed = await again.token(audience)
    await again.close()

    assert renewed != first
    assert (tmp_path / "login.json").stat().st_mode & 0o777 == 0o600
    assert (await federation.principal("datasets", renewed)).sub == "alice"


async def test_device_login_gives_up_when_nobody_approves(federation, clock):
    import asyncio

    client = IssuerClient.from_context(federation.context)
    shown = []
    waiting = asyncio.create_task(client.device(shown.append))
    for _ in range(200):
        await asyncio.sleep(0.01)
        await clock.advance(120)
        if waiting.done():
            break

    with pytest.raises(UpstreamTimeout):
        await waiting
    assert shown[0].user_code in shown[0].verification_uri_complete
    await client.close()
