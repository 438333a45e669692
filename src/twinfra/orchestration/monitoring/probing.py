"""Looking at a site over its own protocols: interLink's ping and the edge's health.

Says what it finds and judges nothing. A foreign interLink whose ping says no more than "ok" is
fine. Its neighbour ``service`` decides what it means.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from twinfra.access.tokens import TokenClient
from twinfra.compute.interlink.client import InterlinkClient, Ping
from twinfra.core.errors import TwinfraError, shorten
from twinfra.core.http.client import HttpClient
from twinfra.core.time import Clock
from twinfra.orchestration.catalogue.client import Provider
from twinfra.orchestration.monitoring.model import EDGE, INTERLINK, Check, Free, Probe, Queue


class HttpSiteProbe:
    """Looks at sites over HTTP.

    Args:
        tokens: gives the tokens of this service.
        tls: trusts the sites' certificates.
        clock: tells moments and measures time.
        timeout_s: for each question.
    """

    def __init__(
        self, tokens: TokenClient, *, tls: ssl.SSLContext, clock: Clock, timeout_s: float
    ) -> None:
        self._tokens, self._tls, self._clock = tokens, tls, clock
        self._timeout_s = timeout_s
        self._clients: dict[str, HttpClient] = {}

    async def look(self, provider: Provider) -> Probe:
        """Return what was found; see `SiteProbe.look`."""
        token = await self._tokens.service(provider.interlink_url) if provider.interlink_url else ""
        at = self._clock.now()
        questions = []
        if provider.interlink_url:
            ping = InterlinkClient(self._client(provider.interlink_url), clock=self._clock)
            questions.append(self._ask(INTERLINK, lambda: ping.ping(token=token)))
        if provider.edge_url:
            edge = self._client(provider.edge_url)
            questions.append(self._ask(EDGE, lambda: edge.request("GET", "/healthz")))
        answers = await asyncio.gather(*questions)
        said = next((found for _, found in answers if isinstance(found, Ping)), Ping())
        return Probe(
            at=at,
            checks=tuple(check for check, _ in answers),
            free=Free(
                said.free_cpus,
                said.free_memory_bytes,
                said.free_slots,
                sum(said.accelerators.values()) if said.accelerators else None,
            ),
            queue=Queue(said.queue_length, said.queue_wait_s),
        )

    async def forget(self, provider: Provider) -> None:
        """Close what was opened for a site."""
        for url in (provider.interlink_url, provider.edge_url):
            client = self._clients.pop(url, None) if url else None
            if client is not None:
                await client.close()

    async def close(self) -> None:
        """Close everything."""
        for client in self._clients.values():
            with suppress(OSError):
                await client.close()
        self._clients.clear()

    async def _ask(self, name: str, question: Callable[[], Awaitable[Any]]) -> tuple[Check, Any]:
        began = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await question()
        except TimeoutError:
            reason = f"no answer within {self._timeout_s:g} s"
        except TwinfraError as error:
            reason = shorten(error.detail)
        else:
            return Check(name, ok=True, duration_s=self._since(began)), found
        return Check(name, ok=False, reason=reason, duration_s=self._since(began)), None

    def _since(self, began: float) -> float:
        return round(self._clock.monotonic() - began, 4)

    def _client(self, url: str) -> HttpClient:
        if url not in self._clients:
            self._clients[url] = HttpClient(url, tls=self._tls, timeout_s=self._timeout_s)
        return self._clients[url]
