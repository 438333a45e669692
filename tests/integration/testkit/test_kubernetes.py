"""The control plane fixture against the real servers of Kubernetes."""

import json
import os
import signal
import ssl
import subprocess
import urllib.error
import urllib.request

import pytest
from joserfc import jwt
from joserfc.jwk import KeySet

from twinfra.core.ids import new_uuid
from twinfra.core.tls import server_tls
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.kubernetes import Cluster, outside_issuer
from twinfra.testkit.waiting import wait_for, wait_for_sync

pytestmark = pytest.mark.real("Kubernetes")


def _node(name):
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"test": name, "kubernetes.io/hostname": name}},
    }


READY = {
    "status": {
        "capacity": {"cpu": "4", "memory": "4Gi", "pods": "20"},
        "allocatable": {"cpu": "4", "memory": "4Gi", "pods": "20"},
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "Test",
                "lastHeartbeatTime": "2030-01-01T00:00:00Z",
                "lastTransitionTime": "2020-01-01T00:00:00Z",
            }
        ],
    }
}


@pytest.fixture
def node(control_plane):
    """A node that somebody made by hand and called ready."""
    name = f"node-{new_uuid()[-12:]}"
    control_plane.apply(_node(name))
    patch = ("patch", "node", name, "--subresource=status", "--type=merge")
    control_plane.kubectl(*patch, "-p", json.dumps(READY))
    yield name
    control_plane.kubectl("delete", "node", name, "--wait=false")


def _pod(name, **spec):
    container = {"name": "main", "image": "example.test/any:1"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [container], **spec},
    }


def _read(url, cafile):
    tls = ssl.create_default_context(cafile=cafile)
    with urllib.request.urlopen(url, timeout=30, context=tls) as answer:
        return json.load(answer)


def test_client_and_server_understand_each_others_version(control_plane):
    versions = control_plane.kubectl_json("version")
    assert versions["serverVersion"]["gitVersion"].startswith("v1.")
    assert "v1.3" in versions["clientVersion"]["gitVersion"]


def test_mutating_admission_policies_are_on_as_shipped(own_control_plane):
    listed = own_control_plane.kubectl(
        "api-resources", "--api-group=admissionregistration.k8s.io", "-o", "name"
    ).stdout.split()
    served = own_control_plane.kubectl("get", "--raw", "/apis/admissionregistration.k8s.io/v1")
    names = {each["name"] for each in json.loads(served.stdout)["resources"]}
    assert {"mutatingadmissionpolicies", "mutatingadmissionpolicybindings"} <= names
    assert "mutatingadmissionpolicies.admissionregistration.k8s.io" in listed


def test_a_namespace_has_its_default_account(control_plane, kube_namespace):
    pod = _pod("sits")
    control_plane.apply(pod, namespace=kube_namespace)
    made = control_plane.kubectl_json("get", "pod", "sits", "-n", kube_namespace)
    assert made["spec"]["serviceAccountName"] == "default"
    assert any("projected" in each for each in made["spec"]["volumes"])


def test_a_service_accounts_token_verifies_by_the_keys_of_its_issuer(own_control_plane):
    name = own_control_plane.namespace()
    token = own_control_plane.token(name, audiences=["https://site.test"])
    about = _read(
        f"{own_control_plane.issuer}/.well-known/openid-configuration", own_control_plane.ca
    )
    keys = KeySet.import_key_set(_read(about["jwks_uri"], own_control_plane.ca))
    claims = jwt.decode(token, keys).claims
    assert about["issuer"] == claims["iss"] == own_control_plane.issuer
    assert claims["aud"] == ["https://site.test"]
    assert claims["sub"] == f"system:serviceaccount:{name}:default"
    own_control_plane.delete_namespace(name)


def test_the_scheduler_places_a_pod_on_a_node_made_by_hand(control_plane, kube_namespace, node):
    control_plane.apply(_pod("goes", nodeSelector={"test": node}), namespace=kube_namespace)
    get = ("get", "pod", "goes", "-n", kube_namespace, "-o", "jsonpath={.spec.nodeName}")
    wait_for_sync(lambda: control_plane.kubectl(*get).stdout == node, timeout_s=120)


def test_a_person_may_what_roles_say_and_no_more(control_plane, kube_namespace):
    alice = control_plane.user_kubeconfig("alice", ["climate"])
    mine = ("-n", kube_namespace)
    refused = control_plane.kubectl("get", "pods", *mine, kubeconfig=alice, check=False)
    assert "Forbidden" in refused.stderr
    control_plane.kubectl(
        "create", "rolebinding", "see", "--clusterrole=view", "--group=climate", *mine
    )
    wait_for_sync(
        lambda: (
            control_plane.kubectl("get", "pods", *mine, kubeconfig=alice, check=False).returncode
            == 0
        ),
        timeout_s=60,
    )
    who = control_plane.kubectl_json("auth", "whoami", kubeconfig=alice)["status"]["userInfo"]
    assert who["username"] == "alice"
    assert "climate" in who["groups"]


