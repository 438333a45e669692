"""What pods ask for of their site: users, folders, claims, objects for variables, hooks."""

import base64
import copy
import json

import pytest

from twinfra.compute.containers.keeper.model import GrpcCheck, Hook, HttpGet
from twinfra.compute.containers.model import HostAlias
from twinfra.compute.interlink.model.create import PodCreateRequest, RetrievedPodData, retrieve
from twinfra.compute.interlink.plugin import reports
from twinfra.compute.interlink.plugin.model import KeptPod, Owner, claims_folder
from twinfra.compute.interlink.pods.read import read_pod
from twinfra.compute.interlink.pods.rules import ClaimClass, Rules
from twinfra.core.errors import InvalidRequest, SiteRejected

UID = "7c1f0d52-6f2e-4b7e-9f0e-2f4f6a8d1c11"
POD = {
    "metadata": {"name": "train-0", "namespace": "ml", "uid": UID, "annotations": {}},
    "spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "python:3"}]},
}
RULES = Rules(
    host_paths={"/data": False, "/data/scratch": True},
    classes={
        "fast": ClaimClass("/ceph"),
        "archive": ClaimClass("/tape", read_only=True),
        "climate": ClaimClass(scope="climate"),
    },
    uid=1000,
    gids=frozenset({100, 200}),
)


def pod(change=None, annotations=None, **spec):
    body = copy.deepcopy(POD)
    body["spec"] |= spec
    body["spec"]["containers"][0] |= change or {}
    body["metadata"]["annotations"] = annotations or {}
    return body


def read(change=None, *, rules=RULES, config_maps=(), secrets=(), **more):
    request = PodCreateRequest(pod(change, **more), config_maps, secrets)
    return read_pod(retrieve(request), rules=rules)


def mount(path="/v", **more):
    return {"volumeMounts": [{"name": "v", "mountPath": path, **more}]}


@pytest.mark.story("securityContext runAsUser/fsGroup checked against the mapping")
@pytest.mark.parametrize(
    ("place", "field", "value"),
    [
        ("container", "runAsUser", 0),
        ("container", "runAsGroup", 7),
        ("pod", "runAsUser", 1001),
        ("pod", "fsGroup", 7),
        ("pod", "supplementalGroups", [100, 7]),
    ],
)
def test_22_a_user_or_group_is_refused_unless_it_is_the_mapped_one(place, field, value):
    security = {"securityContext": {field: value}}
    with pytest.raises(SiteRejected, match=field):
        read(security) if place == "container" else read(**security)


def test_22_the_mapped_user_and_groups_pass():
    security = {"runAsUser": 1000, "fsGroup": 100, "supplementalGroups": [100, 200]}
    request = read({"securityContext": {"readOnlyRootFilesystem": True}}, securityContext=security)
    main = request.containers[0]
    assert (main.uid, main.read_only_root) == (1000, True)
    assert read(rules=Rules(), securityContext={"runAsUser": 7}).containers[0].uid == 7


@pytest.mark.story("hostPath by allow-list")
@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/data", ("/data", False)),
        ("/data/a", ("/data", False)),
        ("/data/scratch/a", ("/data/scratch", True)),
        ("/database", None),
        ("/", None),
        ("/data/../etc", None),
        ("relative", None),
    ],
)
def test_a_path_of_the_site_is_refused_unless_it_is_given_out(path, found):
    volumes = [{"name": "v", "hostPath": {"path": path}}]
    if found is None:
        with pytest.raises(SiteRejected, match=r"volumes\[0\].hostPath.path"):
            read(volumes=volumes)
        return
    volume = read(volumes=volumes).volumes[0]
    assert (volume.host.root, volume.writable) == found


def test_a_device_or_socket_of_the_site_is_never_given_out():
    with pytest.raises(SiteRejected, match=r"hostPath\.type"):
        read(volumes=[{"name": "v", "hostPath": {"path": "/data/s", "type": "Socket"}}])


def claims(name="c", **entry):
    return {"annotations": {"twinfra.io/claims": json.dumps({name: entry})},
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": name}}]}  # fmt: skip


@pytest.mark.story("PVC by storage class mapped to a site path or to a dataset")
def test_a_claim_is_what_its_storage_class_is_here():
    fast = read(mount(), **claims(storageClassName="fast")).volumes[0]
    assert (fast.claim.root, fast.claim.name, fast.writable) == ("/ceph", "c", True)
    archive = read(mount(), **claims(storageClassName="archive")).volumes[0]
    assert not archive.writable
    data = read(mount("/in"), **claims("scenarios", storageClassName="climate"))
    assert [(m.did, str(m.target)) for m in data.inputs] == [("climate:scenarios", "/in")]


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        (claims(storageClassName="other"), SiteRejected),
        (claims(), SiteRejected),
        ({**claims(), "annotations": {"twinfra.io/claims": "["}}, InvalidRequest),
        ({**claims(), "annotations": {"twinfra.io/claims": '{"c": 1}'}}, InvalidRequest),
        (claims("../up", storageClassName="fast"), InvalidRequest),
        (claims("a/b", storageClassName="fast"), InvalidRequest),
    ],
)
def test_a_claim_is_refused_by_name_when_it_is_nothing_here(asked, error):
    with pytest.raises(error, match=r"(?i)claim"):
        read(mount(), **asked)


