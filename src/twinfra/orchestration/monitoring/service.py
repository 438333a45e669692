"""Use cases of monitoring: watch every site of the catalogue, look at once, count ended jobs.

Each site is watched by a task of its own, so that one that hangs delays no other. A status is kept,
and announced, when it turns; in between it lives in memory.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from twinfra.core.bus import Event
from twinfra.core.errors import NotFound, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.orchestration.catalogue.client import Provider
from twinfra.orchestration.monitoring.model import (
    DOWN,
    REMOVED,
    UP,
    SiteStatus,
    job_failure_rate,
    judged,
    outcome_of,
    unknown,
)
from twinfra.orchestration.monitoring.ports import Directory, SiteProbe, StatusStore
from twinfra.orchestration.monitoring.settings import MonitoringSettings

SOURCE = "/monitoring"
HALF_LIVES_KEPT = 8
log = get_logger(__name__)


@dataclass
class _Watch:
    """One site under watch."""

    provider: Provider
    status: SiteStatus
    task: asyncio.Task[None] | None = None
    asked: asyncio.Task[SiteStatus] | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Monitor:
    """Watches the sites.

    Args:
        directory: which sites there are.
        probe: looks at one.
        store: remembers.
        settings: intervals and thresholds.
        clock: paces it all.
        show: called with each new status; for metrics.
        hide: called with a site that is gone.
    """

    def __init__(
        self,
        directory: Directory,
        probe: SiteProbe,
        store: StatusStore,
        settings: MonitoringSettings,
        clock: Clock,
        *,
        show: Callable[[SiteStatus], None] = lambda _: None,
        hide: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._directory, self._probe, self._store = directory, probe, store
        self._settings, self._clock = settings, clock
        self._show, self._hide = show, hide
        self._watches: dict[str, _Watch] = {}
        self._kept: dict[str, SiteStatus] | None = None
        self._refreshing = asyncio.Lock()
        self._places = asyncio.Semaphore(settings.max_probes_at_once)

    def statuses(self) -> list[SiteStatus]:
        """Return how all sites are, by name."""
        return [self._watches[site].status for site in sorted(self._watches)]

    def status(self, site: str) -> SiteStatus:
        """Return how a site is.

        Raises:
            NotFound: the catalogue does not know it.
        """
        return self._watch(site).status

    async def probe_now(self, site: str) -> SiteStatus:
        """Look at a site at once and until it is sure: as often as a down site needs.

        Callers that come meanwhile get the same answer.

        Raises:
            NotFound: the catalogue does not know it.
        """
        if site not in self._watches:
            with suppress(TwinfraError):
                await self.refresh()
        watch = self._watch(site)
        if watch.asked is None or watch.asked.done():
            watch.asked = asyncio.create_task(self._until_sure(watch))
        return await asyncio.shield(watch.asked)

    async def run(self) -> None:
        """Watch the sites of the catalogue, for ever."""
        try:
            while True:
                try:
                    await self.refresh()
                except TwinfraError as error:
                    log.warning("catalogue_unavailable", error=error.detail)
                await self._clock.sleep(self._settings.catalogue_interval_s)
        finally:
            tasks = [task for watch in self._watches.values() for task in (watch.task, watch.asked)]
            await _end(*tasks)

    async def refresh(self) -> None:
        """Take up new sites, drop those that are gone, follow those that moved.

        Raises:
            TwinfraError: the catalogue does not answer; the sites so far are watched on.
        """
        async with self._refreshing:
            if self._kept is None:
                self._kept = dict(await self._store.statuses())
            providers = {each.name: each for each in await self._directory.providers()}
            for name, provider in providers.items():
                watch = self._watches.get(name)
                if watch is None:
                    self._take_up(provider)
                elif watch.provider != provider:
                    before, watch.provider = watch.provider, provider
                    if _doors(before) != _doors(provider):
                        await self._probe.forget(before)
            for name in {*self._watches, *self._kept} - set(providers):
                await self._drop(name)

    async def count(self, event: Event) -> None:
        """Count a ``job.state`` event for its site; safe to be told again."""
        outcome = outcome_of(event.data if isinstance(event.data, dict) else {}, event.time)
        if outcome is None:
            return
        kept_s = HALF_LIVES_KEPT * self._settings.job_half_life_s
        keep_since = self._clock.now() - timedelta(seconds=kept_s)
        await self._store.add_outcome(outcome, keep_since=keep_since)
        watch = self._watches.get(outcome.site)
        if watch is not None:
            async with watch.turn:
                self._set(watch, await self._with_jobs(watch.status))

    def _watch(self, site: str) -> _Watch:
        watch = self._watches.get(site)
        if watch is None:
            raise NotFound(f"the catalogue knows no site {site}")
        return watch

    def _take_up(self, provider: Provider) -> None:
        known = (self._kept or {}).get(provider.name)
        status = known or unknown(provider.name, self._clock.now())
        watch = self._watches[provider.name] = _Watch(provider, status)
        self._show(status)
        watch.task = asyncio.create_task(self._keep_watching(watch))
        log.info("site_taken_up", site=provider.name)

    async def _drop(self, site: str) -> None:
        watch = self._watches.pop(site, None)
        known = watch.status if watch else (self._kept or {})[site]
        if watch is not None:
            await _end(watch.task, watch.asked)
            await self._probe.forget(watch.provider)
        async with self._store.unit() as unit:
            await unit.drop(site)
            if known.up:
                await unit.announce(_event(replace(known, up=False, reason=REMOVED)))
        if self._kept is not None:
            self._kept.pop(site, None)
        self._hide(site)
        log.info("site_dropped", site=site)

    async def _keep_watching(self, watch: _Watch) -> None:
        while True:
            try:
                await self._look(watch)
            except TwinfraError as error:  # it is us who cannot look; the site may be fine
                log.warning("site_not_probed", site=watch.provider.name, error=error.detail)
            except Exception:  # the edge of a task: a bug at one site must stop no watch
                log.exception("site_watch_failed", site=watch.provider.name)
            await self._clock.sleep(self._settings.probe_interval_s)

    async def _until_sure(self, watch: _Watch) -> SiteStatus:
        for _ in range(self._settings.down_after):
            status = await self._look(watch)
            if not status.failures or not status.up:
                break
        return watch.status

    async def _look(self, watch: _Watch) -> SiteStatus:
        async with watch.turn:
            async with self._places:
                probe = await self._probe.look(watch.provider)
            before = watch.status
            after = judged(
                before,
                probe,
                down_after=self._settings.down_after,
                half_life_s=self._settings.probe_half_life_s,
            )
            after = await self._with_jobs(after)
            if after.up != before.up or before.checked_at is None:
                async with self._store.unit() as unit:
                    await unit.put(after)
                    await unit.announce(_event(after))
                log.info("site_turned", site=after.site, up=after.up, reason=after.reason)
            self._set(watch, after)
            return after

    async def _with_jobs(self, status: SiteStatus) -> SiteStatus:
        rate = job_failure_rate(
            await self._store.outcomes(status.site),
            self._clock.now(),
            half_life_s=self._settings.job_half_life_s,
        )
        return replace(status, job_failure_rate=rate)

    def _set(self, watch: _Watch, status: SiteStatus) -> None:
        watch.status = status
        if self._kept is not None:
            self._kept[status.site] = status
        self._show(status)


def _doors(provider: Provider) -> tuple[str | None, str | None]:
    return provider.interlink_url, provider.edge_url


def _event(status: SiteStatus) -> Event:
    return Event(
        type=UP if status.up else DOWN,
        source=SOURCE,
        subject=status.site,
        data={"site": status.site, "reason": status.reason},
        site=status.site,
    )


async def _end(*tasks: asyncio.Task[None] | asyncio.Task[SiteStatus] | None) -> None:
    running = [task for task in tasks if task is not None and not task.done()]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
