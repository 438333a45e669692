"""What the plug-in does by itself: follow its site, hear of new data, forget what is old."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

from twinfra.compute.interlink.plugin.journal import Journal
from twinfra.compute.interlink.plugin.kit import SiteKit
from twinfra.compute.interlink.plugin.lifecycle import KIND, Lifecycle
from twinfra.compute.interlink.plugin.model import KeptPod
from twinfra.compute.sites.ports import CHANGES, ChangeSite
from twinfra.core.bus import Bus, Event
from twinfra.core.errors import TwinfraError, Unavailable
from twinfra.core.telemetry import get_logger
from twinfra.core.workflow import Engine

log = get_logger(__name__)

RULE_NEWS = ("org.twinfra.rule.stuck", "org.twinfra.rule.replicating")
NEWS_OF_DATA = ("org.twinfra.replica.available", "org.twinfra.dataset.file-added", *RULE_NEWS)
PRUNE_EVERY_S = 600.0
CONNECT_PAUSE_S = 2.0
LOOK_S = 0.1
OLD_WORK_S = 86400.0


class PluginLoops:
    """The loops.

    Args:
        kit: of the site.
        journal: keeps pods.
        engine: lives their lives.
        lifecycle: told of fresh data.
        bus: events of others.
    """

    def __init__(
        self, kit: SiteKit, journal: Journal, engine: Engine, lifecycle: Lifecycle, bus: Bus
    ) -> None:
        self._kit, self._journal, self._engine = kit, journal, engine
        self._lifecycle, self._bus = lifecycle, bus
        self._changed: set[str] = set()
        self._told = asyncio.Event()

    async def wake_changed(self) -> None:
        """Wake the pods whose jobs changed, all that came together at once; runs for ever."""
        while True:
            await self._told.wait()
            self._told.clear()
            changed, self._changed = self._changed, set()
            known = self._lifecycle.works
            works = [known[native_id] for native_id in changed & known.keys()]
            if others := sorted(changed - known.keys()):
                works += await self._journal.store.works_of(others)
            if works:
                await self._engine.wake(KIND, *works)

    async def follow_site(self) -> None:
        """Hear from the site which jobs changed; runs until cancelled."""
        while True:
            if CHANGES not in self._kit.site.capabilities:
                await self.wake(await self._journal.store.live())
                await asyncio.Event().wait()
            changes = cast("ChangeSite", self._kit.site).changes()
            first = asyncio.ensure_future(anext(changes))
            try:
                await asyncio.sleep(0)  # we are listening before anybody is asked
                await self.wake(await self._journal.store.live())
                self._note_change(await first)
                async for native_id in changes:
                    self._note_change(native_id)
            except (TwinfraError, StopAsyncIteration) as error:
                log.warning("site_changes_interrupted", site=self._kit.name, exc_info=error)
                await self._kit.clock.sleep(1.0)
            finally:
                first.cancel()

    async def hear_of_data(self) -> None:
        """Wake pods when replicas become available at this site; runs until cancelled."""
        await self._connected()
        await self._bus.consume(
            f"plugin-{self._kit.name}", NEWS_OF_DATA, self.note_data, from_now=True
        )

    async def note_data(self, event: Event) -> None:
        """Wake the pods that may have waited for this file."""
        data: dict[str, Any] = event.data if isinstance(event.data, dict) else {}
        if str(data.get("site") or self._kit.name) != self._kit.name:
            return
        named = set(_names(data.get("datasets") or ()))
        if data.get("dataset"):
            named |= {str(data["dataset"]), f"{data.get('scope')}:{data['dataset']}"}
        if event.type in RULE_NEWS:
            named.add(f"{data.get('scope')}:{data.get('name')}")
        touched = [pod for pod in await self._journal.store.live() if self._needs(pod, named)]
        self._lifecycle.fresh_data.update(pod.uid for pod in touched)
        await self.wake(touched)

    async def wake(self, pods: Iterable[KeptPod]) -> None:
        """Let the work of `pods` look again."""
        await self._engine.wake(KIND, *(pod.work for pod in pods))

    async def forget_old(self) -> None:
        """Drop events and finished work that nobody can ask for; runs until cancelled."""
        while True:
            before = self._kit.clock.now() - timedelta(seconds=OLD_WORK_S)
            await self._journal.store.prune(self._kit.settings.events_kept, before)
            await self._kit.clock.sleep(PRUNE_EVERY_S)

    async def end_all_jobs(self) -> None:
        """Cancel all jobs and wait until none is left, within bounds: the whole site goes."""
        site = self._kit.site
        ids = [pod.native_id for pod in await self._journal.store.live() if pod.native_id]
        for native_id in ids:
            with suppress(Unavailable):
                await site.cancel(native_id)
        until = self._kit.clock.monotonic() + self._kit.settings.drain_s
        while ids and self._kit.clock.monotonic() < until:
            known = await site.status(ids)
            ids = [key for key in ids if key in known and not known[key].state.final]
            await self._kit.clock.sleep(LOOK_S)
        log.info("site_drained", site=self._kit.name, left=len(ids))

    def _note_change(self, native_id: str) -> None:
        self._changed.add(native_id)
        self._told.set()

    async def _connected(self) -> None:
        while not self._bus.connected:
            with suppress(Unavailable):
                await self._bus.connect()
                return
            await self._kit.clock.sleep(CONNECT_PAUSE_S)

    def _needs(self, pod: KeptPod, named: set[str]) -> bool:
        """Say whether a pod has inputs among these datasets, or as versions among them."""
        inputs = {mount.did for mount in self._kit.request(pod).inputs}
        if not named:
            return bool(inputs)
        return any(name == did or name.startswith(f"{did}.v") for did in inputs for name in named)


def _names(datasets: Iterable[Any]) -> Iterable[str]:
    """Read the datasets of an event: ``scope:name``, or objects with both."""
    for entry in datasets:
        if isinstance(entry, dict):
            yield f"{entry.get('scope')}:{entry.get('name')}"
        else:
            yield str(entry)
