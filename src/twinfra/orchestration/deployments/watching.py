"""Following the sites that have something of ours: a change there wakes the run it is about.

One loop a site, begun when something is placed there; a site that goes is asked again. Losing an
event does no harm: runs ask for themselves after a while.
"""

import asyncio
from collections.abc import Awaitable, Callable

from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.orchestration.infrastructure.model import Target
from twinfra.orchestration.infrastructure.ports import Driver

log = get_logger(__name__)

PAUSE_S = (0.5, 10.0)
Changed = Callable[[Target, str], Awaitable[None]]


class SiteWatch:
    """The loops, one a site.

    Args:
        driver: gives the changes of a site.
        clock: paces what is tried again.
    """

    def __init__(self, driver: Driver, clock: Clock) -> None:
        self._driver, self._clock = driver, clock
        self._wanted: dict[str, Target] = {}
        self._news = asyncio.Event()

    def ensure(self, target: Target) -> None:
        """Follow `target` from now on, if that is not done already."""
        if target.endpoint not in self._wanted:
            self._wanted[target.endpoint] = target
            self._news.set()

    async def run(self, changed: Changed) -> None:
        """Follow all sites and hand each change to `changed`; runs until cancelled."""
        followed: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                self._news.clear()
                for endpoint in self._wanted.keys() - followed:
                    followed.add(endpoint)
                    group.create_task(self._follow(self._wanted[endpoint], changed))
                await self._news.wait()

    async def _follow(self, target: Target, changed: Changed) -> None:
        pause_s = PAUSE_S[0]
        while True:
            try:
                async for uid in self._driver.watch(target):
                    pause_s = PAUSE_S[0]
                    await changed(target, uid)
            except TwinfraError as error:
                log.warning("site_watch_interrupted", site=target.site, detail=error.detail)
            except Exception:
                # the edge of a task: one site's nonsense must not end the watch of all others
                log.exception("site_watch_failed", site=target.site)
            await self._clock.sleep(pause_s)
            pause_s = min(PAUSE_S[1], pause_s * 2)
