"""Channels and their subscriptions: kept by `store`, so that they outlive a restart.

A channel belongs to who made it. It is deleted when nobody has read it for its time; while the edge
is away that clock stands still.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from twinfra.core.errors import InvalidRequest, NotFound, RateLimited
from twinfra.core.ids import new_uuid
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.data.edge.events.frames import Selector
from twinfra.data.edge.events.store import ChannelStore, KeptChannel, KeptSubscription
from twinfra.data.edge.inventory.inventory import Inventory
from twinfra.data.edge.settings import EdgeSettings

log = get_logger(__name__)

EXPIRE_EVERY_S = 1.0
MAX_CLIENT_ID_CHARS = 256


@dataclass(frozen=True)
class Subscription:
    """One subscription.

    Attributes:
        id: within its channel.
        selector: what it is about.
        since: it tells of outbox rows with a higher number.
    """

    id: str
    selector: Selector
    since: int


@dataclass(eq=False)
class Reader:
    """One stream of a channel.

    Attributes:
        task: that sends it.
        notices: management frames that it has still to send.
    """

    task: asyncio.Task[Any]
    notices: deque[dict[str, str]] = field(default_factory=deque)


@dataclass(eq=False)
class Channel:
    """One channel and its readers.

    Attributes:
        id: part of its URL; not to be guessed.
        owner: issuer and subject of who made it.
        client_id: a name that its maker finds it by.
        timeout_s: it may be without a reader so long.
        subscriptions: in the order they were made.
        readers: who streams it now, the oldest first.
        unread_since: monotonic moment when the last reader left.
        deleted: nobody can find it any more.
    """

    id: str
    owner: str
    client_id: str | None
    timeout_s: int
    unread_since: float
    subscriptions: list[Subscription] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    deleted: bool = False


class Channels:
    """All channels of one edge.

    Args:
        store: keeps them.
        inventory: numbers the events.
        settings: limits.
        clock: tells how long a channel was unread.
    """

    def __init__(
        self, store: ChannelStore, inventory: Inventory, settings: EdgeSettings, clock: Clock
    ) -> None:
        self._store, self._inventory = store, inventory
        self._settings, self._clock = settings, clock
        self._channels: dict[str, Channel] = {}
        self.ending = False
        """The edge shuts: streams end now, their readers go on behind their last event later."""

    async def load(self) -> None:
        """Read what there was before the edge was away."""
        for kept in await self._store.all():
            self._channels[kept.id] = Channel(
                kept.id,
                kept.owner,
                kept.client_id,
                kept.timeout_s,
                self._clock.monotonic(),
                [
                    Subscription(wish.id, Selector.from_json(wish.selector), wish.since)
                    for wish in kept.subscriptions
                ],
            )

    async def make(self, owner: str, client_id: str | None) -> Channel:
        """Make a channel.

        Raises:
            RateLimited: its owner has as many as one may have.
        """
        if client_id is not None and len(client_id) > MAX_CLIENT_ID_CHARS:
            raise InvalidRequest(f"a client-id has at most {MAX_CLIENT_ID_CHARS} characters")
        if len(self.owned(owner)) >= self._settings.max_channels_per_user:
            raise RateLimited("you have as many channels as one may have")
        channel = Channel(
            new_uuid(),
            owner,
            client_id,
            self._settings.channel_timeout_s,
            self._clock.monotonic(),
        )
        self._channels[channel.id] = channel
        await self._store.add(KeptChannel(channel.id, owner, client_id, channel.timeout_s))
        return channel

    def owned(self, owner: str) -> Sequence[Channel]:
        """Return the channels of `owner`."""
        return [channel for channel in self._channels.values() if channel.owner == owner]

    def find(self, channel_id: str) -> Channel:
        """Return a channel.

        Raises:
            NotFound: there is none.
        """
        channel = self._channels.get(channel_id)
        if channel is None:
            raise NotFound("Not Found")
        return channel

    async def set_timeout(self, channel: Channel, timeout_s: Any) -> None:
        """Let a channel be unread for `timeout_s` at most.

        Raises:
            InvalidRequest: it is no such time.
        """
        most = self._settings.channel_timeout_max_s
        if not isinstance(timeout_s, int) or isinstance(timeout_s, bool):
            raise InvalidRequest("timeout is a number of seconds")
        if not 1 <= timeout_s <= most:
            raise InvalidRequest(f"timeout is between 1 and {most} seconds")
        channel.timeout_s = timeout_s
        await self._store.set_timeout(channel.id, timeout_s)

    async def delete(self, channel: Channel) -> None:
        """Delete a channel; its readers are let go."""
        channel.deleted = True
        self._channels.pop(channel.id, None)
        self._inventory.wake()
        await self._store.delete(channel.id)

    async def subscribe(self, channel: Channel, selector: Selector) -> tuple[Subscription, bool]:
        """Add a subscription; returns it and whether it is new.

        It tells of what happens from now on, as dCache's do; a recursive one (ours) of all that is
        kept, so that a reader who brings a place (``Last-Event-ID``) misses nothing from before.

        Raises:
            RateLimited: the channel has as many as one may have.
        """
        for known in channel.subscriptions:
            if known.selector.text == selector.text:
                return known, False
        if len(channel.subscriptions) >= self._settings.max_subscriptions_per_channel:
            raise RateLimited("the channel has as many subscriptions as one may have")
        since = 0 if selector.recursive else self._inventory.newest
        made = Subscription(new_uuid(), selector, since)
        channel.subscriptions.append(made)
        await self._store.add_subscription(
            channel.id, KeptSubscription(made.id, selector.text, made.since)
        )
        self._notify(channel, "NEW_SUBSCRIPTION", made)
        return made, True

    def subscription(self, channel: Channel, subscription_id: str) -> Subscription:
        """Return one subscription.

        Raises:
            NotFound: the channel has none such.
        """
        for known in channel.subscriptions:
            if known.id == subscription_id:
                return known
        raise NotFound("Not Found")

    async def unsubscribe(self, channel: Channel, subscription: Subscription) -> None:
        """Remove a subscription; one that is gone is fine."""
        if subscription not in channel.subscriptions:
            return
        channel.subscriptions.remove(subscription)
        await self._store.delete_subscription(channel.id, subscription.id)
        self._notify(channel, "SUBSCRIPTION_CLOSED", subscription)

    async def expire_forever(self) -> None:
        """Delete channels that nobody reads; runs until it is cancelled."""
        while True:
            await self._clock.sleep(EXPIRE_EVERY_S)
            now = self._clock.monotonic()
            for channel in list(self._channels.values()):
                if not channel.readers and now - channel.unread_since > channel.timeout_s:
                    log.info("channel_expired", channel_id=channel.id, owner=channel.owner)
                    await self.delete(channel)

    def enter(self, channel: Channel, task: "asyncio.Task[Any]") -> Reader:
        """Let `task` stream the channel; the oldest of too many is let go."""
        reader = Reader(task)
        channel.readers.append(reader)
        if len(channel.readers) > self._settings.max_streams_per_channel:
            channel.readers.pop(0).task.cancel()
        return reader

    def let_go(self) -> None:
        """Let all readers go, for the edge shuts."""
        self.ending = True
        self._inventory.wake()

    def leave(self, channel: Channel, reader: Reader) -> None:
        """Note that `reader` has stopped."""
        if reader in channel.readers:
            channel.readers.remove(reader)
        channel.unread_since = self._clock.monotonic()

    def _notify(self, channel: Channel, kind: str, subscription: Subscription) -> None:
        for reader in channel.readers:
            reader.notices.append({"type": kind, "subscription": subscription.id})
        self._inventory.wake()
