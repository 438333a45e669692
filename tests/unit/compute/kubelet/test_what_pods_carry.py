"""Variables, volumes and the downward API: what goes to the site with a pod."""

import base64

import pytest

from twinfra.compute.interlink.model.create import RetrievedContainer
from twinfra.compute.interlink.model.pod import pod_ref
from twinfra.compute.interlink.pods.environment import read_env
from twinfra.compute.interlink.pods.volumes import storage_class
from twinfra.compute.kubelet.model.claims import with_claims
from twinfra.compute.kubelet.model.downward import Host, field_of, resource_of
from twinfra.compute.kubelet.model.environment import literal, resolve, service_variables
from twinfra.compute.kubelet.model.objects import (
    Found,
    NotYet,
    ObjectKind,
    Service,
    Wanted,
    wanted_by,
)
from twinfra.compute.kubelet.model.volumes import TokenWanted, carry, tokens_wanted

HOST = Host("hpc-a", "10.0.0.7", {"cpu": "64", "memory": "256Gi"})
UID = "7c1f0d52-6f2e-4b7e-9f0e-2f4f6a8d1c11"

NOTHING = RetrievedContainer("c")


def pod(container=None, **spec):
    main = {"name": "main", "image": "i", **(container or {})}
    return {
        "metadata": {
            "name": "train-0",
            "namespace": "ml",
            "uid": UID,
            "labels": {"app": "train", "b": 'q"uote'},
            "annotations": {"note": "a\nb"},
        },
        "spec": {"containers": [main], "serviceAccountName": "robot", **spec},
    }


def b64(text):
    return base64.b64encode(text.encode()).decode()


def found(config=None, secrets=None, services=()):
    objects = {
        Wanted(ObjectKind.CONFIG_MAP, name): {"metadata": {"name": name}, "data": data}
        for name, data in (config or {}).items()
    }
    objects |= {
        Wanted(ObjectKind.SECRET, name): {
            "metadata": {"name": name},
            "data": {key: b64(value) for key, value in data.items()},
        }
        for name, data in (secrets or {}).items()
    }
    return Found(objects, tuple(services))


def env_of(made):
    return {entry["name"]: entry.get("value", "") for entry in made["spec"]["containers"][0]["env"]}


def ref(kind, name, key, **more):
    return {"valueFrom": {kind: {"name": name, "key": key, **more}}}


@pytest.mark.story("env, envFrom, secretKeyRef, fieldRef, quotes, JSON, empty: byte-exact")
def test_every_source_becomes_a_plain_value_when_resolved():
    env = [
        {"name": "PLAIN", "value": "x"},
        {"name": "EMPTY", "value": ""},
        {"name": "JSON", "value": '{"a": ["b", "c\'d"]}'},
        {"name": "PASS", **ref("secretKeyRef", "s", "pass")},
        {"name": "CONF", **ref("configMapKeyRef", "c", "k")},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
    ]
    container = {
        "env": env,
        "envFrom": [{"prefix": "X_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s"}}],
        "resources": {"limits": {"memory": "1Gi"}},
    }
    made = resolve(pod(container), found({"c": {"k": 'v "q"'}}, {"s": {"pass": "p$w\n"}}), HOST)
    assert env_of(made) == {
        "X_k": 'v "q"', "pass": "p$w\n", "PLAIN": "x", "EMPTY": "", "JSON": '{"a": ["b", "c\'d"]}',
        "PASS": "p$w\n", "CONF": 'v "q"', "NODE": "hpc-a", "MEM": str(1 << 30),
    }  # fmt: skip
    assert "envFrom" not in made["spec"]["containers"][0]


@pytest.mark.parametrize("value", ["$(HOME)", "a$$b", "$$(X)", "plain $5", "$", "$(", "$$$(A)$$"])
def test_a_secret_stays_itself_when_it_looks_like_a_reference(value):
    container = {
        "env": [{"name": "HOME", "value": "/h"}, {"name": "P", **ref("secretKeyRef", "s", "p")}]
    }
    made = resolve(pod(container), found(secrets={"s": {"p": value}}), HOST)
    there = read_env(made["spec"]["containers"][0], pod_ref(pod()), "c", NOTHING)
    assert there["P"] == value
    assert literal("plain $5") == "plain $5"


