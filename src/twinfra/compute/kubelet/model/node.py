"""What a virtual node looks like: its labels, taints, capacity and conditions; pure.

Source: Kubernetes API reference, Node; ``interlink.md`` 2.3 of the research; x86-64 psABI §3.1.1
(micro-architecture levels).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from twinfra.compute.interlink.model.ping import Ping
from twinfra.core.time import rfc3339

Json = dict[str, Any]
NO_SCHEDULE = {"key": "virtual-node.interlink/no-schedule", "value": "true", "effect": "NoSchedule"}
EFFECTS = frozenset({"NoSchedule", "PreferNoSchedule", "NoExecute"})
PING_ANNOTATION = "interlink.virtual-kubelet.io/ping-response"
OUR_TAINTS = "twinfra.io/taints"
CPU_LEVEL = "twinfra.io/cpu-level"
FEATURES = ("ExtendWebSocketsToKubelet",)
"""What our kubelet API can do that an API server must be told, sorted (Kubernetes 1.36, KEP-4006):
without it sessions are translated to SPDY on their way. Older API servers leave the field out."""
OS_LABEL, ARCH_LABEL = "kubernetes.io/os", "kubernetes.io/arch"
OS, ARCHITECTURE = "linux", "amd64"
"""Of a node whose machines nobody knows."""
ACCELERATOR_LABELS = {"nvidia.com/gpu": "nvidia-gpu-type"}


@dataclass(frozen=True)
class NodeFacts:
    """What is known of a node before its site is asked.

    Attributes:
        name: of the node.
        address: where its kubelet API is reached.
        port: of it; 0: it has none.
        version: of this program.
        os: of the site's machines, as Go spells it; empty: not known.
        architecture: of them, as Go spells it; empty: not known.
        cpu_level: such as ``x86-64-v3``; empty: not known.
        labels: further ones.
        taints: further ones.
        resources: capacity where the ping says none.
    """

    name: str
    address: str
    port: int = 0
    version: str = ""
    os: str = ""
    architecture: str = ""
    cpu_level: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: Sequence[Json] = ()
    resources: Mapping[str, str] = field(default_factory=dict)


def with_machine(facts: NodeFacts, told: Ping) -> NodeFacts:
    """Return the facts with the site's machines: as set, else as the ping says."""
    return replace(
        facts,
        os=facts.os or told.os,
        architecture=facts.architecture or told.architecture,
        cpu_level=facts.cpu_level or told.cpu_level,
    )


def machine_of(labels: Mapping[str, str]) -> Ping:
    """Return a ping that tells nothing but the machines, as a node's labels have them."""
    return Ping(
        os=labels.get(OS_LABEL, ""),
        architecture=labels.get(ARCH_LABEL, ""),
        cpu_level=labels.get(CPU_LEVEL, ""),
    )


def node_object(facts: NodeFacts, status: Json) -> Json:
    """Return a whole new node."""
    taints = [NO_SCHEDULE, *facts.taints]
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": facts.name,
            "labels": labels(facts),
            "annotations": {OUR_TAINTS: ",".join(sorted(t["key"] for t in taints))},
        },
        "spec": {"providerID": f"external:///{facts.name}", "taints": taints},
        "status": status,
    }


def labels(facts: NodeFacts) -> dict[str, str]:
    """Return the labels of a node."""
    found = {
        "alpha.service-controller.kubernetes.io/exclude-balancer": "true",
        "node.kubernetes.io/exclude-from-external-load-balancers": "true",
        OS_LABEL: facts.os or OS,
        ARCH_LABEL: facts.architecture or ARCHITECTURE,
        "kubernetes.io/hostname": facts.name,
        "kubernetes.io/role": "agent",
        "virtual-node.interlink/type": "virtual-kubelet",
        "type": "virtual-kubelet",
        **facts.labels,
    }
    return {**found, CPU_LEVEL: facts.cpu_level} if facts.cpu_level else found


