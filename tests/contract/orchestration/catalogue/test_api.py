"""The catalogue over a socket: registration, conditions, filters, history, peers, refusals."""

import pytest

from twinfra.core.errors import InsufficientScope, InvalidRequest, NotFound
from twinfra.orchestration.catalogue.client import CatalogueClient, VersionMismatch
from twinfra.orchestration.catalogue.model import (
    Containers,
    Cost,
    Gpu,
    Location,
    Policies,
    Provider,
    ProviderState,
    Resources,
)
from twinfra.testkit.waiting import wait_for

ANY_STATUS = tuple(range(200, 600))
HPC = Provider(
    name="hpc-b",
    kind="hpc",
    rse="HPC-B",
    edge_url="https://localhost:7002",
    interlink_url="https://localhost:8002",
    location=Location("IT", 44.5, 11.3),
    resources=Resources(8, 16 << 30, (Gpu("A100", 2),), 8),
    capabilities=("batch", "gpu", "isolated"),
    containers=Containers(True, "user namespaces are denied here", "sudo sysctl -w x=1"),
    policies=Policies(("climate",), {"climate": 0.5}),
    link_bandwidth_bytes_per_s={"edge-c": 4 << 20},
    cost=Cost(0.01),
    benchmark_hepscore23=20,
)
ROUTES = [
    ("GET", "/providers"),
    ("GET", "/providers/hpc-b"),
    ("GET", "/providers/hpc-b/history"),
    ("PUT", "/providers/hpc-b"),
    ("DELETE", "/providers/hpc-b"),
    ("GET", "/peers"),
    ("GET", "/metrics"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
]


@pytest.fixture
async def catalogue(federation):
    async with federation.running("catalogue"):
        yield federation


@pytest.fixture
def site(catalogue):
    token = catalogue.service("catalogue", "plugin@hpc-b")
    return CatalogueClient(catalogue.client("catalogue", token))


@pytest.fixture
def alice(catalogue):
    return CatalogueClient(catalogue.client("catalogue", catalogue.person("catalogue")))


@pytest.fixture
def operator(catalogue):
    token = catalogue.person("catalogue", "olga", ("operators",))
    return CatalogueClient(catalogue.client("catalogue", token))


@pytest.mark.story("every API demands a bearer token except health and discovery")
async def test_every_route_wants_a_token_when_it_is_not_health(catalogue, guarded):
    for method, path in ROUTES:
        await guarded("catalogue", method, path, {"kind": "hpc"} if method == "PUT" else None)
    for path in ("/healthz", "/readyz"):
        assert (await catalogue.client("catalogue").request("GET", path)).status == 200


async def test_provider_is_read_back_whole_when_a_site_registers(site, alice):
    made = await site.register(HPC, ttl_s=60)
    assert made.provider == HPC
    assert made.state is ProviderState.ACTIVE
    assert await alice.provider("hpc-b") == made
    assert await alice.providers() == [made]
    assert await alice.peers() == {"localhost:7002"}


async def test_nothing_changes_but_the_deadline_when_a_site_says_the_same_again(site, alice):
    first = await site.register(HPC)
    again = await site.register(HPC)
    assert again.etag == first.etag
    assert [line["kind"] for line in await alice.history("hpc-b")] == ["registered"]


async def test_change_is_refused_with_412_when_the_tag_is_old(site, alice):
    first = await site.register(HPC)
    bigger = Provider("hpc-b", "hpc", resources=Resources(cpu=16))
    await site.register(bigger, if_match=first.etag)
    with pytest.raises(VersionMismatch):
        await site.register(HPC, if_match=first.etag)
    assert (await alice.provider("hpc-b")).provider.resources.cpu == 16
    newest, oldest = await alice.history("hpc-b")
    assert (newest["kind"], oldest["kind"]) == ("changed", "registered")
    assert "resources" in newest["fields"]
    assert newest["actor"] == "service:plugin@hpc-b"


async def test_problem_details_name_the_clash_when_a_condition_fails(catalogue, site):
    await site.register(HPC)
    token = catalogue.service("catalogue", "edge@hpc-b")
    reply = await catalogue.client("catalogue", token).request(
        "PUT",
        "/providers/hpc-b",
        json={"kind": "hpc"},
        headers={"If-None-Match": "*"},
        expect=ANY_STATUS,
    )
    body = reply.json()
    assert (reply.status, body["code"], body["status"]) == (412, "version-mismatch", 412)


@pytest.mark.story("a good token without the right: 403")
async def test_site_may_not_speak_for_another_when_it_registers(catalogue, alice):
    other = catalogue.service("catalogue", "plugin@cloud-a")
    for token in (other, catalogue.service("catalogue", "hpc-b")):
        with pytest.raises(InsufficientScope):
            await alice.register(HPC, token=token)
    with pytest.raises(InsufficientScope):
        await alice.register(HPC)


async def test_only_operators_remove_when_a_provider_is_to_go(site, alice, operator):
    await site.register(HPC)
    for client in (site, alice):
        with pytest.raises(InsufficientScope):
            await client.remove("hpc-b")
    await operator.remove("hpc-b")
    with pytest.raises(NotFound):
        await alice.provider("hpc-b")
    with pytest.raises(NotFound):
        await operator.remove("hpc-b")
    assert [line["kind"] for line in await alice.history("hpc-b")] == ["removed", "registered"]
    with pytest.raises(NotFound):
        await alice.history("nowhere")


async def test_operator_registers_any_site_when_it_cannot_itself(operator, alice):
    await operator.register(Provider("old-grid", "hpc"))
    (line,) = await alice.history("old-grid")
    assert line["actor"].startswith("olga@https://")


async def test_provider_goes_stale_and_comes_back_when_heartbeats_stop(site, alice):
    await site.register(HPC, ttl_s=1)

    async def stale():
        return (await alice.provider("hpc-b")).state is ProviderState.STALE

    await wait_for(stale, timeout_s=5, what="hpc-b goes stale")

    async def noted():
        kinds = [line["kind"] for line in await alice.history("hpc-b")]
        return kinds == ["stale", "registered"]

    await wait_for(noted, what="the history says so")
    assert [each.name for each in await alice.providers(state="stale")] == ["hpc-b"]
    assert await alice.peers() == {"localhost:7002"}
    assert (await site.register(HPC)).state is ProviderState.ACTIVE
    kinds = [line["kind"] for line in await alice.history("hpc-b")]
    assert kinds == ["revived", "stale", "registered"]


async def test_list_is_narrowed_when_filters_are_given(operator, alice):
    cloud = Provider("cloud-a", "cloud", capabilities=("services",))
    for provider in (HPC, cloud):
        await operator.register(provider)

    async def names(**filters):
        return [each.name for each in await alice.providers(**filters)]

    assert await names() == ["cloud-a", "hpc-b"]
    assert await names(kind="cloud") == ["cloud-a"]
    assert await names(capability="gpu") == ["hpc-b"]
    assert await names(group="climate") == ["cloud-a", "hpc-b"]
    assert await names(group="hydrology") == ["cloud-a"]
    assert await names(country="IT") == ["hpc-b"]
    assert await names(state="stale") == []
    with pytest.raises(InvalidRequest):
        await names(colour="red")


WRONG = [
    ({}, "kind"),
    ({"kind": "grid"}, "kind"),
    ({"kind": "hpc", "name": "cloud-a"}, "names cloud-a"),
    ({"kind": "hpc", "colour": "red"}, "colour"),
    ({"kind": "hpc", "edge_url": "ftp://x"}, "edge_url"),
    ({"kind": "hpc", "edge_url": "https://u:p@x"}, "edge_url"),
    ({"kind": "hpc", "edge_url": "https://x:99999"}, "edge_url"),
    ({"kind": "hpc", "rse": "lower"}, "rse"),
    ({"kind": "hpc", "resources": {"cpu": -1}}, "cpu"),
    ({"kind": "hpc", "location": {"country": "Italy"}}, "country"),
    ({"kind": "hpc", "policies": {"shares": {"climate": 2}}}, "shares"),
    ({"kind": "hpc", "link_bandwidth_bytes_per_s": {"edge-c": 0}}, "link_bandwidth"),
    ({"kind": "hpc", "benchmark_hepscore23": 0}, "benchmark"),
    ({"kind": "hpc", "ttl_s": 0.01}, "ttl_s"),
]


async def test_document_is_refused_when_a_field_is_wrong(catalogue):
    token = catalogue.service("catalogue", "plugin@hpc-b")
    client = catalogue.client("catalogue", token)
    for body, field in WRONG:
        reply = await client.request("PUT", "/providers/hpc-b", json=body, expect=ANY_STATUS)
        assert reply.status == 400, (body, reply.text())
        assert field in reply.json()["detail"]


async def test_name_is_refused_when_it_is_no_site_name(catalogue):
    token = catalogue.person("catalogue", "olga", ("operators",))
    for name in ("HPC", "-a", "a" * 64):
        reply = await catalogue.client("catalogue", token).request(
            "PUT", f"/providers/{name}", json={"kind": "hpc"}, expect=ANY_STATUS
        )
        assert reply.status == 400


async def test_shorthands_are_understood_when_a_site_writes_briefly(catalogue, alice):
    token = catalogue.service("catalogue", "plugin@hpc-b")
    body = {
        "kind": "hpc",
        "resources": {"gpus": ["A100"]},
        "policies": {"groups": "*"},
        "edge_url": "https://edge.example.org/",
    }
    await catalogue.client("catalogue", token).request("PUT", "/providers/hpc-b", json=body)
    provider = (await alice.provider("hpc-b")).provider
    assert provider.resources.gpus == (Gpu("A100", 1),)
    assert provider.policies.groups == ("*",)
    assert await alice.peers() == {"edge.example.org:443"}
