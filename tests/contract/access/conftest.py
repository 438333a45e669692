"""A running development issuer, and a browser without a screen."""

import base64
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape

import pytest
import pytest_asyncio

from twinfra.access.authenticator import Authenticator
from twinfra.access.issuer.wiring import build
from twinfra.access.jose import parse_jwt
from twinfra.access.tokens import TokenClient
from twinfra.core.home import Home
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Context
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.serving import serving

SERVICES = ("issuer", "deployments", "datasets", "monitoring", "edge@cloud-a", "dashboard")
EVERY = (200, 201, 204, 302, 303, 400, 401, 403, 404)


@dataclass
class Federation:
    """An issuer under test and the ways to speak to it."""

    context: Context
    http: HttpClient

    @property
    def clock(self):
        return self.context.clock

    @property
    def url(self):
        return self.context.url("issuer")

    def secret(self, client):
        return self.context.home.secret(f"clients/{client}")

    def person(self, name):
        return self.context.home.secret(f"people/{name}.code")

    async def post(self, path, form, client=None, secret=None, headers=None):
        sent = dict(headers or {})
        if client is not None:
            pair = f"{client}:{secret or self.secret(client)}".encode()
            sent["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        return await self.http.request("POST", path, data=form, headers=sent, expect=EVERY)

    async def get(self, path, **more):
        return await self.http.request("GET", path, expect=EVERY, **more)

    async def token(self, form, client=None, **more):
        return await self.post("/token", form, client, **more)

    async def login(self, person="alice", scope="openid offline_access", **form):
        """Sign in by the device flow and the person's own secret; return the token answer."""
        started = (
            await self.post(
                "/device_authorization", {"client_id": "twinfra-cli", "scope": scope, **form}
            )
        ).json()
        approval = {"user_code": started["user_code"], "person": person}
        done = await self.post("/device/approve", {**approval, "code": self.person(person)})
        assert done.status == 200, done.text()
        answer = await self.token(
            {
                "grant_type": "urn:ietf:params:oauth:grant-type:device_code",
                "client_id": "twinfra-cli",
                "device_code": started["device_code"],
            }
        )
        assert answer.status == 200, answer.text()
        return answer.json()

    async def person_token(self, service, person="alice", scope="offline_access"):
        """Return an access token of `person` for `service`."""
        login = await self.login(person, scope, resource=self.context.url(service))
        return login["access_token"]

    def tokens(self, client):
        return TokenClient.from_context(self.context, client)

    async def principal(self, service, token):
        return await Authenticator.from_context(self.context, service).authenticate(token)


@pytest.fixture(scope="module")
def clock():
    return VirtualClock(datetime(2026, 6, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def outside(clock):
    """An issuer that the federation trusts by two lines of settings."""
    with TestIssuer(clock=clock, inner=False) as issuer:
        yield issuer


@pytest.fixture(scope="module")
def federation_context(tmp_path_factory, clock, outside):
    home = Home(tmp_path_factory.mktemp("federation"))
    own = '[issuer]\nalgorithm = "ES256"\n'  # its keys are made faster
    home.settings_file.write_text(f'{own}[[access.issuers]]\nissuer = "{outside.url}"\n')
    context = Context(home, clock)
    for service in SERVICES:
        context.url(service)
    return context


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def federation(federation_context):
    """One issuer a test file; each test signs in anew, and may move the clock on."""
    async with serving(federation_context, build(federation_context)):
        http = HttpClient(federation_context.url("issuer"), tls=federation_context.tls_client())
        yield Federation(federation_context, http)
        await http.close()


class Browser:
    """Follows redirects, keeps cookies, fills forms."""

    def __init__(self, federation):
        self.federation, self.cookies = federation, {}

    async def open(self, url):
        return await self._follow("GET", url, None)

    async def submit(self, page, action=None, **fields):
        """Post the page's form with its hidden fields and `fields`."""
        html = page.text()
        hidden = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', html))
        named = re.search(r'<form method="post"(?: action="([^"]+)")?', html)
        target = action or named[1] or page.url
        form = {name: unescape(value) for name, value in hidden.items()}
        return await self._follow("POST", target, {**form, **fields})

    async def _follow(self, method, url, form):
        url = url if url.startswith("http") else self.federation.url + url
        for _ in range(10):
            if not url.startswith(self.federation.url):
                return Landed(url)
            headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())}
            reply = await self.federation.http.request(
                method, url, data=form, headers=headers, expect=EVERY
            )
            for cookie in reply.headers.getall("Set-Cookie", []):
                name, _, value = cookie.partition(";")[0].partition("=")
                self.cookies[name] = value
            if reply.status not in {302, 303}:
                return Shown(url, reply)
            target = reply.headers["Location"]
            url = target if target.startswith("http") else self.federation.url + target
            method, form = "GET", None
        raise AssertionError("the redirects never end")


@dataclass
class Landed:
    """The browser was sent away from the issuer."""

    url: str
    status: int = 0


@dataclass
class Shown:
    """The browser shows a page."""

    url: str
    reply: object

    @property
    def status(self):
        return self.reply.status

    def text(self):
        return self.reply.text()


@pytest.fixture
def browser(federation):
    return Browser(federation)


def claims(token):
    return parse_jwt(token).claims
