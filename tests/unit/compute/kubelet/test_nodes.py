"""What a virtual node looks like."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from twinfra.cli.kubelet import nodes_of
from twinfra.compute.interlink.client import Ping
from twinfra.compute.kubelet.model.node import (
    NO_SCHEDULE,
    NodeFacts,
    capacity,
    conditions,
    labels,
    node_object,
    node_status,
    taints,
    with_machine,
)
from twinfra.core.errors import InvalidRequest

NOW = datetime(2026, 7, 20, 10, 0, tzinfo=UTC)
FACTS = NodeFacts("hpc-a", "10.0.0.7", architecture="arm64", labels={"site": "a"})


@pytest.mark.story("Nodes publish real os, architecture and CPU level")
def test_tells_the_sites_machines_when_labelled():
    found = labels(NodeFacts("n", "a", architecture="arm64", cpu_level="x86-64-v3"))
    assert found["kubernetes.io/os"] == "linux"
    assert found["kubernetes.io/arch"] == "arm64"
    assert found["twinfra.io/cpu-level"] == "x86-64-v3"
    assert found["virtual-node.interlink/type"] == "virtual-kubelet"


@pytest.mark.parametrize(
    ("told", "facts", "wanted"),
    [
        ({"architecture": "arm64"}, NodeFacts("n", "a"), ("linux", "arm64", None)),
        ({}, NodeFacts("n", "a"), ("linux", "amd64", None)),
        ({"os": ["x"], "architecture": "a b", "cpu_level": 3}, FACTS, ("linux", "arm64", None)),
        (
            {"os": "linux", "architecture": "amd64", "cpu_level": "x86-64-v4"},
            NodeFacts("n", "a", cpu_level="x86-64-v2"),
            ("linux", "amd64", "x86-64-v2"),
        ),
    ],
)
def test_a_setting_comes_before_the_ping_and_a_guess_after_it(told, facts, wanted):
    found = labels(with_machine(facts, Ping.from_wire({"machine": told})))
    keys = ("kubernetes.io/os", "kubernetes.io/arch", "twinfra.io/cpu-level")
    assert tuple(found.get(key) for key in keys) == wanted


def test_has_provider_id_and_system_taint_when_made():
    made = node_object(FACTS, {})
    assert made["spec"]["providerID"] == "external:///hpc-a"
    assert made["spec"]["taints"] == [NO_SCHEDULE]


@pytest.mark.story("the node declares `ExtendWebSocketsToKubelet`")
@pytest.mark.parametrize(("port", "features"), [(10250, ["ExtendWebSocketsToKubelet"]), (0, None)])
def test_declares_what_its_api_can_do_when_it_has_one(port, features):
    status = node_status(replace(FACTS, port=port), {}, [])
    assert status.get("declaredFeatures") == features


@pytest.mark.story("Ping resources replace the named fields only; junk is ignored")
@pytest.mark.parametrize(
    "body",
    [
        "text",
        [],
        None,
        {"resources": {"cpu": "-4", "memory": "lots", "pods": "x"}},
        {"resources": {"accelerators": [{"resourceType": 3, "available": "-1"}]}},
    ],
)
def test_capacity_stays_when_the_ping_says_nothing_usable(body):
    before = {"cpu": "100", "memory": "3000G", "pods": "10"}
    assert capacity(before, Ping.from_wire(body)) == before


def test_capacity_follows_when_the_ping_names_fields():
    body = {
        "resources": {
            "cpu": "128",
            "accelerators": [{"resourceType": "nvidia.com/gpu", "available": "8"}],
        },
        "free": {"cpu": 3},
    }
    found = capacity({"cpu": "1", "memory": "2G", "pods": "3"}, Ping.from_wire(body))
    assert found == {"cpu": "128", "memory": "2G", "pods": "3", "nvidia.com/gpu": "8"}


def test_taints_keep_others_and_the_system_one_when_the_ping_brings_new():
    cordoned = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    old = {"key": "site.example/old", "value": "", "effect": "NoSchedule"}
    ping = Ping(
        taints=[
            {"key": "site.example/maintenance", "value": "true", "effect": "Odd"},
            {"effect": "NoExecute"},
        ]
    )
    found = taints([NO_SCHEDULE, cordoned, old], "site.example/old", FACTS, ping)
    assert cordoned in found
    assert NO_SCHEDULE in found
    assert old not in found
    assert {
        "key": "site.example/maintenance", "value": "true", "effect": "NoSchedule",
    } in found  # fmt: skip


@pytest.mark.story("Site down: Ready=False and InterlinkConnectivity=False, back to True after")
def test_conditions_say_why_when_the_site_is_away():
    up = {entry["type"]: entry for entry in conditions({}, None, NOW)}
    assert up["Ready"]["status"] == up["InterlinkConnectivity"]["status"] == "True"
    down = {entry["type"]: entry for entry in conditions({}, "connection refused", NOW)}
    assert down["Ready"]["status"] == down["InterlinkConnectivity"]["status"] == "False"
    assert down["InterlinkConnectivity"]["reason"] == "InterlinkPingFailed"
    assert down["Ready"]["message"] == "connection refused"


def test_command_line_names_nodes_with_and_without_address():
    assert nodes_of(["a", "b=https://b.example"], "") == {"a": "", "b": "https://b.example"}
    assert nodes_of(["a"], "https://x") == {"a": "https://x"}
    with pytest.raises(InvalidRequest):
        nodes_of(["a", "b"], "https://x")
