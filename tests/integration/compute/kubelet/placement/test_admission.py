"""What the API server makes of pods: zero bytes of difference, and nobody's name but one's own."""

import asyncio
import json

import pytest

from twinfra.core.ids import new_uuid
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.kubernetes import outside_issuer
from twinfra.testkit.waiting import wait_for_sync

from .conftest import (
    CREATOR,
    GATE,
    ISSUER,
    TAINT,
    WITHIN_S,
    Person,
    cronjob,
    install,
    job,
    pod,
    pod_stamp,
    scaled,
    stamp_of,
    until_active,
)

pytestmark = [pytest.mark.real("Kubernetes"), pytest.mark.timeout(600)]

UNCHANGED = (
    pod("a-pod"),
    job("a-job"),
    cronjob("a-cronjob"),
    scaled("Deployment", "a-deployment"),
    scaled("StatefulSet", "a-set"),
)
KINDS = ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet")


@pytest.mark.story("Unchanged means a diff of zero bytes.")
def test_a_manifest_applied_again_has_no_difference(person):
    alice = person("alice")
    for body in UNCHANGED:
        alice.apply(body)
        diff = alice.apply(body, verb="diff", check=False)
        assert (diff.returncode, diff.stdout) == (0, ""), diff.stdout + diff.stderr
        assert "unchanged" in alice.apply(body).stdout


@pytest.mark.story("toleration, placement gate, creator")
def test_a_pod_is_given_toleration_gate_and_creator(person):
    alice = person("alice")
    alice.apply(pod("plain"))
    made = alice.get("pod", "plain")
    assert made["spec"]["schedulingGates"] == [{"name": GATE}]
    ours = {"key": TAINT, "operator": "Exists", "effect": "NoSchedule"}
    assert ours in made["spec"]["tolerations"]
    assert pod_stamp(made) == alice.name


def test_what_a_pod_has_already_stays_and_is_not_given_twice(person):
    alice = person("alice")
    own = {"key": "night", "operator": "Exists", "effect": "NoExecute"}
    ours = {"key": TAINT, "operator": "Exists"}
    gates = [{"name": "other.test/gate"}]
    alice.apply(pod("rich", tolerations=[own, ours], schedulingGates=gates))
    made = alice.get("pod", "rich")["spec"]
    assert [each["key"] for each in made["tolerations"]].count(TAINT) == 1
    assert own in made["tolerations"]
    assert made["schedulingGates"] == [*gates, {"name": GATE}]


@pytest.mark.story("Pods with `nodeName` get the toleration only.")
def test_a_pod_with_a_node_gets_the_toleration_only(person, virtual_node):
    alice = person("alice")
    alice.apply(pod("bound", nodeName=virtual_node()))
    made = alice.get("pod", "bound")["spec"]
    assert "schedulingGates" not in made
    assert any(each["key"] == TAINT for each in made["tolerations"])


def test_a_pod_that_wants_to_stay_is_left_alone(person):
    alice = person("alice")
    alice.apply(pod("stays", annotations={"twinfra.io/offload": "false"}))
    assert "schedulingGates" not in alice.get("pod", "stays")["spec"]


@pytest.mark.story("to namespaces that an operator labels `twinfra.io/offload=true`")
def test_a_namespace_without_the_label_is_untouched(installed, person, kube_namespace):
    alice = person("alice", kube_namespace)
    for body in UNCHANGED:
        alice.apply(body)
    made = alice.get("pod", "a-pod")
    assert "schedulingGates" not in made["spec"]
    assert pod_stamp(made) is None
    assert all(each["key"] != TAINT for each in made["spec"]["tolerations"])
    assert stamp_of(alice.get("deployment", "a-deployment")) is None


@pytest.mark.story("the creator of the top object is stamped into the pod template")
def test_controllers_copy_the_creators_stamp_to_pods(person):
    alice = person("alice")
    for body in UNCHANGED[1:]:
        alice.apply(body)
        assert stamp_of(alice.get(body["kind"], body["metadata"]["name"])) == alice.name
    alice.kubectl("create", "job", "by-hand", "--from=cronjob/a-cronjob")

    def pods():
        return json.loads(alice.kubectl("get", "pods", "-o", "json").stdout)["items"]

    owners = {"Job": 2, "ReplicaSet": 1, "StatefulSet": 1}

    def made():
        kinds = [each["metadata"]["ownerReferences"][0]["kind"] for each in pods()]
        return {kind: kinds.count(kind) for kind in owners} == owners

    wait_for_sync(made, timeout_s=WITHIN_S, what="the controllers' pods")
    assert {pod_stamp(each) for each in pods()} == {alice.name}
    assert all(each["spec"]["schedulingGates"] == [{"name": GATE}] for each in pods())


