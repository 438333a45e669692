"""One site's edge as a running thing: opened in order, shut in the reverse order.

Built by ``wiring``; tests build it with their own authorizer and peers.
"""

import asyncio
import ssl
from collections.abc import Coroutine
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinfra.core.database import Database
from twinfra.core.ids import new_uuid
from twinfra.core.telemetry import get_logger
from twinfra.core.time import SYSTEM_CLOCK, Clock
from twinfra.data.edge.copying.handler import Copier
from twinfra.data.edge.copying.outbound import Outbound
from twinfra.data.edge.copying.rate import Rates
from twinfra.data.edge.events.api import EventsApi
from twinfra.data.edge.events.channels import Channels
from twinfra.data.edge.events.store import ChannelStore
from twinfra.data.edge.files.tree import Tree
from twinfra.data.edge.inventory.examiner import Examiner, Patience
from twinfra.data.edge.inventory.inventory import Inventory
from twinfra.data.edge.inventory.store import MIGRATIONS, InventoryStore
from twinfra.data.edge.inventory.watcher import Watcher
from twinfra.data.edge.ports import Authorizer, Peers
from twinfra.data.edge.router import Router
from twinfra.data.edge.settings import EdgeSettings
from twinfra.data.edge.site import Site
from twinfra.data.edge.wire.door import HttpDoor
from twinfra.data.edge.wire.limits import WireLimits

log = get_logger(__name__)


@dataclass(frozen=True)
class Place:
    """Where one edge stands.

    Attributes:
        site: the site's name.
        root: folder that it serves.
        port: of its door; 0: a free one.
        base_url: under which clients know it; empty: made of the port.
    """

    site: str
    root: Path
    port: int
    base_url: str = ""


class Edge:
    """One site's edge.

    Args:
        place: where it stands.
        settings: how it behaves.
        database: keeps the inventory; closed with the edge.
        authorizer: says who may what.
        peers: other storages that it may talk to.
        tls: of its door and towards peers; none: plain HTTP, for benchmarks.
        clock: dates events and limits rates.
    """

    def __init__(
        self,
        place: Place,
        settings: EdgeSettings,
        database: Database,
        *,
        authorizer: Authorizer,
        peers: Peers,
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.place, self._settings, self._database = place, settings, database
        self._authorizer, self._tls, self._clock = authorizer, tls, clock
        self._outbound = Outbound(peers, settings, tls[1] if tls else None)
        self._rates = Rates(
            clock, settings.rate_limit_bytes_per_s, settings.rate_limit_bytes_per_s_by_link
        )
        rse = settings.rse or place.site.upper()
        self.inventory = Inventory(InventoryStore(database), clock, site=place.site, rse=rse)
        self._work: list[asyncio.Task[None]] = []
        self._pools: list[Executor] = []
        self._tree: Tree | None = None
        self._watcher: Watcher | None = None
        self._door: HttpDoor | None = None
        self._channels: Channels | None = None
        self._failed: asyncio.Future[None] | None = None
        self.examiner: Examiner | None = None

    @property
    def ready(self) -> bool:
        """Whether it serves, and has compared everything once."""
        return self._door is not None and self._watcher is not None and self._watcher.scans > 0

    @property
    def watching_is_idle(self) -> bool:
        """Whether no notice of the kernel and no path waits to be looked at."""
        return (
            self.examiner is not None
            and self._watcher is not None
            and not self.examiner.backlog
            and self._watcher.is_idle
        )

    @property
    def port(self) -> int:
        """The port of its door."""
        if self._door is None:
            raise RuntimeError("the edge is not open")
        return self._door.port

    @property
    def base_url(self) -> str:
        """The URL that clients know it by."""
        scheme = "https" if self._tls else "http"
        return self.place.base_url or f"{scheme}://localhost:{self.port}"

    async def open(self) -> None:
        """Bring the tables up to date, begin to watch, open the door.

        Raises:
            AlreadyServed: another process serves the folder.
            OSError: the port cannot be had.
        """
        settings = self._settings
        await self._database.migrate(MIGRATIONS)
        await self.inventory.load()
        self._tree = Tree(self.place.root, sync=settings.fsync)
        self._tree.prepare()
        io, reading = (
            ThreadPoolExecutor(settings.io_threads, "edge-io"),
            ThreadPoolExecutor(settings.checksum_threads, "edge-sums"),
        )
        self._pools = [io, reading]
        patience = Patience(settings.settle_s, settings.growing_s)
        self.examiner = Examiner(self._tree, self.inventory, (io, reading), patience)
        self._watcher = Watcher(self._tree, self.inventory, self.examiner, io, settings.rescan_s)
        self._watcher.open()
        self._channels = channels = Channels(
            ChannelStore(self._database), self.inventory, settings, self._clock
        )
        await channels.load()
        await self._open_door(self._tree, io, channels)
        keep = self.inventory.prune_forever(
            keep_s=settings.event_retention_s, keep=settings.event_retention_count
        )
        assert self._door is not None  # noqa: S101 - opened above
        self._failed = asyncio.get_running_loop().create_future()
        for work in (
            self._watcher.hear(),
            self._watcher.compare_new_folders(),
            self._watcher.compare_everything(),
            self.examiner.run(),
            self._door.watch(),
            channels.expire_forever(),
            keep,
        ):
            self._begin(work)
        log.info("edge_opened", site=self.place.site, port=self.port)

    async def _open_door(self, tree: Tree, pool: Executor, channels: Channels) -> None:
        settings = self._settings
        limits = WireLimits(
            max_head_bytes=settings.max_head_bytes,
            max_connections=settings.max_connections,
            block_bytes=settings.block_bytes,
            head_timeout_s=settings.head_timeout_s,
            keepalive_timeout_s=settings.keepalive_timeout_s,
            body_idle_timeout_s=settings.body_idle_timeout_s,
            shutdown_grace_s=settings.shutdown_grace_s,
        )
        self._door = door = HttpDoor(limits)
        site = Site(
            name=self.place.site,
            base_url=self.place.base_url,
            settings=settings,
            tree=tree,
            inventory=self.inventory,
            pool=pool,
            authorizer=self._authorizer,
            new_id=new_uuid,
            unbroken=door.unbroken,
        )
        copier = Copier(self._outbound, self._rates, settings.max_copies)
        events = EventsApi(site, channels, self._clock)
        router = Router(site, copier, events, lambda: self.ready)
        await door.open(
            router.handle, settings.listen, self.place.port, self._tls[0] if self._tls else None
        )
        site.base_url = self.base_url

    async def run(self) -> None:
        """Wait until something that must not fail does; runs until it is cancelled.

        Raises:
            Exception: what failed.
        """
        assert self._failed is not None  # noqa: S101 - `open` comes first
        await self._failed

    async def shut(self) -> None:
        """Finish requests in flight, then close everything; what was accepted is kept."""
        if self._channels is not None:
            self._channels.let_go()
        if self._door is not None:
            await self._door.shut()
        for task in self._work:
            task.cancel()
        if self._work:
            await asyncio.wait(self._work)
        self._work.clear()
        await self._outbound.close()
        if self._watcher is not None:
            self._watcher.close()
        for pool in self._pools:
            pool.shutdown(wait=True)
        if self._tree is not None:
            self._tree.close()
        await self.inventory.close()
        await self._database.close()
        log.info("edge_shut", site=self.place.site)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        task.add_done_callback(self._ended)
        self._work.append(task)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or self._failed is None or self._failed.done():
            return
        with suppress(asyncio.InvalidStateError):
            self._failed.set_exception(
                task.exception() or RuntimeError("a loop of the edge ended by itself")
            )
