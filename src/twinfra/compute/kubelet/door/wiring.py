"""Builds the door of a node."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from functools import partial

from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.kubelet.door.certificates import (
    Shown,
    cluster_client_ca,
    kept_certificate,
    own_certificate,
    server_context,
    signed_certificate,
)
from twinfra.compute.kubelet.door.cluster import ClusterPods
from twinfra.compute.kubelet.door.ports import PodDoor
from twinfra.compute.kubelet.door.renewal import Renewal
from twinfra.compute.kubelet.door.server import Behind, KubeletDoor
from twinfra.compute.kubelet.door.settings import DoorSettings
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Thing
from twinfra.compute.kubelet.kube.resources import NAMESPACES
from twinfra.core.errors import InvalidRequest
from twinfra.core.service import Context


async def build_door(
    ctx: Context,
    *,
    node: str,
    address: str,
    client: KubeClient,
    site: InterlinkClient,
    pods: PodDoor | None = None,
    port: int | None = None,
) -> KubeletDoor:
    """Return the door of a node, not yet open.

    Args:
        ctx: of the process.
        node: its name.
        address: where the API server reaches it.
        client: of the cluster.
        site: the node's.
        pods: of the node; default: as the cluster knows them.
        port: to listen on; default: the settings'; with several nodes a process give 0.

    Raises:
        TwinfraError: the cluster does not answer, or publishes no authority.
    """
    settings = ctx.settings(DoorSettings)
    if settings.client_ca_file is not None:
        client_ca = settings.client_ca_file.read_text()
    else:
        client_ca = await cluster_client_ca(client)
    behind = Behind(node, pods or ClusterPods(client, node), site, client)
    names = (address, *settings.names)
    shown, make, due_at = await _serving(ctx, settings, node, names, client)
    tls = server_context(shown, client_ca)
    keep = Renewal(node, tls, make, due_at, ctx.clock).run if make else None
    host = settings.listen or address
    return KubeletDoor(behind, tls, settings, host=host, port=port, keep=keep)


async def _serving(
    ctx: Context, settings: DoorSettings, node: str, names: Sequence[str], client: KubeClient
) -> tuple[Shown, Callable[[], Awaitable[Shown]] | None, datetime]:
    """Return what the door shows at first, what makes the next, and when that is due."""
    folder = ctx.home.root / "tls"
    if settings.certificate == "files":
        if settings.certificate_file is None or settings.key_file is None:
            raise InvalidRequest("certificate = files: name certificate_file and key_file")
        shown = Shown(settings.certificate_file, settings.key_file)
        return shown, None, shown.renew_at

    async def own() -> Shown:
        return own_certificate(folder, ctx.tls_server(), node, names)

    if settings.certificate == "own":
        shown = await own()
        return shown, own, shown.renew_at
    cluster = await client.get(NAMESPACES, "kube-system", kind=Thing)
    stem = f"kubelet-{node}-{cluster.metadata.uid}"
    make = partial(signed_certificate, client, folder, stem, node, names)
    if kept := kept_certificate(folder, stem, names, ctx.clock.now()):
        return kept, make, kept.renew_at
    # nobody believes it, but the node and its pods need not wait for an approval
    return await own(), make, ctx.clock.now()
