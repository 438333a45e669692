"""Builds the virtual kubelet: one service, as many nodes as its settings name."""

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from twinfra.access.tokens import TokenClient
from twinfra.compute.interlink.client import InterlinkClient
from twinfra.compute.kubelet.door.settings import DoorSettings
from twinfra.compute.kubelet.door.wiring import build_door
from twinfra.compute.kubelet.events import EventRecorder
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Thing
from twinfra.compute.kubelet.kube.resources import NAMESPACES
from twinfra.compute.kubelet.model.node import NodeFacts
from twinfra.compute.kubelet.node import OpenDoor, Shared, VirtualNode
from twinfra.compute.kubelet.nodes.catalogue import CatalogueSizes
from twinfra.compute.kubelet.placement.settings import PlacementSettings
from twinfra.compute.kubelet.placement.wiring import placement
from twinfra.compute.kubelet.pods.objects import Services
from twinfra.compute.kubelet.ports import Door, Sizes
from twinfra.compute.kubelet.settings import KubeletSettings, NodeSettings
from twinfra.core.errors import Conflict, InvalidRequest, TwinfraError
from twinfra.core.http.client import HttpClient, TokenSource
from twinfra.core.service import Callback, Context, Service
from twinfra.core.telemetry import get_logger
from twinfra.orchestration.catalogue.client import CatalogueClient

log = get_logger(__name__)

SERVICE = "kubelet"
AGAIN_S = 2.0
ANSWER_S = 120.0
"""Upstream's number: its API server may wait so long for a plug-in."""
NO_FILE = Path("/dev/null")


def build(
    ctx: Context,
    *,
    nodes: Mapping[str, str] | None = None,
    kubeconfig: Path | None = None,
    identity: str = "",
) -> Service:
    """Return the virtual kubelet.

    Args:
        ctx: of the process.
        nodes: base URL of each node's interLink API, by its name, besides those of the settings; an
            empty one: the settings', else that of the site of this name.
        kubeconfig: instead of the settings'.
        identity: of this replica, instead of the settings'.

    Raises:
        InvalidRequest: no node is named.
    """
    settings = ctx.settings(KubeletSettings)
    named = _nodes(settings, nodes or {})
    if not named:
        raise InvalidRequest("name a node: --node NAME, or [kubelet.nodes.NAME] in settings.toml")
    client = KubeClient.from_kubeconfig(kubeconfig or settings.kubeconfig)
    tokens = TokenClient.from_context(ctx, SERVICE)
    replica = identity or settings.identity or _identity(ctx)
    api = (settings.api_host, settings.api_port) if settings.api_host else None
    http = None
    if settings.catalogue:
        url = ctx.url("catalogue")
        http = HttpClient(url, tls=ctx.tls_client(), token=tokens.for_service(url))
    shared = Shared(
        client=client,
        recorder=EventRecorder(client, ctx.clock, per_s=settings.events_per_s),
        services=Services(client, ctx.clock, api=api) if settings.service_variables else None,
        settings=settings,
        clock=ctx.clock,
        identity=replica,
        open_door=_doors(ctx, client, alone=len(named) == 1),
        root_ca=settings.api_ca_file.read_text() if settings.api_ca_file else "",
        placement=ctx.settings(PlacementSettings),
        sizes=_sizes(http, ctx, settings),
    )
    made = [_node(ctx, shared, name, node, tokens) for name, node in named.items()]
    lock = FileLock(ctx.home.root / f"kubelet-{_short(replica)}.lock")
    cluster = _Cluster(shared)
    background: list[Callback] = [shared.recorder.run, *(cluster.running(node) for node in made)]
    if shared.services is not None:
        background.append(shared.services.run)
    if (placing := placement(ctx, client, shared.recorder, tokens, replica)) is not None:
        background.append(placing)
    return Service(
        name=SERVICE,
        background=background,
        start=[_locking(lock, replica)],
        stop=[
            *(node.close for node in made),
            *([http.close] if http else []),
            tokens.close,
            client.close,
            _unlocking(lock),
        ],
    )


