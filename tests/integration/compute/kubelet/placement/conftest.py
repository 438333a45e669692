"""The policies on a real control plane, people of a federation, and virtual nodes made by hand."""

import asyncio
import json
import threading
from datetime import UTC, datetime

import pytest

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.placement.install import Installer
from twinfra.core.ids import new_uuid
from twinfra.testkit.waiting import wait_for, wait_for_sync

WITHIN_S = 120.0
CREATOR = "twinfra.io/creator"
TAINT = "virtual-node.interlink/no-schedule"
GATE = "twinfra.io/placement"
ISSUER = "https://people.test"
CONTAINER = {"name": "main", "image": "python:3.12", "command": ["true"]}


def pod(name, *, annotations=None, **spec):
    metadata = {"name": name, **({"annotations": annotations} if annotations else {})}
    spec = {"containers": [CONTAINER], "restartPolicy": "Never", **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def template(annotations=None, **spec):
    return {
        "metadata": {
            "labels": {"app": "third-party"},
            **({"annotations": annotations} if annotations else {}),
        },
        "spec": {"containers": [CONTAINER], **spec},
    }


def job(name, annotations=None, **more):
    spec = {"template": template(annotations, restartPolicy="Never"), **more}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def cronjob(name, annotations=None):
    spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": job(name, annotations)["spec"]}}
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name}, "spec": spec}


def scaled(kind, name, annotations=None, **more):
    spec = {
        "selector": {"matchLabels": {"app": "third-party"}},
        "template": template(annotations),
        **({"serviceName": name} if kind == "StatefulSet" else {}),
        **({"replicas": 1} if kind != "DaemonSet" else {}),
        **more,
    }
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


class Person:
    """Somebody who uses kubectl in one namespace."""

    def __init__(self, cluster, namespace, name, kubeconfig):
        self.cluster, self.namespace, self.name = cluster, namespace, name
        self.kubeconfig = kubeconfig

    def kubectl(self, *args, check=True, stdin=None):
        return self.cluster.kubectl(
            "-n", self.namespace, *args, kubeconfig=self.kubeconfig, check=check, stdin=stdin
        )

    def apply(self, body, *, verb="apply", check=True):
        return self.kubectl(verb, "-f", "-", stdin=json.dumps(body), check=check)

    def get(self, kind, name):
        return json.loads(self.kubectl("get", kind, name, "-o", "json").stdout)

    def refused(self, body, *, verb="apply"):
        done = self.apply(body, verb=verb, check=False)
        return done.stderr if done.returncode else None


def stamp_of(body):
    at = body["spec"]
    at = at["jobTemplate"]["spec"]["template"] if body["kind"] == "CronJob" else at["template"]
    return (at["metadata"].get("annotations") or {}).get(CREATOR)


def pod_stamp(body):
    return (body["metadata"].get("annotations") or {}).get(CREATOR)


async def install(cluster, **more):
    client = KubeClient.from_kubeconfig(cluster.kubeconfig)
    try:
        return await Installer(client, **more).install()
    finally:
        await client.close()


async def uninstall(cluster):
    client = KubeClient.from_kubeconfig(cluster.kubeconfig)
    try:
        return await Installer(client).uninstall()
    finally:
        await client.close()


def until_active(cluster, namespace):
    """Return when the API server acts by each policy: its caches follow what was written."""
    forged = {CREATOR: f"{ISSUER}#nobody"}
    bodies = [pod("probe", annotations=forged), job("probe", forged), cronjob("probe", forged)]
    dry = ("-n", namespace, "create", "--dry-run=server", "-f", "-", "-o", "json")

    def active():
        refused = all(
            cluster.kubectl(*dry, stdin=json.dumps(body), check=False).returncode for body in bodies
        )
        if not refused:
            return False
        made = json.loads(cluster.kubectl(*dry, stdin=json.dumps(pod("probe"))).stdout)
        return made["spec"].get("schedulingGates") == [{"name": GATE}]

    wait_for_sync(active, timeout_s=WITHIN_S, what="the policies to act")


@pytest.fixture
def installed(control_plane):
    """The policies are there, and act."""
    control_plane.wait_ready()
    asyncio.run(install(control_plane))
    name = control_plane.namespace({"twinfra.io/offload": "true"})
    until_active(control_plane, name)
    yield control_plane
    control_plane.delete_namespace(name)


@pytest.fixture
def offload(installed):
    """A namespace whose pods may go to virtual nodes."""
    name = installed.namespace({"twinfra.io/offload": "true"})
    yield name
    installed.delete_namespace(name)


@pytest.fixture
def person(installed, offload):
    """Make people who may edit in the namespace."""

    def make(sub, namespace=offload, *, name=None):
        user = name or f"{ISSUER}#{sub}-{new_uuid()[-6:]}"
        kubeconfig = installed.user_kubeconfig(user)
        installed.kubectl(
            "-n", namespace, "create", "rolebinding", f"b-{new_uuid()[-8:]}",
            "--clusterrole=admin", f"--user={user}",
        )  # fmt: skip
        made = Person(installed, namespace, user, kubeconfig)
        wait_for_sync(
            lambda: made.kubectl("auth", "can-i", "create", "pods", check=False).returncode == 0,
            timeout_s=WITHIN_S,
            what="the role",
        )
        return made

    return make


@pytest.fixture
def virtual_node(installed):
    """Make virtual nodes that are ready, as a virtual kubelet would."""
    made = []
    over = threading.Event()

    def beat():
        """Keep the nodes alive: nobody else renews their leases."""
        while not over.wait(10):
            now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
            patch = json.dumps({"spec": {"renewTime": now}})
            for name in made:
                words = ("patch", "lease", name, "-n", "kube-node-lease", "--type=merge")
                installed.kubectl(*words, "-p", patch, check=False)

    beating = threading.Thread(target=beat)
    beating.start()

    def make(*, architecture="amd64", labels=None, cpu="4", level="", **resources):
        name = f"hpc-{new_uuid()[-10:]}"
        own = {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture,
            "virtual-node.interlink/type": "virtual-kubelet",
            **({"twinfra.io/cpu-level": level} if level else {}),
            **(labels or {}),
        }
        taint = {"key": TAINT, "value": "true", "effect": "NoSchedule"}
        installed.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": own},
                "spec": {"taints": [taint]},
            }
        )
        has = {"cpu": cpu, "memory": "8Gi", "pods": "20", **resources}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        spec = {"holderIdentity": name, "leaseDurationSeconds": 40}
        where = {"name": name, "namespace": "kube-node-lease"}
        installed.apply({**lease, "metadata": where, "spec": spec})
        set_ready(installed, name, "True", capacity=has, allocatable=has)
        made.append(name)
        return name

    yield make
    over.set()
    beating.join()
    for name in made:
        installed.kubectl("delete", "node", name, "--wait=false", "--ignore-not-found")


def set_ready(cluster, name, status, **more):
    condition = {
        "type": "Ready",
        "status": status,
        "reason": "Test",
        "lastHeartbeatTime": "2036-01-01T00:00:00Z",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    body = {"status": {**more, "conditions": [condition]}}
    patch = ("patch", "node", name, "--subresource=status", "--type=merge")
    cluster.kubectl(*patch, "-p", json.dumps(body))


async def until(probe, what):
    return await wait_for(probe, timeout_s=WITHIN_S, what=what)
