"""Reads each site's edge and puts what happened there on its way to the bus, each event once.

The place in the edge's stream is kept in the transaction that notes the event, so that a crash
anywhere loses nothing and doubles nothing. Speaks dCache's words through the edge's typed client.
"""

import asyncio
from collections.abc import Callable

from twinfra.core.bus import Event
from twinfra.core.errors import NotFound, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.data.edge.client import EdgeClient, Frame, StorageEvent
from twinfra.data.notifications.metrics import LOST, READ
from twinfra.data.notifications.store import NotificationStore

log = get_logger(__name__)

CLIENT_ID = "twinfra-notifications"
FROM_THE_BEGINNING = "0"
DATASETS_FOLDER = "/datasets/"


class SiteReader:
    """The loop of one site.

    Args:
        site: its name; what the edge says of other sites is not believed.
        edge: gives a client of its edge.
        store: keeps the place.
        clock: paces reconnection.
        pause_s: before the edge is called again; doubles.
        pause_max_s: the longest such pause.
    """

    def __init__(
        self,
        site: str,
        edge: Callable[[], EdgeClient],
        store: NotificationStore,
        clock: Clock,
        *,
        pause_s: float,
        pause_max_s: float,
    ) -> None:
        self._site, self._edge, self._store, self._clock = site, edge, store, clock
        self._pause_s, self._pause_max_s = pause_s, pause_max_s
        self._read_any = False

    async def run(self) -> None:
        """Read for ever; runs until cancelled."""
        client = self._edge()
        pause_s = self._pause_s
        try:
            while True:
                self._read_any = False
                try:
                    await self._read(client)
                except NotFound:
                    log.info("edge_channel_gone", site=self._site)
                except (TwinfraError, OSError) as error:
                    log.info("edge_unreachable", site=self._site, error=str(error))
                pause_s = self._pause_s if self._read_any else min(self._pause_max_s, 2 * pause_s)
                await asyncio.sleep(pause_s)
        finally:
            await client.close()

    async def _read(self, client: EdgeClient) -> None:
        channel = await client.channel(CLIENT_ID)
        await client.subscribe(channel, "/", recursive=True)
        async with self._store.read() as unit:
            place = await unit.cursor(self._site)
        frames = client.frames(channel, last_event_id=place or FROM_THE_BEGINNING)
        log.info("edge_followed", site=self._site, after=place)
        async for frame in frames:
            self._read_any = True
            await self._take(frame)

    async def _take(self, frame: Frame) -> None:
        if frame.lost:
            LOST.labels(self._site).inc()
            log.warning("edge_lost_events", site=self._site)
            return
        if frame.id is None:
            return
        async with self._store.begin() as unit:
            if frame.storage is not None:
                await unit.emit(event_of(self._site, frame.storage))
            await unit.set_cursor(self._site, frame.id, self._clock.now())
        if frame.storage is not None:
            READ.labels(self._site).inc()


def event_of(site: str, found: StorageEvent) -> Event:
    """Return the CloudEvent of a storage event.

    What lies below ``/datasets/<scope>/`` belongs to that scope's group; the rest of a storage is
    shown to everyone in the federation.
    """
    body = found.to_json()
    data = {key: value for key, value in body.items() if key not in {"id", "type", "time"}}
    group = None
    if found.path.startswith(DATASETS_FOLDER):
        group = found.path.removeprefix(DATASETS_FOLDER).partition("/")[0] or None
    return Event(
        type=found.type,
        source=f"/sites/{site}/storage",
        subject=found.path,
        data=data | {"site": site},
        site=site,
        group=group,
        id=found.id,
        time=found.at,
    )