def test_a_variable_refers_to_one_from_a_secret_when_it_stands_before():
    container = {
        "env": [
            {"name": "P", **ref("secretKeyRef", "s", "p")},
            {"name": "URL", "value": "db://u:$(P)@h"},
        ]
    }
    made = resolve(pod(container), found(secrets={"s": {"p": "w"}}), HOST)
    assert (
        read_env(made["spec"]["containers"][0], pod_ref(pod()), "c", NOTHING)["URL"] == "db://u:w@h"
    )


@pytest.mark.story("A missing object is waited for, named; optional ones are not")
def test_waits_by_name_when_an_object_or_key_is_missing():
    with pytest.raises(NotYet, match='secret "s" not found'):
        resolve(pod({"env": [{"name": "P", **ref("secretKeyRef", "s", "p")}]}), found(), HOST)
    with pytest.raises(NotYet, match='key "q" in secret "s"'):
        resolve(
            pod({"env": [{"name": "P", **ref("secretKeyRef", "s", "q")}]}),
            found(secrets={"s": {}}),
            HOST,
        )
    optional = {
        "env": [{"name": "P", **ref("secretKeyRef", "s", "p", optional=True)}],
        "envFrom": [{"configMapRef": {"name": "c", "optional": True}}],
    }
    assert "env" not in resolve(pod(optional), found(), HOST)["spec"]["containers"][0]


def test_services_are_told_when_links_are_on():
    service = Service("my-db", "10.0.0.9", (("sql", 5432, "TCP"), ("", 80, "TCP")))
    told = service_variables([service])
    assert told["MY_DB_SERVICE_HOST"] == "10.0.0.9"
    assert told["MY_DB_SERVICE_PORT"] == "5432"
    assert told["MY_DB_SERVICE_PORT_SQL"] == "5432"
    assert told["MY_DB_PORT_80_TCP_ADDR"] == "10.0.0.9"
    assert told["MY_DB_PORT"] == "tcp://10.0.0.9:5432"
    made = resolve(pod(), found(services=[service]), HOST)
    assert env_of(made)["MY_DB_SERVICE_HOST"] == "10.0.0.9"
    assert service_variables([Service("headless", "None", (("", 1, "TCP"),))]) == {}


@pytest.mark.story("configMap, secret, projected, downwardAPI: right content")
def test_all_volumes_come_along_when_carried():
    volumes = [
        {"name": "cfg", "configMap": {"name": "c"}},
        {"name": "sec", "secret": {"secretName": "s"}},
        {
            "name": "tok",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"configMap": {"name": "kube-root-ca.crt"}},
                    {
                        "secret": {
                            "name": "s",
                            "items": [{"key": "p", "path": "deep/p", "mode": 256}],
                        }
                    },
                    {
                        "downwardAPI": {
                            "items": [
                                {"path": "ns", "fieldRef": {"fieldPath": "metadata.namespace"}}
                            ]
                        }
                    },
                ]
            },
        },
        {
            "name": "info",
            "downwardAPI": {
                "items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]
            },
        },
    ]
    made = pod(volumes=volumes, imagePullSecrets=[{"name": "pull"}, {"name": "absent"}])
    ca = "-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n"
    have = found(
        {"c": {"a.ini": "x=1\n"}, "kube-root-ca.crt": {"ca.crt": ca}},
        {"s": {"p": "w"}, "pull": {".dockerconfigjson": "{}"}},
    )
    (wanted,) = tokens_wanted(made)
    assert wanted == TokenWanted("", 3607)
    carried = carry(made, have, {wanted: "eyJ"}, HOST)
    assert [entry["metadata"]["name"] for entry in carried.config_maps] == ["c"]
    assert [entry["metadata"]["name"] for entry in carried.secrets] == ["s", "pull"]
    projected = {entry["metadata"]["name"]: entry["data"] for entry in carried.projected_maps}
    assert projected["tok"] == {"token": "eyJ", "ca.crt": ca, "deep/p": "w", "ns": "ml"}
    assert projected["info"]["labels"] == 'app="train"\nb="q\\"uote"'
    replaced = carry(made, have, {wanted: "eyJ"}, HOST, root_ca="OURS")
    assert replaced.projected_maps[0]["data"]["ca.crt"] == "OURS"


