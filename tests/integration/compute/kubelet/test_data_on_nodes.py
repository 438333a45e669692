"""Pods of a real control plane whose data comes through the real neighbours of their site."""

import hashlib
import zlib

import pytest

from twinfra.data.datasets.client import Did, FileSpec, NewCollection
from twinfra.testkit.images import BUSYBOX

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]
SITE, HERE, AWAY = "hpc-b", "HPC-B", "FAR-AWAY"
DID = Did("climate", "ensemble")


@pytest.fixture
def settings(context, layout, control_plane, kube_namespace):
    """Of the namespace's pods, those of ``climate`` are of that group and may name its data."""
    context.home.root.mkdir(exist_ok=True)
    keys = context.home.root / "cluster-keys.json"
    keys.write_text(control_plane.kubectl("get", "--raw", "/openid/v1/jwks").stdout)
    context.home.settings_file.write_text(
        f"""
[kubelet]
ping_s = 0.5
poll_s = 0.3
[sites.{SITE}.compute]
images = ["{layout}"]
[[sites.{SITE}.plugin.workloads]]
issuer = "{control_plane.issuer}"
namespace = "{kube_namespace}"
account = "climate"
group = "climate"
[[access.issuers]]
issuer = "{control_plane.issuer}"
keys_file = "{keys}"
"""
    )


@pytest.fixture
def house(federation):
    return federation


def file_of(name, body):
    return FileSpec(
        Did("climate", f"ensemble/{name}"),
        len(body),
        adler32=f"{zlib.adler32(body):08x}",
        md5=hashlib.md5(body).hexdigest(),
    )


def waits_for(pod):
    states = pod["status"].get("containerStatuses", [{}])[0].get("state", {})
    return states.get("waiting", {}).get("reason")


@pytest.mark.story("the pod is held (reason `WaitingForData`, with progress as events)")
async def test_a_bound_pod_says_what_it_waits_for_and_reads_its_data(pods, node, federation):
    datasets, near, far = federation.datasets, file_of("near", b"near"), file_of("far", b"far")
    await datasets.dids_add([NewCollection(DID)])
    await federation.put("/datasets/climate/ensemble/near", b"near")
    await datasets.add_replicas(HERE, [near])
    await datasets.add_replicas(AWAY, [far])
    await datasets.attach(DID, [near.did, far.did])
    script = f"cd /data/{DID.scope}/{DID.name} && cat near far && ! touch x 2>/dev/null"
    await pods.kubectl("create", "serviceaccount", "climate")
    main = {"image": BUSYBOX, "command": ["sh", "-c", script]}
    manifest = pods.manifest(container=main, serviceAccountName="climate")
    manifest["metadata"]["annotations"] = {"twinfra.io/inputs": str(DID)}
    await pods.apply(manifest)
    (told, *_) = await pods.until_event("train-0", "WaitingForData", "1 of 2 files")
    (rule,) = await datasets.did_rules(DID)
    assert rule.id in told
    held = await pods.until("train-0", lambda pod: waits_for(pod) == "WaitingForData", "held")
    assert held["status"]["phase"] == "Pending"
    await federation.put("/datasets/climate/ensemble/far", b"far")
    await datasets.add_replicas(HERE, [far])
    ended = await pods.until_phase("train-0", "Succeeded", "Failed")
    assert ended["status"]["phase"] == "Succeeded", ended["status"]
    assert b"nearfar" in federation.site.output(ended["metadata"]["uid"])


@pytest.mark.story("a pod gets the data of its own group alone")
async def test_a_pod_is_refused_by_name_when_the_data_is_not_its_groups(pods, node, federation):
    await federation.datasets.dids_add([NewCollection(DID)])
    manifest = pods.manifest(container={"image": BUSYBOX, "command": ["true"]})
    manifest["metadata"]["annotations"] = {"twinfra.io/inputs": str(DID)}
    await pods.apply(manifest)
    failed = await pods.until_phase("train-0", "Failed")
    told = f"this site gives robot:{pods.namespace} no data of scope climate"
    assert told in failed["status"]["message"]
