"""Sends an event to a sink: a signed CloudEvent in its structured JSON form.

A bearer token goes along only to the federation's own services, which check it: it acts for the
subscription's creator there. No redirect is followed, so that nothing unregistered is called.

Source: CloudEvents HTTP binding §3.2; Standard Webhooks.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import aiohttp

from twinfra.core.bus import Event
from twinfra.core.errors import InvalidRequest, TwinfraError, shorten
from twinfra.core.http.client import HttpClient
from twinfra.core.time import Clock
from twinfra.data.notifications.ports import Gone, Grant, Refused, Taken
from twinfra.data.notifications.signing import signed_headers

CLOUDEVENT = "application/cloudevents+json"
TokenFor = Callable[[Grant, str], Awaitable[str]]


class WebhookSink:
    """Delivers over HTTPS.

    Args:
        http: a client that follows no redirect; URLs are whole.
        own: base URLs of the federation's services that may be sinks.
        token_for: gives a token on behalf of a grant for one of them.
        clock: stamps deliveries.
        limit_s: for one delivery.
        answer_limit_bytes: the largest answer that is read.
    """

    def __init__(
        self,
        http: HttpClient,
        own: tuple[str, ...],
        token_for: TokenFor,
        clock: Clock,
        *,
        limit_s: float,
        answer_limit_bytes: int,
    ) -> None:
        self._http, self._own, self._token_for, self._clock = http, own, token_for, clock
        self._limit_s, self._answer_limit_bytes = limit_s, answer_limit_bytes

    async def deliver(
        self, event: Event, url: str, secret: str, grant: Grant
    ) -> Taken | Gone | Refused:
        """Send `event` once."""
        body = json.dumps(event.to_json()).encode()
        stamp = int(self._clock.now().timestamp())
        headers = {
            "Content-Type": f"{CLOUDEVENT}; charset=utf-8",
            "Accept": f"{CLOUDEVENT}, application/json;q=0.5",
            **signed_headers(secret, event.id, stamp, body),
        }
        try:
            if token := await self._token(url, grant):
                headers["Authorization"] = f"Bearer {token}"
            async with self._http.stream(
                "POST", url, data=body, headers=headers, timeout_s=self._limit_s
            ) as answer:
                return await self._judge(answer)
        except TwinfraError as error:
            return Refused(shorten(error.detail), error.retry_after_s)

    async def _token(self, url: str, grant: Grant) -> str | None:
        for base in self._own:
            if url == base or url.startswith(base + "/"):
                return await self._token_for(grant, base)
        return None

    async def _judge(self, answer: aiohttp.ClientResponse) -> Taken | Gone | Refused:
        if answer.status == 410:
            return Gone()
        if not 200 <= answer.status < 300:
            text = (await answer.content.read(512)).decode("utf-8", "replace")
            reason = shorten(f"the sink answered {answer.status} {text}".strip())
            return Refused(reason, self._retry_after_s(answer.headers))
        if answer.content_type != CLOUDEVENT:
            return Taken()
        raw = await answer.content.read(self._answer_limit_bytes + 1)
        while len(raw) <= self._answer_limit_bytes and not answer.content.at_eof():
            raw += await answer.content.read(self._answer_limit_bytes + 1)
        if len(raw) > self._answer_limit_bytes:
            return Taken(note="its answer is too large to be an event")
        try:
            return Taken(Event.from_json(json.loads(raw)))
        except (ValueError, InvalidRequest, RecursionError) as error:
            return Taken(note=shorten(f"its answer is not an event: {error}"))

    def _retry_after_s(self, headers: Mapping[str, str]) -> float | None:
        text = headers.get("Retry-After", "")
        if text.isdecimal():
            return float(text)
        try:
            moment = parsedate_to_datetime(text) if text else None
        except ValueError:
            return None
        if moment is None:
            return None
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)  # RFC 5322: -0000 is UTC
        return max(0.0, (aware - self._clock.now()).total_seconds())
