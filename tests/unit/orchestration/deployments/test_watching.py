"""Following sites: one that talks nonsense disturbs nobody."""

import asyncio

from twinfra.core.errors import Unavailable
from twinfra.core.tasks import end
from twinfra.orchestration.deployments.watching import SiteWatch
from twinfra.orchestration.infrastructure.model import Target
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.waiting import wait_for


class Driver:
    """Its sites fail as they are told, then give one change."""

    def __init__(self, **failures):
        self.failures = failures

    async def watch(self, target):
        if self.failures[target.site]:
            raise self.failures[target.site].pop()
        yield f"pod-at-{target.site}"
        await asyncio.Event().wait()


async def test_other_sites_are_followed_when_one_talks_nonsense():
    clock, seen = VirtualClock(), []
    watch = SiteWatch(Driver(bad=[KeyError("uid"), Unavailable("away")], good=[]), clock)

    async def changed(target, uid):
        seen.append(uid)

    for name in ("bad", "good"):
        watch.ensure(Target(name, f"https://{name}.example", name.upper()))
    task = asyncio.create_task(watch.run(changed))
    await wait_for(lambda: seen == ["pod-at-good"])
    await clock.advance(5)
    await wait_for(lambda: "pod-at-bad" in seen)
    await end([task])