def capacity(before: Mapping[str, str], ping: Ping) -> dict[str, str]:
    """Return a node's capacity: what the ping names, else what it was.

    A site says how big it is, never what is free: the scheduler subtracts by itself.
    """
    found = dict(before)
    if ping.cpus is not None:
        whole = ping.cpus == int(ping.cpus)
        found["cpu"] = str(int(ping.cpus)) if whole else f"{round(ping.cpus * 1000)}m"
    if ping.memory_bytes is not None:
        found["memory"] = str(ping.memory_bytes)
    if ping.pods is not None:
        found["pods"] = str(ping.pods)
    return found | {kind: str(count) for kind, count in ping.accelerators.items()}


def taints(spec: Sequence[Json], ours: str, facts: NodeFacts, ping: Ping) -> list[Json]:
    """Return the taints of a node: others' as they are, our fixed ones, the ping's.

    Args:
        spec: those that the node has.
        ours: keys of those that we set before, separated by commas.
        facts: of the node.
        ping: its site's; an effect that is none counts as NoSchedule.
    """
    mine = set(ours.split(",")) | {NO_SCHEDULE["key"]}
    kept = [entry for entry in spec if entry.get("key") not in mine]
    told = [
        {
            "key": str(entry["key"]),
            "value": str(entry.get("value") or ""),
            "effect": entry["effect"] if entry.get("effect") in EFFECTS else "NoSchedule",
        }
        for entry in ping.taints
        if entry.get("key") and entry.get("key") != NO_SCHEDULE["key"]
    ]
    return [*kept, NO_SCHEDULE, *facts.taints, *told]


def node_status(facts: NodeFacts, resources: Mapping[str, str], conditions: Sequence[Json]) -> Json:
    """Return the status of a node."""
    door: Json = {}
    if facts.port:
        door = {
            "daemonEndpoints": {"kubeletEndpoint": {"Port": facts.port}},
            "declaredFeatures": list(FEATURES),
        }
    return {
        "capacity": dict(resources),
        "allocatable": dict(resources),
        "addresses": [
            {"type": "InternalIP", "address": facts.address},
            {"type": "Hostname", "address": facts.name},
        ],
        **door,
        "conditions": list(conditions),
        "nodeInfo": {
            "architecture": facts.architecture or ARCHITECTURE,
            "operatingSystem": facts.os or OS,
            "kubeletVersion": facts.version,
            "kubeProxyVersion": "",
            "bootID": "",
            "machineID": "",
            "systemUUID": "",
            "kernelVersion": "",
            "osImage": "twinfra virtual node",
            "containerRuntimeVersion": "interlink://",
        },
    }


def conditions(
    before: Mapping[str, tuple[str, str]], trouble: str | None, now: datetime
) -> list[Json]:
    """Return a node's conditions.

    Args:
        before: status and moment of the last change of each, by type.
        trouble: why the site does not answer; None: it does.
        now: the moment.
    """
    up = trouble is None
    ping = "InterlinkPingSuccessful" if up else "InterlinkPingFailed"
    text = "the site answers" if up else (trouble or "")
    wanted = (
        ("Ready", up, "KubeletReady" if up else "KubeletNotReady", text),
        ("MemoryPressure", False, "KubeletHasSufficientMemory", ""),
        ("DiskPressure", False, "KubeletHasNoDiskPressure", ""),
        ("PIDPressure", False, "KubeletHasSufficientPID", ""),
        ("NetworkUnavailable", not up, "RouteCreated" if up else "SiteAway", ""),
        ("InterlinkConnectivity", up, ping, text),
    )
    spelled = rfc3339(now)[:19] + "Z"
    found = []
    for kind, value, reason, message in wanted:
        status = "True" if value else "False"
        was, since = before.get(kind, ("", ""))
        found.append(
            {
                "type": kind,
                "status": status,
                "reason": reason,
                "message": message,
                "lastHeartbeatTime": spelled,
                "lastTransitionTime": since if was == status and since else spelled,
            }
        )
    return found
