"""Keeps the virtual nodes of a cluster in mind."""

import asyncio

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Change
from twinfra.compute.kubelet.kube.reflector import Reflector, Synced
from twinfra.compute.kubelet.kube.resources import NODES
from twinfra.compute.kubelet.placement.choosing import is_ready, is_virtual, site_of
from twinfra.compute.kubelet.placement.objects import SeenNode
from twinfra.core.time import Clock


class Nodes:
    """The virtual nodes; `known` is set once all have been told.

    Args:
        client: on the API server.
        clock: paces.
    """

    def __init__(self, client: KubeClient, clock: Clock) -> None:
        self._client, self._clock = client, clock
        self._nodes: dict[str, SeenNode] = {}
        self.known = asyncio.Event()
        self.changed = asyncio.Event()
        """Set, and replaced by a new one, when a node comes, goes or changes what it offers."""

    def all(self) -> list[SeenNode]:
        """Return all virtual nodes."""
        return list(self._nodes.values())

    def sites(self) -> dict[str, str]:
        """Return the site of each node, by name of the node."""
        return {node.metadata.name: site_of(node) for node in self._nodes.values()}

    async def run(self) -> None:
        """Follow them; runs until cancelled."""
        self.known.clear()
        self._nodes.clear()
        reflector = Reflector(self._client, NODES, SeenNode, clock=self._clock)
        async for told in reflector.follow():
            if isinstance(told, Synced):
                self._nodes = {uid: node for uid, node in self._nodes.items() if uid in told.uids}
                self.known.set()
                self._tell()
                continue
            node, uid = told.object, told.object.metadata.uid
            before = self._nodes.get(uid)
            if told.change is Change.DELETED or not is_virtual(node):
                self._nodes.pop(uid, None)
                self._tell()
                continue
            self._nodes[uid] = node
            if before is None or _offer(before) != _offer(node):
                self._tell()

    def _tell(self) -> None:
        before, self.changed = self.changed, asyncio.Event()
        before.set()


def _offer(node: SeenNode) -> tuple[object, ...]:
    """Return what of a node decides who may go there; not its heartbeats."""
    return (
        is_ready(node),
        node.spec.unschedulable,
        node.spec.taints,
        node.status.allocatable,
        node.metadata.labels,
    )