def _sizes(http: HttpClient | None, ctx: Context, settings: KubeletSettings) -> Sizes | None:
    if http is None:
        return None
    return CatalogueSizes(CatalogueClient(http), ctx.clock, every_s=settings.catalogue_s)


def _doors(ctx: Context, client: KubeClient, *, alone: bool) -> OpenDoor | None:
    """Return what opens the HTTPS API of each node, where the settings want one."""
    if not ctx.settings(DoorSettings).enabled:
        return None

    async def open_door(node: str, address: str, site: InterlinkClient) -> Door:
        door = await build_door(
            ctx, node=node, address=address, client=client, site=site, port=None if alone else 0
        )
        await door.start()
        return door

    return open_door


class _Cluster:
    """Knows the cluster's lasting name: the UID of its ``kube-system`` namespace."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._name: str = ""
        self._asking = asyncio.Lock()

    def running(self, node: VirtualNode) -> Callable[[], Awaitable[None]]:
        """Return the loop that runs a node."""

        async def run() -> None:
            await node.run(await self._ask())

        return run

    async def _ask(self) -> str:
        async with self._asking:
            while not self._name:
                try:
                    found = await self._shared.client.get(NAMESPACES, "kube-system", kind=Thing)
                    self._name = found.metadata.uid
                except TwinfraError as error:
                    log.warning("cluster_not_answering", code=error.code, why=error.detail)
                    await self._shared.clock.sleep(AGAIN_S)
            return self._name


def _nodes(settings: KubeletSettings, named: Mapping[str, str]) -> dict[str, NodeSettings]:
    """Return the nodes to run: those of the command line alone, if it names any."""
    if not named:
        return dict(settings.nodes)
    found = {}
    for name, url in named.items():
        node = settings.nodes.get(name, NodeSettings())
        found[name] = node.model_copy(update={"interlink": url}) if url else node
    return found


def _node(
    ctx: Context, shared: Shared, name: str, settings: NodeSettings, tokens: TokenClient
) -> VirtualNode:
    url = settings.interlink or ctx.url(f"interlink@{name}")
    facts = NodeFacts(
        name=name,
        address=shared.settings.address,
        version=f"v{version('twinfra')}",
        os=settings.os,
        architecture=settings.architecture,
        cpu_level=settings.cpu_level,
        labels=settings.labels,
        taints=[entry.model_dump() for entry in settings.taints],
        resources=settings.resources,
    )
    remote = InterlinkClient(_http(ctx, url, settings, tokens), clock=ctx.clock)
    return VirtualNode(shared, facts, remote, audience=url, sole_user=settings.sole_user)


def _http(ctx: Context, url: str, settings: NodeSettings, tokens: TokenClient) -> HttpClient:
    tls = ctx.tls_client(
        ca_file=settings.ca_file,
        certificate_file=settings.certificate_file,
        key_file=settings.key_file,
    )
    unix = url.removeprefix("unix://") if url.startswith("unix://") else None
    return HttpClient(
        "http://localhost" if unix else url,
        tls=tls if url.startswith("https://") else None,
        token=_token(url, settings, tokens),
        timeout_s=ANSWER_S,
        uds=unix,
    )


def _token(url: str, settings: NodeSettings, tokens: TokenClient) -> TokenSource | None:
    path = settings.token_file
    if path is None:
        return tokens.for_service(url)
    if path == NO_FILE:
        return None

    async def read() -> str:
        return (await asyncio.to_thread(path.read_text)).strip()

    return read


def _identity(ctx: Context) -> str:
    """Return a name that no other replica has and that a restart of this one keeps."""
    return f"{socket.gethostname()}_{_short(str(ctx.home.root.absolute()))}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _locking(lock: FileLock, identity: str) -> Callback:
    async def locking() -> None:
        Path(lock.lock_file).parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout as error:
            raise Conflict(f"a kubelet runs here already as {identity}: give --identity") from error

    return locking


def _unlocking(lock: FileLock) -> Callback:
    async def unlocking() -> None:
        lock.release()

    return unlocking