@pytest.mark.story("keeps everyone else from setting or changing the stamp")
def test_nobody_makes_anything_in_the_name_of_another(person, installed, offload):
    alice, mallory = person("alice"), person("mallory")
    admin = Person(installed, offload, "admin", installed.kubeconfig)
    theirs = {CREATOR: alice.name}
    bodies = [
        pod("forged", annotations=theirs),
        job("forged", theirs),
        cronjob("forged", theirs),
        *(
            scaled(kind, "forged", theirs) if kind != "ReplicaSet" else scaled(kind, "rs", theirs)
            for kind in KINDS
        ),
        {
            "apiVersion": "v1",
            "kind": "ReplicationController",
            "metadata": {"name": "forged"},
            "spec": {
                "replicas": 1,
                "selector": {"app": "third-party"},
                "template": scaled("Deployment", "x", theirs)["spec"]["template"],
            },
        },
    ]
    for body in bodies:
        for somebody in (mallory, admin):
            said = somebody.refused(body, verb="create")
            assert said, (somebody.name, body["kind"])
            assert CREATOR in said


def test_forgery_is_refused_in_namespaces_without_the_label_too(person, kube_namespace):
    mallory = person("mallory", kube_namespace)
    theirs = {CREATOR: f"{ISSUER}#alice"}
    assert CREATOR in mallory.refused(scaled("Deployment", "early", theirs))
    assert CREATOR in mallory.refused(pod("early", annotations=theirs))


def test_a_copy_of_somebodys_object_is_refused_until_the_stamp_is_out(person):
    alice, mallory = person("alice"), person("mallory")
    alice.apply(job("mine"))
    copy = alice.get("job", "mine")
    annotations = copy["spec"]["template"]["metadata"]["annotations"]
    stolen = job("copied", annotations)
    assert CREATOR in mallory.refused(stolen)
    mallory.apply(job("copied"))
    assert stamp_of(mallory.get("job", "copied")) == mallory.name


def test_nobody_changes_the_stamp_of_what_is_there(person):
    alice, mallory = person("alice"), person("mallory")
    alice.apply(pod("mine"))
    alice.apply(scaled("Deployment", "mine"))
    for name in (mallory.name, f"{ISSUER}#root"):
        note = ("annotate", "--overwrite", "pod", "mine", f"{CREATOR}={name}")
        assert mallory.kubectl(*note, check=False).returncode
    mallory.kubectl("annotate", "pod", "mine", f"{CREATOR}-")
    assert pod_stamp(mallory.get("pod", "mine")) == alice.name
    patch = {"spec": {"template": {"metadata": {"annotations": {CREATOR: f"{ISSUER}#root"}}}}}
    words = ("patch", "deployment", "mine", "-p", json.dumps(patch))
    assert CREATOR in mallory.kubectl(*words, check=False).stderr


def test_a_pods_status_and_its_binding_carry_no_stamp_either(person, installed, offload):
    alice = person("alice")
    admin = Person(installed, offload, "admin", installed.kubeconfig)
    alice.apply(pod("mine", annotations={"twinfra.io/offload": "false"}))
    patch = {"metadata": {"annotations": {CREATOR: f"{ISSUER}#root"}}}
    words = ("patch", "pod", "mine", "--subresource=status", "-p", json.dumps(patch))
    assert CREATOR in admin.kubectl(*words, check=False).stderr
    binding = {
        "apiVersion": "v1",
        "kind": "Binding",
        "metadata": {"name": "mine", **patch["metadata"]},
        "target": {"apiVersion": "v1", "kind": "Node", "name": "nowhere"},
    }
    path = f"/api/v1/namespaces/{offload}/pods/mine/binding"
    done = admin.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(binding), check=False)
    assert CREATOR in done.stderr
    assert pod_stamp(alice.get("pod", "mine")) == alice.name


