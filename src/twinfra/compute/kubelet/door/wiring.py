"""Builds the door of a node."""

from collections.abc import Sequence
from pathlib import Path

from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.kubelet.door.certificates import (
    Shown,
    cluster_client_ca,
    own_certificate,
    server_context,
    signed_certificate,
)
from twinfra.compute.kubelet.door.cluster import ClusterPods
from twinfra.compute.kubelet.door.ports import PodDoor
from twinfra.compute.kubelet.door.server import Behind, KubeletDoor
from twinfra.compute.kubelet.door.settings import DoorSettings
from twinfra.compute.kubelet.kube.client import KubeClient
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
        TwinfraError: the cluster publishes no authority, or signs no certificate.
    """
    settings = ctx.settings(DoorSettings)
    if settings.client_ca_file is not None:
        client_ca = settings.client_ca_file.read_text()
    else:
        client_ca = await cluster_client_ca(client)
    shown = await _shown(ctx, settings, node, (address, *settings.names), client)
    behind = Behind(node, pods or ClusterPods(client, node), site, client)
    tls = server_context(shown, client_ca)
    return KubeletDoor(behind, tls, settings, host=settings.listen or address, port=port)


async def _shown(
    ctx: Context, settings: DoorSettings, node: str, names: Sequence[str], client: KubeClient
) -> Shown:
    folder: Path = ctx.home.root / "tls"
    if settings.certificate == "files":
        if settings.certificate_file is None or settings.key_file is None:
            raise InvalidRequest("certificate = files: name certificate_file and key_file")
        return Shown(settings.certificate_file, settings.key_file)
    if settings.certificate == "cluster":
        return await signed_certificate(client, folder, node, names)
    return own_certificate(folder, ctx.tls_server(), node, names)