def test_an_optional_volume_is_left_out_when_its_object_is_missing():
    volumes = [
        {"name": "a", "configMap": {"name": "c", "optional": True}},
        {"name": "b", "projected": {"sources": [{"secret": {"name": "s", "optional": True}}]}},
    ]
    carried = carry(pod(volumes=volumes), found(), {}, HOST)
    assert carried.config_maps == ()
    assert carried.projected_maps[0]["data"] == {}
    volumes[0]["configMap"].pop("optional")
    with pytest.raises(NotYet, match='configmap "c" not found'):
        carry(pod(volumes=volumes), found(), {}, HOST)


def test_what_a_pod_names_is_sorted_by_need():
    container = {
        "env": [{"name": "P", **ref("secretKeyRef", "s", "p")}],
        "envFrom": [{"configMapRef": {"name": "c", "optional": True}}],
    }
    needed, optional = wanted_by(pod(container, imagePullSecrets=[{"name": "pull"}]))
    assert needed == {Wanted(ObjectKind.SECRET, "s")}
    assert optional == {
        Wanted(ObjectKind.CONFIG_MAP, "c"),
        Wanted(ObjectKind.SECRET, "pull"),
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "train-0"),
        ("metadata.uid", UID),
        ("metadata.labels['app']", "train"),
        ("metadata.annotations['note']", "a\nb"),
        ("metadata.annotations", 'note="a\\nb"'),
        ("spec.serviceAccountName", "robot"),
        ("status.podIP", "10.0.0.7"),
        ("status.hostIP", "10.0.0.7"),
    ],
)
def test_gives_the_field_when_the_downward_api_has_it(path, value):
    assert field_of(pod(), path, HOST) == value


@pytest.mark.parametrize(
    ("selector", "value"),
    [
        ({"resource": "limits.cpu"}, "2"),
        ({"resource": "limits.cpu", "divisor": "1m"}, "1500"),
        ({"resource": "limits.memory", "divisor": "1Mi"}, "512"),
        ({"resource": "requests.cpu"}, "1"),
        ({"resource": "limits.memory", "containerName": "other"}, str(256 << 30)),
    ],
)
def test_gives_the_limit_in_divisors_when_asked(selector, value):
    container = {
        "name": "main",
        "resources": {"limits": {"cpu": "1500m", "memory": "512Mi"}, "requests": {"cpu": "250m"}},
    }
    made = pod(container)
    made["spec"]["containers"].append({"name": "other"})
    assert resource_of(made, selector, made["spec"]["containers"][0], HOST) == value


def test_a_claims_class_is_told_and_a_users_word_on_it_is_not():
    volumes = [
        {"name": "w", "persistentVolumeClaim": {"claimName": name}} for name in ("new", "old")
    ]
    made = pod(volumes=volumes)
    made["metadata"]["annotations"]["twinfra.io/claims"] = '{"new": {"storageClassName": "best"}}'
    old = {"annotations": {"volume.beta.kubernetes.io/storage-class": "slow"}}
    have = Found(
        {
            Wanted(ObjectKind.CLAIM, "new"): {"metadata": {}, "spec": {"storageClassName": "fast"}},
            Wanted(ObjectKind.CLAIM, "old"): {"metadata": old, "spec": {}},
        }
    )
    told = with_claims(made, have)
    assert told["metadata"]["annotations"]["note"] == "a\nb"
    assert [storage_class(told, name) for name in ("new", "old")] == ["fast", "slow"]
    del made["spec"]["volumes"]
    assert "twinfra.io/claims" not in with_claims(made, have)["metadata"]["annotations"]