def test_who_changes_what_runs_becomes_its_creator(person, installed, offload):
    alice, bob = person("alice"), person("bob")
    alice.apply(scaled("Deployment", "shared", replicas=0))
    bob.kubectl("scale", "deployment", "shared", "--replicas=1")
    assert stamp_of(bob.get("deployment", "shared")) == alice.name
    bob.kubectl("set", "image", "deployment/shared", "main=busybox:1")
    assert stamp_of(bob.get("deployment", "shared")) == bob.name
    installed.kubectl("-n", offload, "set", "image", "deployment/shared", "main=busybox:2")
    assert stamp_of(bob.get("deployment", "shared")) is None
    alice.apply(cronjob("nightly"))
    changed = cronjob("nightly")
    changed["spec"]["jobTemplate"]["spec"]["template"]["spec"]["priority"] = 0
    container = {"name": "main", "image": "busybox:1"}
    changed["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"] = [container]
    del changed["spec"]["jobTemplate"]["spec"]["template"]["spec"]["priority"]
    bob.apply(changed)
    assert stamp_of(bob.get("cronjob", "nightly")) == bob.name


def test_only_its_creator_changes_a_pods_image(person):
    alice, mallory = person("alice"), person("mallory")
    alice.apply(pod("mine"))
    swap = ("set", "image", "pod/mine", "main=evil:1")
    assert mallory.kubectl(*swap, check=False).returncode
    mallory.kubectl("label", "pod", "mine", "seen=yes")
    alice.kubectl("set", "image", "pod/mine", "main=python:3.13")


@pytest.mark.story("Forgery is tested.")
def test_a_controllers_name_does_not_help(person, installed, offload):
    mallory = person("mallory")
    theirs = {CREATOR: f"{ISSUER}#alice"}
    whom = "system:serviceaccount:kube-system:job-controller"
    words = ("create", "--validate=false", "-f", "-", f"--as={whom}")
    done = mallory.kubectl(*words, stdin=json.dumps(pod("as", annotations=theirs)), check=False)
    assert "cannot impersonate" in done.stderr
    token = ("create", "token", "job-controller", "-n", "kube-system")
    assert "forbidden" in mallory.kubectl(*token, check=False).stderr
    mallory.kubectl("create", "serviceaccount", "job-controller")
    mallory.kubectl(
        "create", "rolebinding", "mine", "--clusterrole=edit",
        f"--serviceaccount={offload}:job-controller",
    )  # fmt: skip
    kubeconfig = installed.token_kubeconfig(
        f"sa-{new_uuid()[-8:]}", installed.token(offload, "job-controller")
    )
    robot = Person(installed, offload, "job-controller", kubeconfig)
    wait_for_sync(
        lambda: robot.kubectl("auth", "can-i", "create", "pods", check=False).returncode == 0,
        timeout_s=WITHIN_S,
        what="the role",
    )
    assert CREATOR in robot.refused(pod("robot", annotations=theirs))
    assert CREATOR in robot.refused(job("robot", theirs))
    robot.apply(pod("honest"))
    assert pod_stamp(robot.get("pod", "honest")) is None


@pytest.mark.story("Where the API server trusts the federation's issuers")
def test_the_federations_person_is_stamped_as_issuer_and_subject(own_control_plane, context):
    cluster = own_control_plane
    cluster.wait_ready()
    asyncio.run(install(cluster))
    offload = cluster.namespace({"twinfra.io/offload": "true"})
    until_active(cluster, offload)
    with TestIssuer(tls=context.tls_server(), port=context.home.port("issuer")) as issuer:
        cafile, prefix = context.tls_server().cafile, f"{issuer.url}#"
        outside = outside_issuer(issuer.url, ["kubernetes"], cafile=cafile, username_prefix=prefix)
        cluster.trust_issuers(outside)
        token = issuer.token("alice", aud="kubernetes")
        kubeconfig = cluster.token_kubeconfig(f"p-{new_uuid()[-8:]}", token)
        alice = Person(cluster, offload, f"{issuer.url}#alice", kubeconfig)
        role = ("create", "rolebinding", "alice", "--clusterrole=edit", f"--user={alice.name}")
        cluster.kubectl("-n", offload, *role)
        wait_for_sync(
            lambda: alice.kubectl("auth", "can-i", "create", "pods", check=False).returncode == 0,
            timeout_s=WITHIN_S,
            what="the person's role",
        )
        alice.apply(pod("federated"))
        assert pod_stamp(alice.get("pod", "federated")) == alice.name
        cluster.trust_issuers()
    cluster.delete_namespace(offload)
