"""The node object of a site on a real control plane."""

import asyncio
import json
from dataclasses import replace

import pytest

from twinfra.compute.sites.model import SiteFigures
from twinfra.core.http.client import HttpClient
from twinfra.orchestration.catalogue.client import CatalogueClient, Provider
from twinfra.orchestration.catalogue.model import Gpu, Resources
from twinfra.orchestration.catalogue.wiring import build as build_catalogue

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]


@pytest.mark.story("Fresh node: labels, taint, providerID, lease; no toleration, no placement")
async def test_is_whole_and_closed_when_it_is_fresh(pods, node, house, ready, control_plane):
    body = await ready(control_plane, node)
    labels = body["metadata"]["labels"]
    assert labels["kubernetes.io/os"] == "linux"
    assert labels["kubernetes.io/arch"] == "amd64"
    assert labels["kubernetes.io/hostname"] == node
    assert labels["virtual-node.interlink/type"] == "virtual-kubelet"
    assert body["spec"]["providerID"] == f"external:///{node}"
    lease = await pods.cluster_json("get", "lease", node, "-n", "kube-node-lease")
    assert lease["spec"]["renewTime"]
    untolerating = pods.manifest(bound=False, tolerations=[])
    untolerating["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    await pods.apply(untolerating)
    await pods.until_event("train-0", "FailedScheduling")
    tolerating = pods.manifest("welcome", bound=False)
    tolerating["spec"]["nodeSelector"] = {"kubernetes.io/hostname": node}
    await pods.apply(tolerating)
    await pods.until("welcome", lambda pod: pod["spec"].get("nodeName") == node)
    await house.until(lambda: house.site.submissions)


@pytest.mark.story("Capacity follows the site's ping: capacity, not free space")
async def test_capacity_follows_when_the_site_grows(node, house, control_plane):
    house.site.figures = SiteFigures(
        cpus=128, memory_bytes=512 << 30, gpus={"nvidia.com/gpu": 8}, free_cpus=1
    )

    async def grown():
        body = await asyncio.to_thread(control_plane.kubectl_json, "get", "node", node)
        return body["status"]["capacity"] if body["status"]["capacity"]["cpu"] == "128" else None

    capacity = await house.until(grown)
    assert capacity["nvidia.com/gpu"] == "8"
    assert capacity["memory"] in {str(512 << 30), "512Gi"}


@pytest.mark.story("capacity that follows the site's ping and the catalogue")
async def test_capacity_follows_the_catalogue_where_the_ping_names_none(
    context, house, kubelet, node_name, serving, issuer, control_plane
):
    house.site.figures = SiteFigures()
    with context.home.settings_file.open("r+") as file:
        text = file.read().replace("[kubelet]", "[kubelet]\ncatalogue = true\ncatalogue_s = 0.5")
        file.seek(0)
        file.write(text)
    await serving(build_catalogue(context))
    url = context.url("catalogue")

    async def source():
        return issuer.service_token(f"plugin@{node_name}", aud=url)

    http = HttpClient(url, tls=context.tls_client(), token=source)
    house.clients.append(http)
    catalogue = CatalogueClient(http)

    async def until_has(**wanted):
        async def there():
            done = await asyncio.to_thread(
                control_plane.kubectl, "get", "node", node_name, "-o", "json", check=False
            )
            has = {} if done.returncode else json.loads(done.stdout)["status"]["capacity"]
            return has if wanted.items() <= has.items() else None

        return await house.until(there)

    site = Provider(node_name, "hpc", "HPC", house.api, house.api)
    size = Resources(96, 384 << 30, (Gpu("nvidia.com/gpu", 4),))
    await catalogue.register(replace(site, resources=size))
    kubelet.start()
    await until_has(cpu="96", memory=str(384 << 30), **{"nvidia.com/gpu": "4"})
    await catalogue.register(replace(site, resources=Resources(48, 384 << 30)))
    await until_has(cpu="48", memory=str(384 << 30))
    house.site.figures = SiteFigures(cpus=12)
    await until_has(cpu="12", memory=str(384 << 30))


@pytest.mark.story("Plug-in stopped: Ready=False, InterlinkConnectivity=False, then back to True")
async def test_is_not_ready_when_the_site_is_away(node, house, control_plane, ready, condition_of):
    await house.end_plugin()
    body = await ready(control_plane, node, "False")
    assert condition_of(body, "InterlinkConnectivity")["status"] == "False"
    assert body["metadata"]["annotations"]["interlink.virtual-kubelet.io/ping-response"] == ""
    await house.start_plugin()
    body = await ready(control_plane, node)
    assert condition_of(body, "InterlinkConnectivity")["status"] == "True"


@pytest.mark.story("Cordon and drain")
async def test_is_empty_when_it_is_drained(pods, node, house, control_plane):
    uid = await pods.create()
    job = await house.until_job(uid)
    house.site.start(uid)
    await pods.until_phase("train-0", "Running")
    await pods.kubectl("drain", node, "--force", "--ignore-daemonsets", "--timeout=60s")
    await pods.until_gone()
    assert job.cancels == 1
    body = await asyncio.to_thread(control_plane.kubectl_json, "get", "node", node)
    assert body["spec"]["unschedulable"] is True


@pytest.mark.story("An unmapped pod is refused with a clear text, where the site says so")
async def test_a_pod_is_refused_by_name_when_the_site_maps_nobody(
    pods, house, kubelet, control_plane, ready, context
):
    with context.home.settings_file.open("a") as file:
        file.write('unmapped = "refuse"\n')
    await house.end_plugin()
    await house.start_plugin()
    kubelet.start()
    await ready(control_plane, kubelet.node)
    await pods.create("nobody")
    refused = await pods.until_phase("nobody", "Failed")
    assert "spec.serviceAccountName" in refused["status"]["message"]
