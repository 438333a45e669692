"""Builds the installer, the gate's controller and the ranker that it asks."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from twinfra.access.tokens import TokenClient
from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.nodes.lease import NodeLease
from twinfra.compute.kubelet.placement.gate import Gate
from twinfra.compute.kubelet.placement.images import RegistryImages
from twinfra.compute.kubelet.placement.install import Installer
from twinfra.compute.kubelet.placement.nodes import Nodes
from twinfra.compute.kubelet.placement.ranker import FederationRanker
from twinfra.compute.kubelet.placement.settings import PlacementSettings
from twinfra.compute.kubelet.settings import KubeletSettings
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Context
from twinfra.orchestration.ranking.client import RankingClient

LEASE = "twinfra-placement"


@asynccontextmanager
async def installer(
    ctx: Context,
    kubeconfig: Path | None = None,
    *,
    issuers: Sequence[str] = (),
    controllers: Sequence[str] = (),
) -> AsyncIterator[Installer]:
    """Give an installer for the cluster that `kubeconfig`, else the settings, name."""
    chosen = kubeconfig or ctx.settings(KubeletSettings).kubeconfig
    client = KubeClient.from_kubeconfig(chosen)
    try:
        yield Installer(client, issuers=issuers, controllers=controllers)
    finally:
        await client.close()


def placement(
    ctx: Context,
    client: KubeClient,
    recorder: EventRecorder,
    tokens: TokenClient,
    identity: str,
) -> Callable[[], Awaitable[None]] | None:
    """Return the loop that chooses nodes for pods, by one replica at a time; None: it is off.

    Args:
        ctx: of the process.
        client: on the API server.
        recorder: tells people.
        tokens: our identity at the ranking service.
        identity: of this replica.
    """
    settings = ctx.settings(PlacementSettings)
    if not settings.enabled:
        return None
    ranker = None
    http = None
    if settings.ranking:
        url = ctx.url("ranking")
        http = HttpClient(url, tls=ctx.tls_client(), token=tokens.for_service(url))
        ranker = FederationRanker(RankingClient(http))
    nodes = Nodes(client, ctx.clock)
    images = RegistryImages(client, settings, ctx.clock) if settings.ask_registries else None
    gate = Gate(client, recorder, nodes, ranker, settings, ctx.clock, images)
    lease = NodeLease(
        client,
        LEASE,
        identity,
        settings.lease_s,
        ctx.clock,
        namespace=settings.lease_namespace,
    )

    async def run() -> None:
        try:
            await lease.hold(gate.run)
        finally:
            await lease.release()
            if http is not None:
                await http.close()

    return run
