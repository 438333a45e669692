"""The pods of a node as the cluster knows them: a `PodDoor` that keeps nothing."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime

import msgspec

from twinfra.compute.kubelet.door.ports import DoorContainer, DoorPod
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Meta
from twinfra.compute.kubelet.kube.resources import PODS
from twinfra.core.errors import NotFound


class _Named(msgspec.Struct):
    name: str


class _Spec(msgspec.Struct, rename="camel"):
    node_name: str = ""
    containers: list[_Named] = []
    init_containers: list[_Named] | None = None


class _Waiting(msgspec.Struct):
    reason: str = ""


class _Running(msgspec.Struct, rename="camel"):
    started_at: datetime | None = None


class _State(msgspec.Struct):
    waiting: _Waiting | None = None
    running: _Running | None = None
    terminated: _Running | None = None


class _ContainerStatus(msgspec.Struct, rename="camel"):
    name: str
    state: _State = msgspec.field(default_factory=_State)
    last_state: _State = msgspec.field(default_factory=_State)


class _Status(msgspec.Struct, rename="camel"):
    phase: str = "Pending"
    start_time: datetime | None = None
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None


class _Pod(msgspec.Struct):
    metadata: Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class ClusterPods:
    """Asks the API server for each answer: it is what kubectl's user sees, too.

    Args:
        client: of the cluster.
        node: its name.
    """

    def __init__(self, client: KubeClient, node: str) -> None:
        self._client, self._node = client, node

    async def find(self, namespace: str, name: str) -> DoorPod | None:
        """Return a pod of this node; None where there is none."""
        try:
            found = await self._client.get(PODS, name, namespace, kind=_Pod)
        except NotFound:
            return None
        return _door_pod(found) if found.spec.node_name == self._node else None

    async def running(self) -> Sequence[DoorPod]:
        """Return the pods that run."""
        found = await self._client.list(PODS, kind=_Pod, fields=self._fields(running=True))
        return [_door_pod(pod) for pod in found.items or []]

    async def objects(self, *, running: bool) -> AsyncIterator[bytes]:
        """Yield pods of this node whole, each as its JSON; all, or those that run."""
        fields = self._fields(running=running)
        async for page in self._client.pages(PODS, kind=msgspec.Raw, fields=fields):
            for pod in page.items or []:
                yield bytes(pod)

    def _fields(self, *, running: bool) -> str:
        more = ",status.phase=Running" if running else ""
        return f"spec.nodeName={self._node}{more}"


def _door_pod(pod: _Pod) -> DoorPod:
    status = pod.status
    told = {entry.name: entry for entry in status.container_statuses or []}
    told |= {entry.name: entry for entry in status.init_container_statuses or []}
    return DoorPod(
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        phase=status.phase,
        containers=(
            *(_container(entry.name, told, init=False) for entry in pod.spec.containers),
            *(_container(entry.name, told, init=True) for entry in pod.spec.init_containers or []),
        ),
        started_at=status.start_time,
    )


def _container(name: str, told: dict[str, _ContainerStatus], *, init: bool) -> DoorContainer:
    status = told.get(name)
    if status is None:
        return DoorContainer(name, init)
    now = status.state
    return DoorContainer(
        name,
        init,
        state="running" if now.running else "terminated" if now.terminated else "waiting",
        reason=now.waiting.reason if now.waiting else "",
        ran_before=status.last_state.terminated is not None,
        started_at=now.running.started_at if now.running else None,
    )
