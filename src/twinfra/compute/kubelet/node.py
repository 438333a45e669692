"""One virtual node put together: its lease, its object, and its pods while the lease is ours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.reflector import Reflector
from twinfra.compute.kubelet.kube.resources import PODS
from twinfra.compute.kubelet.model.downward import Host
from twinfra.compute.kubelet.model.node import NodeFacts
from twinfra.compute.kubelet.model.seen import SeenPod
from twinfra.compute.kubelet.nodes.controller import NodeController
from twinfra.compute.kubelet.nodes.lease import NodeLease
from twinfra.compute.kubelet.placement.eviction import Eviction
from twinfra.compute.kubelet.placement.settings import PlacementSettings
from twinfra.compute.kubelet.pods.controller import PodController
from twinfra.compute.kubelet.pods.creation import Creation, NodeView
from twinfra.compute.kubelet.pods.ending import Ending
from twinfra.compute.kubelet.pods.freshness import Freshness
from twinfra.compute.kubelet.pods.objects import Objects, Services
from twinfra.compute.kubelet.pods.orphans import Orphans
from twinfra.compute.kubelet.pods.record import PodRecord
from twinfra.compute.kubelet.pods.renewal import Renewal
from twinfra.compute.kubelet.pods.writer import StatusWriter
from twinfra.compute.kubelet.ports import Door
from twinfra.compute.kubelet.settings import KubeletSettings
from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

OpenDoor = Callable[[str, str, InterlinkClient], Awaitable[Door]]
"""Opens the HTTPS API of a node: its name, its address, its site."""


@dataclass(frozen=True)
class Shared:
    """What all nodes of a process share."""

    client: KubeClient
    recorder: EventRecorder
    services: Services | None
    settings: KubeletSettings
    clock: Clock
    identity: str
    open_door: OpenDoor | None = None
    root_ca: str = ""
    placement: PlacementSettings | None = None


class VirtualNode:
    """A site as a node.

    Args:
        shared: with the other nodes.
        facts: of this one.
        remote: its site.
        audience: of tokens for the site: its interLink API's base URL.
        sole_user: nobody else sends pods there.
    """

    def __init__(
        self,
        shared: Shared,
        facts: NodeFacts,
        remote: InterlinkClient,
        *,
        audience: str,
        sole_user: bool,
    ) -> None:
        self._shared, self._facts, self._remote = shared, facts, remote
        self._audience, self._sole_user = audience, sole_user
        self._extensions: frozenset[str] = frozenset()
        self._pinged = asyncio.Event()
        self.pods: dict[str, PodRecord] = {}
        self.lease = NodeLease(
            shared.client,
            facts.name,
            shared.identity,
            shared.settings.lease_s,
            shared.clock,
        )

    @property
    def name(self) -> str:
        """The node's name."""
        return self._facts.name

    @property
    def remote(self) -> InterlinkClient:
        """The site."""
        return self._remote

    async def run(self, cluster: str) -> None:
        """Act for the node whenever its lease is ours; runs until cancelled.

        Args:
            cluster: name of the cluster, the same for all its kubelets for ever.
        """

        async def act() -> None:
            await self._act(f"{cluster}/{self.name}")

        try:
            await self.lease.hold(act)
        finally:
            await self.lease.release()

    async def close(self) -> None:
        """Close the connections to the site."""
        await self._remote.close()

    async def _act(self, origin: str) -> None:
        """Be the node while its lease is ours."""
        async with self._door() as door:
            await self._look_after(origin, door)

    @asynccontextmanager
    async def _door(self) -> AsyncIterator[Door | None]:
        """Open the node's own HTTPS API; without it the node works on, and says so."""
        door = None
        if self._shared.open_door is not None:
            try:
                door = await self._shared.open_door(self.name, self._facts.address, self._remote)
            except (TwinfraError, OSError) as error:
                log.warning("kubelet_api_not_open", node=self.name, why=str(error))
        try:
            yield door
        finally:
            if door is not None:
                await door.close()

    async def _look_after(self, origin: str, door: Door | None) -> None:
        """Look after the node and its pods, from nothing: what was before is read anew."""
        shared, settings, clock = self._shared, self._shared.settings, self._shared.clock
        self.pods.clear()
        self._pinged.clear()
        pods = self.pods
        writer = StatusWriter(shared.client, self._facts.address, clock, workers=settings.patches)
        reflector = Reflector(
            shared.client, PODS, SeenPod, fields=f"spec.nodeName={self.name}", clock=clock
        )
        controller = PodController(
            pods, reflector, shared.recorder, writer, self._facts.address, settings, clock
        )
        freshness = Freshness(self._remote, pods, controller.hear, controller.miss, settings, clock)

        def heard(extensions: Iterable[str]) -> None:
            self._extensions = frozenset(extensions)
            freshness.extensions(self._extensions)
            self._pinged.set()

        node = NodeController(
            shared.client, self._remote, self._facts, door, settings, clock, heard
        )
        view = NodeView(
            origin=origin,
            audience=self._audience,
            host=lambda: Host(self.name, self._facts.address, node.resources),
            extensions=lambda: self._extensions,
            root_ca=shared.root_ca,
        )
        renewal = Renewal(
            self._remote, pods, shared.recorder, clock, lambda: self._extensions,
            renewed_at=settings.tokens_renewed_at,
        )  # fmt: skip
        creation = Creation(
            shared.client,
            self._remote,
            Objects(shared.client, clock, shared.services, renewed_at=settings.tokens_renewed_at),
            writer,
            shared.recorder,
            view,
            settings,
            clock,
            controller.hear,
            renewal.at,
        )
        renewal.assembler = creation
        controller.renewal = renewal
        controller.creation = creation
        controller.ending = Ending(
            shared.client, self._remote, writer, shared.recorder, clock, freshness.soon
        )
        controller.freshness = freshness
        controller.orphans = Orphans(
            self._remote,
            pods,
            origin,
            clock,
            sole_user=self._sole_user,
            every_s=settings.reconcile_s,
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(node.run())
            group.create_task(self._pods(controller, renewal))
            if shared.placement is not None:
                eviction = Eviction(
                    shared.client, self._remote, shared.recorder, self.name, shared.placement, clock
                )
                group.create_task(eviction.run())

    async def _pods(self, controller: PodController, renewal: Renewal) -> None:
        """Begin with the pods once the site has answered: what it can do decides how."""
        await self._pinged.wait()
        await controller.run(renewal.run)
