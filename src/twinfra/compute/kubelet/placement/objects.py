"""Pods and nodes as placement reads them from the API server."""

from typing import Any

import msgspec

from twinfra.compute.kubelet.kube.model import Meta

Json = dict[str, Any]


class Spec(msgspec.Struct, rename="camel"):
    """The parts of a pod's spec that say where it may go; the rest is not read."""

    containers: list[Json] = []
    init_containers: list[Json] | None = None
    node_name: str = ""
    node_selector: dict[str, str] | None = None
    affinity: Json | None = None
    tolerations: list[Json] | None = None
    scheduling_gates: list[Json] | None = None
    overhead: dict[str, str] | None = None
    os: Json | None = None
    image_pull_secrets: list[Json] | None = None


class Status(msgspec.Struct, rename="camel"):
    """The phase of a pod, and how its containers are."""

    phase: str = ""
    container_statuses: list[Json] | None = None
    init_container_statuses: list[Json] | None = None

    @property
    def reasons(self) -> frozenset[str]:
        """Why its containers wait, a word each."""
        return frozenset(
            str((each.get("waiting") or {}).get("reason", "")) for each in self._states()
        )

    @property
    def begun(self) -> bool:
        """Whether any of its containers runs or has run."""
        return any(each.get("running") or each.get("terminated") for each in self._states())

    def _states(self) -> list[Json]:
        every = (*(self.init_container_statuses or ()), *(self.container_statuses or ()))
        return [each.get("state") or {} for each in every]


class GatedPod(msgspec.Struct):
    """A pod."""

    metadata: Meta
    spec: Spec = msgspec.field(default_factory=Spec)
    status: Status = msgspec.field(default_factory=Status)


class NodeSpec(msgspec.Struct):
    """A node's taints and whether it is cordoned."""

    taints: list[dict[str, Any]] | None = None
    unschedulable: bool = False


class NodeStatus(msgspec.Struct):
    """What a node has."""

    allocatable: dict[str, str] | None = None
    conditions: list[Json] | None = None


class SeenNode(msgspec.Struct):
    """A node."""

    metadata: Meta
    spec: NodeSpec = msgspec.field(default_factory=NodeSpec)
    status: NodeStatus = msgspec.field(default_factory=NodeStatus)
