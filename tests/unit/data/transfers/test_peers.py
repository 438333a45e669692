"""Which storages may be called, as the catalogue says."""

import asyncio

from twinfra.core.errors import Unavailable
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.data.transfers.peers import CataloguePeers

URL = "https://storage.example:8443/dav/a"


class Registry:
    """Answers when it is let."""

    def __init__(self, found):
        self.found, self.asked, self.let = found, 0, asyncio.Event()

    async def __call__(self):
        self.asked += 1
        await self.let.wait()
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


def peers(registry):
    return CataloguePeers(registry, (), refresh_s=30, clock=SYSTEM_CLOCK)


async def test_who_comes_while_the_catalogue_is_asked_waits_for_its_answer():
    registry = Registry({"edge-c": "https://storage.example:8443"})
    known = peers(registry)
    both = asyncio.gather(known.allowed(URL), known.allowed(URL))
    await asyncio.sleep(0)
    registry.let.set()
    assert await both == [True, True]
    assert registry.asked == 1


async def test_nobody_is_called_a_stranger_while_the_catalogue_is_silent():
    registry = Registry(Unavailable("it starts"))
    registry.let.set()
    assert await peers(registry).allowed(URL) is None


async def test_a_storage_that_the_catalogue_does_not_name_is_a_stranger():
    registry = Registry({"edge-c": "https://other.example"})
    registry.let.set()
    assert await peers(registry).allowed(URL) is False
