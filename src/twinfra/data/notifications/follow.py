"""A durable cursor in the event stream that keeps strict order: one event at a time.

``core.bus`` lets others pass an event that fails; a webhook's order must hold, so this asks for one
message, keeps it as its own while it is dealt with, however long that takes, and only then takes
the next. The cursor is a durable consumer of the server, made anew if it is lost.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import nats.errors
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from twinfra.core.bus import OWN, ROOT, STREAM, Bus, Event
from twinfra.core.errors import InvalidRequest, Unavailable
from twinfra.core.telemetry import get_logger
from twinfra.data.notifications.model import minimal

log = get_logger(__name__)

ACK_WAIT_S = 5.0
FETCH_S = 5.0
PAUSE_S = 0.3
AGAIN_S = 3.0
IDLE_S = 60.0
BATCH = 64
FAULTS = (nats.errors.Error, OSError, TimeoutError, Unavailable)


@dataclass(frozen=True)
class Wish:
    """Which events a cursor gives.

    Attributes:
        types: each may end in ``.*``.
        sites: of these only; none: of all.
        follow_from: from this moment on; none: from the beginning of the stream.
    """

    types: tuple[str, ...]
    sites: tuple[str, ...] = ()
    follow_from: datetime | None = None

    @property
    def subjects(self) -> list[str]:
        """Return the NATS subjects, none of which includes another."""
        kinds = [_pattern(kind) for kind in minimal(self.types)]
        return [f"{ROOT}.{site}.{kind}" for site in self.sites or ("*",) for kind in kinds]


Handler = Callable[[Event, str], Awaitable[None]]


class Ended(Exception):
    """A handler wants no further event; its follower returns."""


class Follower:
    """Gives the events of one durable cursor, in order, each until it is dealt with.

    Args:
        bus: connected sooner or later.
        durable: name of the cursor.
        wish: which events.
    """

    def __init__(self, bus: Bus, durable: str, wish: Wish) -> None:
        self._bus, self._durable, self._wish = bus, durable, wish

    async def run(self, handle: Handler) -> None:
        """Give each event, with the stream's epoch, to `handle`, until cancelled or `Ended`.

        The epoch names this very stream: places in it mean nothing in another. `handle` returns
        when the event is dealt with; if it raises, the event comes again after a pause, before any
        other. After a crash the last events may come again.
        """
        while True:
            try:
                epoch = await self._ensure()
                subscription = await self._bus.stream.pull_subscribe_bind(self._durable, STREAM)
                try:
                    await self._pull(subscription, handle, epoch)
                finally:
                    with suppress(*FAULTS):
                        await subscription.unsubscribe()
            except Ended:
                return
            except FAULTS as error:
                log.info("follower_interrupted", durable=self._durable, error=repr(error))
                await asyncio.sleep(PAUSE_S)

    async def _ensure(self) -> str:
        """Make the cursor if it is not there; returns the stream's epoch."""
        stream = self._bus.stream
        try:
            found = await stream.consumer_info(STREAM, self._durable)
        except NotFoundError:
            found = None
        if found is None or sorted(found.config.filter_subjects or []) != self._wish.subjects:
            await self._make(found)
        info = await stream.stream_info(STREAM)
        return str(info.created)

    async def _make(self, found: Any) -> None:
        config = ConsumerConfig(
            durable_name=self._durable,
            filter_subjects=sorted(self._wish.subjects),
            ack_wait=ACK_WAIT_S,
            max_deliver=-1,
            max_ack_pending=1,
        )
        _begin_at(config, self._wish.follow_from)
        if found is not None:
            config.deliver_policy = found.config.deliver_policy
            config.opt_start_time = found.config.opt_start_time
        await self._bus.stream.add_consumer(STREAM, config)

    async def _pull(self, subscription: Any, handle: Handler, epoch: str) -> None:
        while True:
            try:
                (message,) = await subscription.fetch(1, timeout=FETCH_S)
            except TimeoutError:
                continue
            event = _read(message)
            if event is None:
                await message.term()
                continue
            await _deal(message, event, epoch, handle)


