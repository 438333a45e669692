"""Keeps one loop running for each site, subscription and trigger that there is now.

Looks again when something was made, changed or removed, and every few seconds for sites that
joined. A loop that fails is logged and started anew; the loops know nothing of each other.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import nats.errors

from twinfra.core.bus import STREAM, Bus
from twinfra.core.errors import TwinfraError
from twinfra.core.tasks import end
from twinfra.core.telemetry import get_logger
from twinfra.data.notifications.directory import Directory
from twinfra.data.notifications.follow import FAULTS
from twinfra.data.notifications.loops import DeliveryLoop, TriggerLoop, durable_of
from twinfra.data.notifications.model import ACTIVE
from twinfra.data.notifications.readers import SiteReader
from twinfra.data.notifications.settings import NotificationSettings
from twinfra.data.notifications.store import Followed, NotificationStore

log = get_logger(__name__)

Key = tuple[str, ...]
Job = Callable[[], Awaitable[None]]
LOOK_AGAIN_S = 5.0
PREFIXES = ("subscription-", "trigger-")


class Fleet:
    """All loops of the service.

    Args:
        store: names subscriptions and triggers.
        directory: names sites.
        bus: that loops follow.
        settings: how often to look.
        reader: makes the loop of a site at an edge's URL.
        delivery: makes the loop of a subscription.
        trigger: makes the loop of a trigger.
    """

    def __init__(
        self,
        store: NotificationStore,
        directory: Directory,
        bus: Bus,
        settings: NotificationSettings,
        *,
        reader: Callable[[str, str], SiteReader],
        delivery: Callable[[Followed], DeliveryLoop],
        trigger: Callable[[Followed], TriggerLoop],
    ) -> None:
        self._store, self._directory, self._bus = store, directory, bus
        self._settings = settings
        self._reader, self._delivery, self._trigger = reader, delivery, trigger
        self._running: dict[Key, asyncio.Task[None]] = {}
        self._news = asyncio.Event()
        self._changing = asyncio.Lock()
        self._cleaned = False

    def wake(self) -> None:
        """Look again at once."""
        self._news.set()

    async def run(self) -> None:
        """Keep the loops running; runs until cancelled, and ends them all then."""
        sites = asyncio.create_task(self._watch_sites())
        try:
            while True:
                self._news.clear()
                await self._reconcile()
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AGAIN_S):
                        await self._news.wait()
        finally:
            await end([sites])
            await self._stop(list(self._running))

    async def _watch_sites(self) -> None:
        """Notice sites that join; apart, so that a catalogue that is away holds nothing up."""
        while True:
            before = dict(self._directory.edges)
            await self._directory.refresh()
            if before != self._directory.edges:
                self.wake()
            await asyncio.sleep(self._settings.sites_refresh_s)

    async def stop_of(self, thing_id: str) -> None:
        """End the loop of a subscription or trigger and forget its cursor."""
        async with self._changing:
            keys = [key for key in self._running if key[1] == thing_id]
            await self._stop(keys)
            for prefix in PREFIXES:
                with suppress(*FAULTS):
                    await self._bus.forget(prefix + thing_id)

    async def _reconcile(self) -> None:
        async with self._changing:  # else what was just ended, read before, would begin again
            await self._to_what_is_wanted()

    async def _to_what_is_wanted(self) -> None:
        wanted = await self._wanted()
        await self._stop([key for key in self._running if key not in wanted])
        for key, job in wanted.items():
            task = self._running.get(key)
            if task is not None and task.done():
                _note_end(key, task)
                task = None
            if task is None:
                self._running[key] = asyncio.create_task(_run(job), name="-".join(key))

    async def _wanted(self) -> Mapping[Key, Job]:
        jobs: dict[Key, Job] = {
            ("site", site, url): self._reading(site, url)
            for site, url in self._directory.edges.items()
        }
        async with self._store.read() as unit:
            subscriptions = await unit.subscriptions(status=ACTIVE)
            triggers = await unit.triggers(status=ACTIVE)
        if not self._cleaned:
            await self._clean([*subscriptions, *triggers])
        for followed in subscriptions:
            jobs[_key("subscription", followed)] = self._delivering(followed)
        for followed in triggers:
            jobs[_key("trigger", followed)] = self._registering(followed)
        return jobs

    def _reading(self, site: str, url: str) -> Job:
        async def job() -> None:
            await self._reader(site, url).run()

        return job

    def _delivering(self, followed: Followed) -> Job:
        async def job() -> None:
            loop = self._delivery(followed)
            await loop.follower(self._bus).run(loop.handle)

        return job

    def _registering(self, followed: Followed) -> Job:
        async def job() -> None:
            loop = self._trigger(followed)
            await loop.follower(self._bus).run(loop.handle)

        return job

    async def _clean(self, followed: list[Followed]) -> None:
        """Remove cursors at the server whose subscription or trigger is gone."""
        known = {durable_of(each.thing) for each in followed}
        try:
            consumers = await self._bus.stream.consumers_info(STREAM)
            for consumer in consumers:
                if consumer.name.startswith(PREFIXES) and consumer.name not in known:
                    await self._bus.forget(consumer.name)
        except (nats.errors.Error, TwinfraError, OSError, TimeoutError):
            return
        self._cleaned = True

    async def _stop(self, keys: list[Key]) -> None:
        tasks = [self._running.pop(key) for key in keys if key in self._running]
        await end(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()


def _key(kind: str, followed: Followed) -> Key:
    """Name a loop so that a thing that was enabled again gets a new one."""
    return kind, followed.thing.id, str(followed.follow_from), str(followed.grant)


def _note_end(key: Key, task: asyncio.Task[None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.error("loop_failed", loop=key[:2], exc_info=error)


async def _run(job: Job) -> None:
    await job()