def test_claims_are_shared_in_a_namespace_and_by_nobody_else():
    def folder(issuer, sub, namespace="ml", **more):
        report = reports.new_report(read_pod(RetrievedPodData(pod())))
        owner = Owner(issuer, sub, **more)
        from dataclasses import replace

        report = replace(report, namespace=namespace)
        return claims_folder(KeptPod(report, owner, {}, "w", None))

    one = folder("https://k", "system:serviceaccount:ml:a")
    assert one == folder("https://k", "system:serviceaccount:ml:b")
    others = {
        folder("https://other", "system:serviceaccount:ml:a"),
        folder("https://k", "system:serviceaccount:web:a"),
        folder("https://k", "system:serviceaccount:web:a", "web"),
        folder("https://k", "alice"),
        folder("https://k", "bob"),
    }
    assert len(others | {one}) == 6


@pytest.mark.story("env (valueFrom, envFrom, downward API)")
def test_variables_come_from_whole_objects_and_single_keys():
    maps = ({"metadata": {"name": "m"}, "data": {"A": "1", "B": "$(A)"}},)
    keys = ({"metadata": {"name": "s"}, "data": {"K": base64.b64encode(b"$(id)\n").decode()}},)
    request = read(
        {
            "envFrom": [
                {"configMapRef": {"name": "m"}, "prefix": "P_"},
                {"secretRef": {"name": "s"}},
                {"secretRef": {"name": "gone", "optional": True}},
            ],
            "env": [
                {"name": "K", "value": "own"},
                {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "A"}}},
                {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "K"}}},
                {"name": "N", "valueFrom": {"secretKeyRef": {"name": "s", "key": "x",
                                                              "optional": True}}},
            ],
        },
        config_maps=maps,
        secrets=keys,
    )  # fmt: skip
    assert request.containers[0].env == {
        "P_A": "1", "P_B": "$(A)", "K": "own", "C": "1", "S": "$(id)\n"
    }  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"envFrom": [{"secretRef": {"name": "gone"}}]},
        {"env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "m", "key": "gone"}}}]},
    ],
)
def test_a_variable_is_refused_when_its_object_did_not_come(change):
    maps = ({"metadata": {"name": "m"}, "data": {"A": "1"}},)
    with pytest.raises(InvalidRequest, match="gone"):
        read(change, config_maps=maps)


def test_hooks_and_probes_are_read_with_their_own_graces():
    main = read(
        {
            "ports": [{"name": "web", "containerPort": 8080}],
            "lifecycle": {
                "postStart": {"exec": {"command": ["touch", "x"]}},
                "preStop": {"httpGet": {"port": "web", "path": "/bye"}},
            },
            "livenessProbe": {"grpc": {"port": 1, "service": "s"},
                              "terminationGracePeriodSeconds": 3},
        }
    ).containers[0]  # fmt: skip
    assert main.post_start == Hook(exec_command=("touch", "x"))
    assert main.pre_stop == Hook(http=HttpGet(8080, "/bye"))
    assert (main.liveness.grpc, main.liveness.grace_s) == (GrpcCheck(1, "s"), 3)
    sleeping = read({"lifecycle": {"preStop": {"sleep": {"seconds": 4}}}}).containers[0]
    assert sleeping.pre_stop == Hook(sleep_s=4)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"lifecycle": {"preStop": {"httpGet": {"port": 1, "host": "x"}}}}, "host"),
        ({"lifecycle": {"stopSignal": "SIGKILL"}}, "stopSignal"),
        ({"lifecycle": {"postStart": {"other": {}}}}, "postStart"),
        ({"readinessProbe": {"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": 1}},
         "readinessProbe.terminationGracePeriodSeconds"),
        (mount(subPath="a", subPathExpr="b"), "subPathExpr"),
        (mount(subPathExpr="$(NONE)"), "subPathExpr"),
        (mount(subPathExpr="$(UP)/x"), "subPath"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(change, field):
    env = {"env": [{"name": "UP", "value": ".."}]}
    with pytest.raises((InvalidRequest, SiteRejected), match=field):
        read({**change, **env}, volumes=[{"name": "v", "emptyDir": {}}])


def test_aliases_and_sub_paths_are_read():
    request = read(
        {**mount(subPathExpr="$(A)/b"), "env": [{"name": "A", "value": "a"}]},
        hostAliases=[{"ip": "10.0.0.1", "hostnames": ["db.local", "db"]}],
        volumes=[{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
    )
    assert request.aliases == (HostAlias("10.0.0.1", ("db.local", "db")),)
    assert request.containers[0].mounts[0].sub_path == "a/b"
    assert (request.volumes[0].memory, request.volumes[0].limit_bytes) == (True, 1 << 20)
    for bad in ({"ip": "nowhere", "hostnames": []}, {"ip": "::1", "hostnames": ["a b\n"]}):
        with pytest.raises(InvalidRequest, match="hostAliases"):
            read(hostAliases=[bad])


def test_memory_is_refused_where_there_are_no_namespaces():
    with pytest.raises(SiteRejected, match="medium"):
        read(rules=Rules(isolated=False), volumes=[{"name": "v", "emptyDir": {"medium": "Memory"}}])
