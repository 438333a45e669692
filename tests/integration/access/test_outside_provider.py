"""A real OpenID Connect provider is trusted after two lines of settings (npm oidc-provider)."""

from pathlib import Path

import pytest

from twinfra.access.authenticator import Authenticator
from twinfra.access.errors import TokenRefused
from twinfra.access.issuer import wiring as issuer_wiring
from twinfra.access.tokens import TokenClient
from twinfra.accounting import wiring as accounting_wiring
from twinfra.core.errors import Unauthenticated
from twinfra.core.http.client import HttpClient
from twinfra.testkit.oidc import oidc_provider
from twinfra.testkit.serving import serving
from twinfra.testkit.strangers import node_modules

FILES = Path(__file__).parents[2] / "servers" / "oidc-provider"
CLAIMS = {
    "ada": {"entitlements": ["urn:geant:example.org:group:climate:role=member#idp.example.org"]},
    "eve": {"wlcg.ver": "1.0", "wlcg.groups": ["/hydrology"], "scope": "twinfra.service"},
}

pytestmark = [pytest.mark.real("oidc-provider"), pytest.mark.slow]


@pytest.fixture
def provider(context, tmp_path):
    with oidc_provider(
        tmp_path,
        script=FILES / "server.mjs",
        modules=node_modules(FILES),
        tls=context.tls_server(),
        claims=CLAIMS,
    ) as running:
        yield running


@pytest.fixture
def services(context):
    for name in ("issuer", "accounting", "deployments", "edge@cloud-a"):
        context.url(name)
    return context


def trust(context, provider):
    """Write the two lines."""
    lines = f'[[access.issuers]]\nissuer = "{provider.issuer}"\n'
    context.home.settings_file.write_text(lines)


@pytest.mark.story(
    "adding a real OIDC issuer is two lines of settings (npm `oidc-provider` in a test)"
)
async def test_token_of_a_real_provider_opens_an_api_after_two_lines(services, provider):
    url = services.url("accounting")
    token = await provider.login("ada", url)

    answers = []
    for known in (False, True):
        if known:
            trust(services, provider)
        async with serving(services, accounting_wiring.build(services)):
            client = HttpClient(url, tls=services.tls_client())
            try:
                reply = await client.request("GET", "/records", token=token)
                answers.append(reply.status)
            except Unauthenticated as error:
                answers.append(error.detail)
            await client.close()

    assert "issuer that is not trusted" in answers[0]
    assert answers[1] == 200


async def test_token_of_a_real_provider_is_exchanged_for_an_inner_one(services, provider):
    trust(services, provider)
    edge = services.url("edge@cloud-a")
    async with serving(services, issuer_wiring.build(services)):
        subject = await provider.login("ada", services.url("deployments"))
        tokens = TokenClient.from_context(services, "deployments")
        inner = await tokens.exchange(subject, edge, "storage.read:/datasets")
        await tokens.close()

        principal = await Authenticator.from_context(services, "edge@cloud-a").authenticate(inner)

    assert (principal.issuer, principal.sub) == (provider.issuer, "ada")
    assert principal.token_issuer == services.url("issuer")
    assert principal.actor == "service:deployments"
    assert principal.groups == {"climate"}
    assert principal.scopes == ("storage.read:/datasets",)


async def test_person_of_a_real_provider_is_no_service_whatever_it_claims(services, provider):
    trust(services, provider)
    authenticator = Authenticator.from_context(services, "accounting")

    principal = await authenticator.authenticate(
        await provider.login("eve", services.url("accounting"))
    )

    assert principal.groups == {"hydrology"}
    assert not principal.is_service


async def test_token_of_a_real_provider_for_another_service_is_refused(services, provider):
    trust(services, provider)
    token = await provider.login("ada", services.url("deployments"))

    with pytest.raises(TokenRefused) as refused:
        await Authenticator.from_context(services, "accounting").authenticate(token)
    assert refused.value.reason == "audience"
