"""A pod's own token at the site's door, through both hops: forged, over or another pod's is 403."""

import json

import pytest

from twinfra.core.ids import new_uuid
from twinfra.testkit.issuer import TestIssuer

SITE = "hpc-b"
ACCOUNT = "system:serviceaccount:ml:trainer"
HEADER = "Twinfra-Pod-Token"


@pytest.fixture
def cluster(context):
    """The issuer of a cluster's ServiceAccount tokens, which the site trusts."""
    with TestIssuer(tls=context.tls_server(), inner=False) as made:
        yield made


@pytest.fixture
def context(context):
    context.home.root.mkdir(exist_ok=True)
    return context


@pytest.fixture
def foundation(foundation, context, cluster):
    context.home.settings_file.write_text(
        f"""
[[access.issuers]]
issuer = "{cluster.url}"
[sites.{SITE}.plugin]
unmapped = "refuse"
[[sites.{SITE}.plugin.workloads]]
issuer = "{cluster.url}"
namespace = "ml"
account = "trainer"
group = "climate"
"""
    )
    return foundation


def claims(house, cluster, uid, **more):
    bound = {"namespace": "ml", "pod": {"name": "train-0", "uid": uid}}
    return cluster.claims(ACCOUNT, (), aud=house.api, **{"kubernetes.io": bound, **more})


async def create(house, pod, uid, token):
    """Hand a pod to the API server as a kubelet does; give status and body."""
    body = {"pod": pod(uid, annotations={"twinfra.io/virtual-node": "hpc"})}
    return await house.curl(
        "-X", "POST", f"{house.api}/create", "-H", f"{HEADER}: {token}",
        "-H", "Content-Type: application/json", "-d", json.dumps(body),
        token=house.service_token("kubelet"),
    )  # fmt: skip


@pytest.mark.real("curl")
@pytest.mark.story(
    "Forgery is tested: another pod's, an expired, a forged token on `/create` is 403"
)
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("another pod's", "is another's"),
        ("another namespace's", "is another's"),
        ("of no pod", "is another's"),
        ("over", "expired"),
        ("forged", "signature"),
        ("for somebody else", "audience"),
    ],
)
async def test_a_token_that_is_not_the_pods_is_403_with_the_reason(house, cluster, pod, fault, why):
    uid, now = new_uuid(), 1_700_000_000
    good = claims(house, cluster, uid)
    tokens = {
        "another pod's": lambda: cluster.sign(claims(house, cluster, new_uuid())),
        "another namespace's": lambda: cluster.sign({**good, "sub": ACCOUNT.replace("ml", "x")}),
        "of no pod": lambda: cluster.sign({**good, "kubernetes.io": {"namespace": "ml"}}),
        "over": lambda: cluster.sign({**good, "iat": now, "nbf": now, "exp": now + 600}),
        "forged": lambda: cluster.sign(good)[:-12] + "AAAAAAAAAAAA",
        "for somebody else": lambda: cluster.sign({**good, "aud": "https://other.example"}),
    }
    status, body = await create(house, pod, uid, tokens[fault]())
    assert (status, b"the pod's own token" in body) == (403, True), body
    assert why.encode() in body.lower(), body
    assert not house.site.submissions


@pytest.mark.real("curl")
async def test_the_pods_own_token_makes_it_its_accounts(house, cluster, pod):
    uid = new_uuid()
    status, body = await create(house, pod, uid, cluster.sign(claims(house, cluster, uid)))
    assert (status, json.loads(body)["PodUID"]) == (200, uid), body


@pytest.mark.real("curl")
async def test_another_issuers_token_is_nobodys_here(house, cluster, pod, context):
    uid = new_uuid()
    with TestIssuer(tls=context.tls_server(), inner=False) as other:
        status, body = await create(house, pod, uid, other.sign(claims(house, other, uid)))
    assert (status, b"no account" in body) == (403, True), body
