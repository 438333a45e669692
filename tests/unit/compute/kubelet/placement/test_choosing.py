"""Which nodes a pod may go to, why not others, and how the gate joins that with a ranking."""

import pytest

from twinfra.compute.kubelet.kube.model import Meta
from twinfra.compute.kubelet.placement.choosing import Platform, choose, requests_of, wish_of
from twinfra.compute.kubelet.placement.gate import affinity_to, pick
from twinfra.compute.kubelet.placement.objects import (
    GatedPod,
    NodeSpec,
    NodeStatus,
    SeenNode,
    Spec,
)
from twinfra.compute.kubelet.placement.ports import Ranked

TAINT = {"key": "virtual-node.interlink/no-schedule", "value": "true", "effect": "NoSchedule"}
TOLERATION = {"key": TAINT["key"], "operator": "Exists", "effect": "NoSchedule"}


def node(name, *, ready="True", cordoned=False, taints=(TAINT,), labels=None, **resources):
    own = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64", **(labels or {})}
    return SeenNode(
        Meta(name=name, labels=own),
        NodeSpec(list(taints), cordoned),
        NodeStatus(
            {"cpu": "4", "memory": "8Gi", "pods": "10", **resources},
            [{"type": "Ready", "status": ready}],
        ),
    )


def pod(annotations=None, requests=None, **spec):
    container = {"name": "main", "image": "i", "resources": {"requests": requests or {}}}
    spec = {"containers": [container], "tolerations": [TOLERATION], **spec}
    return GatedPod(Meta(name="p", annotations=annotations), Spec(**spec))


def refused(found_node, found_pod, platforms=None, used=None):
    verdict = choose(wish_of(found_pod, platforms or {}), [found_node], used or {})
    assert bool(verdict.nodes) != bool(verdict.refused)
    return verdict.refused.get(found_node.metadata.name, "")


def required(*terms):
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    return {"nodeAffinity": {key: {"nodeSelectorTerms": list(terms)}}}


def expression(key, operator, *values):
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("found_node", "found_pod", "why"),
    [
        (node("a"), pod(), ""),
        (node("a", ready="Unknown"), pod(), "is not ready"),
        (node("a", cordoned=True), pod(), "is cordoned"),
        (node("a"), pod(tolerations=[]), "does not tolerate"),
        (node("a"), pod({"twinfra.io/site": "b"}), "is not b"),
        (node("a"), pod({"twinfra.io/site": "b, a"}), ""),
        (node("a", labels={"twinfra.io/site": "b"}), pod({"twinfra.io/site": "b"}), ""),
        (node("a"), pod(node_selector={"zone": "x"}), "the pod wants x"),
        (node("a", labels={"zone": "x"}), pod(node_selector={"zone": "x"}), ""),
        (node("a"), pod(os={"name": "windows"}), "the pod wants windows"),
        (node("a"), pod(affinity=required(expression("zone", "Exists"))), "node affinity"),
        (node("a"), pod(affinity=required(expression("zone", "DoesNotExist"))), ""),
        (node("a", labels={"n": "5"}), pod(affinity=required(expression("n", "Gt", "4"))), ""),
        (node("a"), pod(affinity=required(expression("n", "Lt", "4"))), "node affinity"),
        (node("a"), pod(requests={"cpu": "5"}), "4 cpu free, the pod needs 5"),
        (node("a"), pod(requests={"nvidia.com/gpu": "1"}), "0 nvidia.com/gpu free"),
        (node("a", **{"nvidia.com/gpu": "2"}), pod(requests={"nvidia.com/gpu": "1"}), ""),
        (node("a"), pod({"twinfra.io/cpu-level": "x86-64-v3"}), "the pod needs x86-64-v3"),
        (
            node("a", labels={"twinfra.io/cpu-level": "x86-64-v4"}),
            pod({"twinfra.io/cpu-level": "x86-64-v3"}),
            "",
        ),
        (node("a"), pod({"twinfra.io/architectures": "arm64"}), "is made for linux/arm64"),
        (node("a"), pod({"twinfra.io/architectures": "arm64,amd64"}), ""),
    ],
)
def test_a_node_is_refused_with_its_reason(found_node, found_pod, why):
    said = refused(found_node, found_pod)
    assert why in said
    assert bool(why) == bool(said)


@pytest.mark.story("a pod whose image has no match there is never sent there")
def test_an_image_goes_only_where_it_runs():
    only_arm = {"img": frozenset({Platform("linux", "arm64")})}
    assert "img is made for linux/arm64" in refused(node("a"), pod(), only_arm)
    arm = node("b", labels={"kubernetes.io/arch": "arm64"})
    assert refused(arm, pod(), only_arm) == ""
    new = {"img": frozenset({Platform("linux", "amd64", "v3")})}
    assert refused(node("a"), pod(), new)
    assert refused(node("a", labels={"twinfra.io/cpu-level": "x86-64-v3"}), pod(), new) == ""


def test_what_pods_take_is_not_given_twice_and_the_emptiest_is_first():
    wish = wish_of(pod(requests={"cpu": "2"}), {})
    nodes = [node("a"), node("b"), node("c")]
    verdict = choose(wish, nodes, {"a": {"cpu": 1.0}, "c": {"cpu": 3.0}})
    assert verdict.nodes == ("b", "a")
    assert list(verdict.refused) == ["c"]


def test_a_pod_counts_as_the_scheduler_counts_it():
    def asked(cpu, **more):
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    found = pod()
    found.spec.containers = [asked("1"), asked("500m")]
    found.spec.init_containers = [asked("250m", restartPolicy="Always"), asked("3")]
    found.spec.overhead = {"cpu": "100m"}
    assert requests_of(found)["cpu"] == pytest.approx(3.35)


@pytest.mark.parametrize(
    "annotations", [{"twinfra.io/cpu-level": "fast"}, {"twinfra.io/cpu-level": "v0"}]
)
def test_a_level_that_is_none_is_said(annotations):
    with pytest.raises(ValueError, match="x86-64-v3"):
        wish_of(pod(annotations), {})


def test_the_ranking_decides_among_nodes_that_fit():
    verdict = choose(wish_of(pod(), {}), [node("a"), node("b"), node("c", cordoned=True)], {})
    sites = {name: name for name in "abc"}
    ranked = Ranked(("c", "b"), {"b": "data is there"}, {"a": "is too slow"}, {"b": 9.0})
    found, why = pick(verdict, ranked, sites)
    assert (found.node, found.why, found.wait_s) == ("b", "data is there", 9.0)
    assert why == {"c": "is cordoned", "a": "will not do: is too slow"}
    nothing, why = pick(verdict, Ranked(()), sites)
    assert nothing is None
    assert set(why) == {"a", "b", "c"}


def test_affinity_is_only_added_to():
    this = {"key": "metadata.name", "operator": "In", "values": ["a"]}
    assert affinity_to(pod(), "a") == required({"matchFields": [this]})["nodeAffinity"]
    term = expression("zone", "Exists")
    made = affinity_to(pod(affinity=required(term)), "a")
    assert made == required({**term, "matchFields": [this]})["nodeAffinity"]
