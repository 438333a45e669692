"""One stream of a channel: what happened since the last event seen, then what happens, as it does.

The outbox is the truth: a reader that was away, or was slow, or lived through a restart of the
edge, gets exactly what it has not seen, in order.
"""

import asyncio
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from twinfra.access.model import Principal
from twinfra.core.time import Clock
from twinfra.data.edge.events.channels import Channel, Channels, Reader, Subscription
from twinfra.data.edge.events.frames import PER_ROW, bodies, ends, frame
from twinfra.data.edge.inventory.store import Row
from twinfra.data.edge.site import Site
from twinfra.data.edge.wire.exchange import Exchange

ROWS_AT_ONCE = 500
LONGEST_ID_CHARS = 18


class Stream:
    """Streams one channel to one reader.

    Args:
        site: whose events.
        channels: knows the channel.
        clock: ends the stream with the token.
        url: of the channel.
    """

    def __init__(self, site: Site, channels: Channels, clock: Clock, url: str) -> None:
        self._site, self._channels, self._clock, self._url = site, channels, clock, url

    async def run(self, exchange: Exchange, channel: Channel, principal: Principal) -> None:
        """Answer with the stream; ends when the channel or the token does, or the reader leaves."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a connection serves each request in a task
        reader = self._channels.enter(channel, task)
        try:
            await exchange.begin(
                200,
                [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")],
            )
            row, place, lost = await self._position(exchange.head.headers.get("last-event-id"))
            await exchange.write(frame("SYSTEM", {"type": "EVENT_LOSS"}) if lost else b":\n\n")
            await self._follow(exchange, channel, reader, principal, (row, place))
            await exchange.end()
        finally:
            self._channels.leave(channel, reader)

    async def _position(self, last_event_id: str | None) -> tuple[int, int, bool]:
        """Return the row and the place in it seen last, and whether events were lost since."""
        inventory = self._site.inventory
        newest = inventory.newest
        if last_event_id is None:
            return newest, PER_ROW, False
        if not last_event_id.isdecimal() or len(last_event_id) > LONGEST_ID_CHARS:
            return newest, PER_ROW, True
        row, place = divmod(int(last_event_id), PER_ROW)
        if row > newest or row + 1 < await inventory.oldest():
            return newest, PER_ROW, True
        return row, place, False

    async def _follow(
        self,
        exchange: Exchange,
        channel: Channel,
        reader: Reader,
        principal: Principal,
        seen: tuple[int, int],
    ) -> None:
        row, place = seen
        first = row - 1  # the row itself may hold frames that were not seen
        while not self._is_over(channel, principal):
            while reader.notices:
                await exchange.write(frame("SYSTEM", self._with_url(reader.notices.popleft())))
            rows = await self._site.inventory.events(first, ROWS_AT_ONCE)
            if rows:
                parts = []
                for item in rows:
                    skip = place + 1 if item["id"] == row else 0
                    parts += await self._frames(channel, principal, item, skip)
                await exchange.write(b"".join(parts))
                first = rows[-1]["id"]
                continue
            first = max(first, row)  # that row is not kept any more: do not look for it again
            wait_s = self._patience(principal.expires_at)
            if not await self._site.inventory.news(first, wait_s):
                await exchange.write(b":\n\n")

    async def _frames(
        self, channel: Channel, principal: Principal, row: Row, skip: int
    ) -> list[bytes]:
        """Return the frames of one row that this reader may see, after the first `skip`."""
        readable = principal.is_service or self._site.authorizer.permits(
            principal, "read", row["path"]
        )
        frames: list[bytes] = []
        place = 0
        over: list[Subscription] = []
        for subscription in channel.subscriptions:
            if row["id"] <= subscription.since:
                continue
            for data in self._data(subscription, row):
                if readable and skip <= place < PER_ROW:
                    frames.append(frame("inotify", data, row["id"] * PER_ROW + place))
                place += 1
            if ends(subscription.selector, row):
                over.append(subscription)
        for subscription in over:
            await self._channels.unsubscribe(channel, subscription)
        return frames

    def _data(self, subscription: Subscription, row: Row) -> Iterator[dict[str, Any]]:
        """Give the data of the frames that a subscription gets for a row.

        Our own payload goes with the last of them, when the file is whole.
        """
        url = self._url_of(subscription.id)
        events = list(bodies(subscription.selector, row))
        for number, event in enumerate(events, start=1):
            data: dict[str, Any] = {"event": event, "subscription": url}
            if number == len(events) and not row["directory"]:
                data["storage"] = self._site.inventory.event_of(row).to_json()
            yield data
        if ends(subscription.selector, row):
            yield {"event": {"mask": ["IN_IGNORED"]}, "subscription": url}

    def _with_url(self, notice: Mapping[str, str]) -> dict[str, str]:
        return {"type": notice["type"], "subscription": self._url_of(notice["subscription"])}

    def _url_of(self, subscription_id: str) -> str:
        return f"{self._url}/subscriptions/inotify/{subscription_id}"

    def _is_over(self, channel: Channel, principal: Principal) -> bool:
        gone = channel.deleted or self._channels.ending
        return gone or self._has_ended(principal.expires_at)

    def _has_ended(self, ends_at: datetime | None) -> bool:
        return ends_at is not None and ends_at <= self._clock.now()

    def _patience(self, ends_at: datetime | None) -> float:
        keepalive_s = self._site.settings.event_keepalive_s
        if ends_at is None:
            return keepalive_s
        left_s = (ends_at - self._clock.now()).total_seconds()
        return max(0.0, min(keepalive_s, left_s))