async def _deal(message: Any, event: Event, epoch: str, handle: Handler) -> None:
    """Hand one event over and tell the server what came of it.

    When this is cancelled the event is given back at once, for whoever goes on.
    """
    heart = asyncio.create_task(_keep(message))
    try:
        await handle(event, epoch)
    except Ended:
        await message.ack()
        raise
    except asyncio.CancelledError:
        with suppress(*FAULTS):
            await message.nak()
        raise
    except Exception as error:
        log.warning("event_not_dealt_with", event_id=event.id, exc_info=error)
        await message.nak(delay=AGAIN_S)
    else:
        await message.ack()
    finally:
        heart.cancel()


async def latest(
    bus: Bus,
    wish: Wish,
    *,
    after: int | None,
    idle_s: float,
) -> AsyncGenerator[Event | None, None]:
    """Give events without keeping a cursor, for a reader that remembers its own place.

    Goes on by itself when the server was away; gives none each time that nothing came for `idle_s`.

    Args:
        bus: connected.
        wish: which events.
        after: place of the last event that the reader has; wins over the wish's moment.
        idle_s: how long to be silent.

    Raises:
        Unavailable: the stream cannot be had now, before the first event.
    """
    place = after
    while True:
        try:
            name = await _passing_consumer(bus, wish, place)
            subscription = await bus.stream.pull_subscribe_bind(name, STREAM)
            try:
                async for event in _flow(subscription, idle_s):
                    if event is not None:
                        place = event.sequence
                    yield event
            finally:
                with suppress(*FAULTS):
                    await subscription.unsubscribe()
                    await bus.stream.delete_consumer(STREAM, name)
        except FAULTS as error:
            log.info("event_stream_interrupted", error=repr(error))
            await asyncio.sleep(PAUSE_S)
            yield None


async def _passing_consumer(bus: Bus, wish: Wish, place: int | None) -> str:
    config = ConsumerConfig(
        filter_subjects=wish.subjects,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=IDLE_S,
        mem_storage=True,
    )
    if place is None:
        _begin_at(config, wish.follow_from)
    else:
        config.deliver_policy = DeliverPolicy.BY_START_SEQUENCE
        config.opt_start_seq = place + 1
    made = await bus.stream.add_consumer(STREAM, config)
    return str(made.name)


async def _flow(subscription: Any, idle_s: float) -> AsyncGenerator[Event | None, None]:
    while True:
        try:
            messages = await subscription.fetch(BATCH, timeout=idle_s)
        except TimeoutError:
            yield None
            continue
        for message in messages:
            event = _read(message)
            if event is not None:
                yield event


async def end_of_stream(bus: Bus) -> int:
    """Return the place of the last event in the stream.

    Raises:
        Unavailable: the stream cannot be had now.
    """
    try:
        info = await bus.stream.stream_info(STREAM)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise Unavailable("the event stream does not answer") from error
    return int(info.state.last_seq)


def _begin_at(config: ConsumerConfig, moment: datetime | None) -> None:
    if moment is None:
        config.deliver_policy = DeliverPolicy.ALL
    else:
        config.deliver_policy = DeliverPolicy.BY_START_TIME
        config.opt_start_time = moment


def _read(message: Any) -> Event | None:
    try:
        body = json.loads(message.data)
        return Event.from_json(body, sequence=message.metadata.sequence.stream)
    except (ValueError, InvalidRequest, RecursionError):
        log.warning("message_is_no_event", subject=message.subject)
        return None


async def _keep(message: Any) -> None:
    """Tell the server that the message is being worked on."""
    while True:
        await asyncio.sleep(ACK_WAIT_S / 3)
        with suppress(*FAULTS):
            await message.in_progress()


def _pattern(kind: str) -> str:
    pattern = kind.removeprefix(OWN)
    return pattern.removesuffix("*") + ">" if pattern.endswith("*") else pattern


def all_types(types: Sequence[str]) -> tuple[str, ...]:
    """Return the wanted types, or the pattern for all."""
    return tuple(types) or ("*",)
