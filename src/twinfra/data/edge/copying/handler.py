"""COPY, whichever way: within the site, pulled from another storage, or pushed to one."""

import asyncio
import os
from collections.abc import Coroutine
from typing import Any

from prometheus_client import Counter

from twinfra.access.model import Principal
from twinfra.core.telemetry import get_logger
from twinfra.data.edge.copying.order import CopyOrder, order_of
from twinfra.data.edge.copying.outbound import Outbound
from twinfra.data.edge.copying.progress import Progress, run_with_markers
from twinfra.data.edge.copying.pulling import Pull
from twinfra.data.edge.copying.pushing import Push
from twinfra.data.edge.copying.rate import Rates
from twinfra.data.edge.dav.destination import RemoteUrl, parse_url
from twinfra.data.edge.dav.moving import copy_here, destination_of, overwrites
from twinfra.data.edge.dav.reading import Opened
from twinfra.data.edge.dav.writing import check_target, may_replace
from twinfra.data.edge.files.checksums import read_note, version_of
from twinfra.data.edge.paths import Resource
from twinfra.data.edge.ports import Peer
from twinfra.data.edge.site import Site
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.edge.wire.exchange import Exchange

log = get_logger(__name__)

COPIES = Counter("twinfra_edge_copies", "Third-party copies", ["site", "direction", "outcome"])
COPIED = Counter("twinfra_edge_copied_bytes", "Bytes copied", ["site", "direction", "peer"])
RETRY_AFTER_S = 5


class Copier:
    """Answers COPY.

    Args:
        outbound: reaches other storages.
        rates: limits links.
        at_once: third-party copies at once.
    """

    def __init__(self, outbound: Outbound, rates: Rates, at_once: int) -> None:
        self._outbound, self._rates = outbound, rates
        self._room = asyncio.Semaphore(at_once)

    async def copy(self, site: Site, exchange: Exchange, resource: Resource) -> None:
        """Answer a COPY."""
        principal = await site.identify(exchange)
        headers = exchange.head.headers
        if "source" in headers:
            if "destination" in headers:
                raise HttpRefusal(400, "a COPY has a Source or a Destination, not both")
            await self._pull(site, exchange, resource, principal)
            return
        target = destination_of(site, exchange)
        if isinstance(target, Resource):
            await copy_here(site, exchange, resource, target, principal)
        else:
            await self._push(site, exchange, resource, target, principal)

    async def _pull(
        self, site: Site, exchange: Exchange, resource: Resource, principal: Principal
    ) -> None:
        headers = exchange.head.headers
        order = order_of(headers, parse_url(headers["source"]), overwrite=overwrites(exchange))
        replace = may_replace(site, principal, resource)
        peer = await self._outbound.peer(order.remote)
        conditions = {} if order.overwrite else {"if-none-match": "*"}
        await check_target(site, resource, conditions, replace=replace)
        pull = Pull(site, self._outbound, order, self._rates.bucket(peer), replace=replace)
        await self._run(site, exchange, "pull", peer, order, pull.progress, pull.run(resource))

    async def _push(
        self,
        site: Site,
        exchange: Exchange,
        resource: Resource,
        target: RemoteUrl,
        principal: Principal,
    ) -> None:
        order = order_of(exchange.head.headers, target, overwrite=overwrites(exchange))
        site.require(principal, "read", resource.path)
        peer = await self._outbound.peer(order.remote)
        descriptor, found = await site.io(site.tree.open, resource.parts)
        try:
            version = version_of(found)
            opened = Opened(descriptor, version, read_note(descriptor, version))
            push = Push(site, self._outbound, order, self._rates.bucket(peer), opened)
            await self._run(site, exchange, "push", peer, order, push.progress, push.run(resource))
        finally:
            os.close(descriptor)

    async def _run(
        self,
        site: Site,
        exchange: Exchange,
        direction: str,
        peer: Peer,
        order: CopyOrder,
        progress: Progress,
        work: Coroutine[Any, Any, None],
    ) -> None:
        if self._room.locked():
            work.close()
            raise HttpRefusal(503, "too many copies at once", [("Retry-After", str(RETRY_AFTER_S))])
        last = "aborted: the orderer left"
        async with self._room:
            try:
                last = await run_with_markers(
                    exchange, progress, work, interval_s=site.settings.marker_interval_s
                )
            finally:
                done = last.startswith("success")
                COPIES.labels(site.name, direction, "success" if done else "failure").inc()
                COPIED.labels(site.name, direction, peer.site or peer.address).inc(
                    progress.bytes_done
                )
                log.info(
                    "copy_ended",
                    direction=direction,
                    remote=str(order.remote).partition("?")[0],
                    size_bytes=progress.bytes_done,
                    outcome=last,
                )