def test_a_nodes_certificate_may_write_its_own_node_only(control_plane, node):
    kubeconfig = control_plane.user_kubeconfig(f"system:node:{node}", ["system:nodes"])
    label = ("label", "--overwrite", "node", node, "node.kubernetes.io/test=yes")
    control_plane.kubectl(*label, kubeconfig=kubeconfig)
    other = f"node-{new_uuid()[-12:]}"
    refused = control_plane.kubectl(
        "create", "-f", "-", stdin=json.dumps(_node(other)), kubeconfig=kubeconfig, check=False
    )
    assert "is not allowed to modify node" in refused.stderr


async def test_a_token_of_an_outside_issuer_is_taken_once_trusted(own_control_plane, tmp_path):
    tls = server_tls(tmp_path)
    with TestIssuer(tls=tls) as issuer:
        token = issuer.token("alice", aud="kubernetes", groups=["climate"])
        kubeconfig = own_control_plane.token_kubeconfig("outsider", token)

        def who():
            return own_control_plane.kubectl(
                "auth", "whoami", "-o", "json", kubeconfig=kubeconfig, check=False
            )

        assert who().returncode != 0
        own_control_plane.trust_issuers(
            outside_issuer(
                issuer.url,
                ["kubernetes"],
                cafile=tls.cafile,
                username_prefix="egi:",
                groups_claim="wlcg.groups",
            )
        )
        done = await wait_for(
            lambda: (said := who()).returncode == 0 and said, timeout_s=60, what="the token"
        )
        own_control_plane.trust_issuers()
        await wait_for(lambda: who().returncode != 0, timeout_s=60, what="the refusal")
    info = json.loads(done.stdout)["status"]["userInfo"]
    assert info["username"] == "egi:alice"
    assert "/climate" in info["groups"]


def test_another_cluster_is_used_by_its_kubeconfig_alone(own_control_plane, tmp_path):
    other = Cluster(own_control_plane.kubeconfig, tmp_path)
    other.wait_ready()
    assert other.url == own_control_plane.url
    name = other.namespace({"twinfra.io/offload": "true"})
    bob = other.user_kubeconfig("bob", ["climate"])
    who = other.kubectl_json("auth", "whoami", kubeconfig=bob)["status"]["userInfo"]
    assert who["username"] == "bob"
    assert "climate" in who["groups"]
    other.delete_namespace(name)


def test_every_door_is_on_loopback(own_control_plane):
    listed = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    pids = {f"pid={pid}," for pid in own_control_plane.pids.values()}
    doors = [line.split()[3] for line in listed.splitlines() if any(p in line for p in pids)]
    assert len(own_control_plane.pids) == 4
    assert len(doors) >= 5
    assert [door for door in doors if not door.startswith("127.0.0.1:")] == []


def test_a_dead_controller_manager_is_started_again(own_control_plane):
    own_control_plane.wait_ready()
    before = own_control_plane.pids["kube-controller-manager"]
    os.kill(before, signal.SIGKILL)
    wait_for_sync(
        lambda: "kube-controller-manager" not in own_control_plane.pids,
        timeout_s=30,
    )
    own_control_plane.wait_ready()
    assert own_control_plane.pids["kube-controller-manager"] != before
    own_control_plane.delete_namespace(own_control_plane.namespace())


def test_objects_outlive_an_api_server_that_was_killed(own_control_plane):
    name = own_control_plane.namespace()
    own_control_plane.kill_apiserver()
    assert own_control_plane.kubectl("get", "ns", name, check=False).returncode != 0
    own_control_plane.wait_ready()
    assert own_control_plane.kubectl("get", "ns", name, "-o", "name").stdout.strip() == (
        f"namespace/{name}"
    )
    own_control_plane.delete_namespace(name)


def test_a_watch_from_before_a_compaction_is_told_that_it_is_gone(own_control_plane):
    name = own_control_plane.namespace()
    where = f"/api/v1/namespaces/{name}/configmaps"
    listed = json.loads(own_control_plane.kubectl("get", "--raw", where).stdout)
    version = listed["metadata"]["resourceVersion"]
    own_control_plane.kubectl("create", "configmap", "later", "-n", name)
    own_control_plane.forget_history()
    watch = f"{where}?watch=true&resourceVersion={version}&timeoutSeconds=5"
    said = own_control_plane.kubectl("get", "--raw", watch, check=False)
    assert "410" in said.stdout + said.stderr or "too old" in said.stdout + said.stderr
    own_control_plane.delete_namespace(name)


def test_a_kubelets_certificate_is_for_loopback_and_of_the_authority(own_control_plane):
    pair = own_control_plane.kubelet_serving("site-a")
    shown = subprocess.run(
        ["openssl", "verify", "-CAfile", own_control_plane.kubelet_client_ca, "-verify_ip",
         "127.0.0.1", "-purpose", "sslserver", pair.certfile],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
