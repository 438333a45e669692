"""Two sites as two nodes of one kubelet process."""

import asyncio

import pytest

from twinfra.compute.interlink.wiring import build_api, build_plugin
from twinfra.testkit.fake_site import FakeSite

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
OTHER = "hpc-c"


@pytest.fixture
async def other(context, house, door, serving, founded):
    """A second site; `end_other` takes it away."""
    site = FakeSite()
    plugin = build_plugin(context, OTHER, founded(site))
    site.end = await serving(plugin, build_api(context, OTHER))
    return site


@pytest.fixture
async def nodes(context, kubelet, other, control_plane, ready):
    """One process with a node for each site."""
    second = f"{kubelet.node}-other"
    kubelet.start("--node", f"{second}={context.url(f'interlink@{OTHER}')}")
    for name in (kubelet.node, second):
        await ready(control_plane, name)
    yield kubelet.node, second
    await kubelet.stop()
    await asyncio.to_thread(control_plane.kubectl, "delete", "node", second, check=False)


@pytest.mark.story("many nodes in one process")
async def test_each_node_has_its_own_site_api_and_health_when_one_process_has_two(
    pods, nodes, house, other, control_plane, ready
):
    for name, node, site in zip(("a", "b"), nodes, (house.site, other), strict=True):
        uid = await pods.create(name, nodeName=node)
        await house.until(lambda site=site: site.submissions)
        assert site.submissions == [uid]
        site.start(uid)
        site.write(uid, f"of {node}\n".encode())
        await pods.until_phase(name, "Running")
        assert (await pods.kubectl("logs", name)).stdout == f"of {node}\n"
    ports = [await endpoint(pods, node) for node in nodes]
    assert len(set(ports)) == 2
    await other.end()
    await ready(control_plane, nodes[1], "False")
    await ready(control_plane, nodes[0])
    house.site.finish(house.site.submissions[0])
    await pods.until_phase("a", "Succeeded")
    assert (await pods.get("b"))["status"]["phase"] == "Running"
    await ready(control_plane, nodes[1], "False")
    await ready(control_plane, nodes[0])


async def endpoint(pods, node):
    body = await pods.cluster_json("get", "node", node)
    return body["status"]["daemonEndpoints"]["kubeletEndpoint"]["Port"]
