"""How fast a link may be: one bucket of tokens for all copies between this site and one peer."""

import asyncio
from collections.abc import Mapping

from twinfra.core.time import Clock
from twinfra.data.edge.ports import Peer

BURST_S = 0.1
SMALLEST_BURST_BYTES = 64 * 1024


class TokenBucket:
    """Lets so many bytes a second pass, first come first served.

    Args:
        rate_bytes_per_s: on average.
        clock: tells time and waits.
    """

    def __init__(self, rate_bytes_per_s: float, clock: Clock) -> None:
        self.rate_bytes_per_s = rate_bytes_per_s
        self._clock = clock
        self._burst = max(rate_bytes_per_s * BURST_S, SMALLEST_BURST_BYTES)
        self._level = self._burst
        self._filled_at = clock.monotonic()
        self._turn = asyncio.Lock()

    async def take(self, count: int) -> None:
        """Wait until `count` bytes may have passed."""
        async with self._turn:
            now = self._clock.monotonic()
            gained = (now - self._filled_at) * self.rate_bytes_per_s
            self._level = min(self._burst, self._level + gained) - count
            self._filled_at = now
            if self._level < 0:
                await self._clock.sleep(-self._level / self.rate_bytes_per_s)


class Rates:
    """The buckets of all links of this site.

    Args:
        clock: tells time and waits.
        general: limit of each link; none: no limit.
        by_link: limit by site name or ``host:port`` of the peer; wins.
    """

    def __init__(self, clock: Clock, general: int | None, by_link: Mapping[str, int]) -> None:
        self._clock, self._general, self._by_link = clock, general, by_link
        self._buckets: dict[str, TokenBucket] = {}

    def bucket(self, peer: Peer) -> TokenBucket | None:
        """Return the bucket of the link to `peer`; none if it has no limit."""
        rate = self._by_link.get(peer.address, self._general)
        if peer.site is not None:
            rate = self._by_link.get(peer.site, rate)
        if rate is None:
            return None
        name = peer.site or peer.address
        if name not in self._buckets:
            self._buckets[name] = TokenBucket(rate, self._clock)
        return self._buckets[name]
