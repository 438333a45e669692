"""Pods of a real control plane as real containers of a local site, under keepers."""

import os
import platform
import re
import subprocess
from pathlib import Path

import pytest

from twinfra.compute.interlink.client import LogRequest
from twinfra.testkit.images import BUSYBOX
from twinfra.testkit.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.real("kubernetes"), pytest.mark.timeout(300)]


@pytest.fixture
def house(local_house):
    return local_house


def shell(script, **more):
    return {"image": BUSYBOX, "command": ["sh", "-c", script], **more}


@pytest.mark.story("An ordinary pod lands on a virtual node and runs as a container at a site")
async def test_prints_its_secrets_and_succeeds_when_it_is_a_real_container(pods, node, house):
    await pods.kubectl("create", "secret", "generic", "s", "--from-literal=pass=a$(X)b")
    env = [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "s", "key": "pass"}}}]
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    script = f'echo "$P"; cat {token}/namespace; echo; wc -l < {token}/ca.crt; sleep 1'
    uid = await pods.create(container=shell(script, env=env), automountServiceAccountToken=True)
    pod = await pods.until_phase("train-0", "Succeeded", "Failed")
    assert pod["status"]["phase"] == "Succeeded", pod["status"]
    log = await house.logs(LogRequest(pods.namespace, uid, "train-0", "main"))
    first, second, third = log.decode().split()
    assert (first, second) == ("a$(X)b", pods.namespace)
    assert int(third) > 3
    await pods.kubectl("delete", "pod", "train-0")
    await pods.until_gone()


def loaders_level():
    """Return the highest level that the C library's own loader says this processor has."""
    loader = Path("/lib64/ld-linux-x86-64.so.2")
    if platform.machine() != "x86_64":
        return None
    said = subprocess.run([loader, "--help"], capture_output=True, text=True, check=True).stdout
    found = re.findall(r"(x86-64-v[234]) \(supported", said)
    return max(found, default="x86-64-v1")


@pytest.mark.story("Nodes publish real os, architecture and CPU level")
async def test_the_node_is_what_the_sites_machine_is(pods, node, house):
    made_for = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    found = await pods.cluster_json("get", "node", node)
    assert found["status"]["nodeInfo"]["architecture"] == made_for
    assert found["status"]["nodeInfo"]["operatingSystem"] == platform.system().lower()
    labels = found["metadata"]["labels"]
    assert labels["kubernetes.io/arch"] == made_for
    assert labels["kubernetes.io/os"] == platform.system().lower()
    assert labels.get("twinfra.io/cpu-level") == loaders_level()


@pytest.mark.story("Exit 42 of a real container; init containers run before it")
async def test_fails_with_its_code_when_the_container_does(pods, node, house):
    inits = [{"name": "first", **shell("true")}]
    await pods.create(container=shell("exit 42"), initContainers=inits)
    pod = await pods.until_phase("train-0", "Failed", "Succeeded")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 42
    (init,) = pod["status"]["initContainerStatuses"]
    assert init["state"]["terminated"]["exitCode"] == 0


@pytest.mark.story("terminationGracePeriodSeconds: a real container has time to end")
async def test_ends_the_container_when_the_pod_is_deleted(pods, node, house):
    uid = await pods.create(container=shell("trap 'exit 0' TERM; while :; do sleep 0.1; done"))
    await pods.until_phase("train-0", "Running")
    await pods.kubectl("delete", "pod", "train-0", "--grace-period=10")
    await pods.until_gone()

    async def forgotten():
        ref = {"metadata": {"uid": uid, "name": "train-0", "namespace": pods.namespace}}
        return not await house.status([{**ref, "status": {"phase": "Running"}}])

    assert await wait_for(forgotten, timeout_s=60, what="the site forgetting the pod")


@pytest.mark.story("modes of single items: configMap, secret, projected, downwardAPI")
async def test_each_file_has_the_mode_that_its_item_asks_for(pods, node, house):
    await pods.kubectl("create", "secret", "generic", "s", "--from-literal=k=v")
    await pods.kubectl("create", "configmap", "c", "--from-literal=run=true", "--from-literal=b=1")
    field = {"fieldRef": {"fieldPath": "metadata.name"}}
    sources = [
        {"secret": {"name": "s", "items": [{"key": "k", "path": "deep/key", "mode": 0o400}]}},
        {"configMap": {"name": "c", "items": [{"key": "run", "path": "run", "mode": 0o555},
                                              {"key": "b", "path": "plain"}]}},
        {"downwardAPI": {"items": [{"path": "name", "mode": 0o600, **field}]}},
    ]  # fmt: skip
    single = [{"key": "run", "path": "run", "mode": 0o500}, {"key": "b", "path": "plain"}]
    info = [{"path": "name", "mode": 0o604, **field}]
    volumes = [
        {"name": "all", "projected": {"sources": sources, "defaultMode": 0o640}},
        {"name": "map", "configMap": {"name": "c", "items": single, "defaultMode": 0o444}},
        {"name": "info", "downwardAPI": {"items": info}},
    ]
    mounts = [{"name": each["name"], "mountPath": f"/{each['name']}"} for each in volumes]
    wanted = {
        "/all/deep/key": "400", "/all/run": "555", "/all/plain": "640", "/all/name": "600",
        "/map/run": "500", "/map/plain": "444", "/info/name": "604",
    }  # fmt: skip
    script = f"stat -L -c '%n %a' {' '.join(wanted)}"
    await pods.create(container=shell(script, volumeMounts=mounts), volumes=volumes)
    ended = await pods.until_phase("train-0", "Succeeded", "Failed")
    assert ended["status"]["phase"] == "Succeeded", ended["status"]
    said = (await pods.kubectl("logs", "train-0")).stdout
    assert dict(line.split() for line in said.splitlines()) == wanted


@pytest.mark.story("securityContext runAsUser/fsGroup checked against the mapping")
async def test_22_another_user_than_the_sites_is_refused_by_an_event(pods, node, house):
    own, other = os.geteuid(), os.geteuid() + 4321
    await pods.create("own", container=shell("id -u"), securityContext={"runAsUser": own})
    ended = await pods.until_phase("own", "Succeeded", "Failed")
    assert ended["status"]["phase"] == "Succeeded", ended["status"]
    assert (await pods.kubectl("logs", "own")).stdout == f"{own}\n"
    for name, field in (("user", "runAsUser"), ("group", "fsGroup")):
        await pods.create(name, container=shell("true"), securityContext={field: other})
        await pods.until_event(name, "ProviderCreateFailed", f"spec.securityContext.{field}")
        await pods.until_phase(name, "Failed")
