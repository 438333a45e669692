"""The loop of each subscription and each trigger: one event after the other, each dealt with.

An event that a sink does not take, or a registration that cannot be made now, is tried again with
growing pauses before the next one has its turn; how far a loop is stands in its row.
"""

import random
from dataclasses import replace
from typing import Any

from twinfra.core.bus import HUB, Bus, Event
from twinfra.core.errors import (
    Conflict,
    InsufficientScope,
    InvalidRequest,
    SiteRejected,
    TwinfraError,
    Unauthenticated,
)
from twinfra.core.ids import derived_uuid
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock
from twinfra.data.notifications.follow import Ended, Follower, Wish
from twinfra.data.notifications.metrics import DELIVERED, REGISTERED
from twinfra.data.notifications.model import (
    DISABLED,
    STORAGE_CREATED,
    Delivered,
    Subscription,
    Trigger,
    check_own_type,
)
from twinfra.data.notifications.ports import Gone, NewFile, Refused, Registrar, Sink
from twinfra.data.notifications.settings import NotificationSettings
from twinfra.data.notifications.store import SUBSCRIPTIONS, TRIGGERS, Followed, NotificationStore

log = get_logger(__name__)

LAST_TRIES = 3
FOR_GOOD = (Conflict, InvalidRequest, SiteRejected)


class _Loop:
    """What both kinds of loop share: a place in the stream, kept in a row.

    Args:
        followed: the subscription or trigger, as it stands in its row.
        store: keeps the place.
        settings: pauses and bounds.
        clock: paces tries.
    """

    table: Any

    def __init__(
        self,
        followed: Followed,
        store: NotificationStore,
        settings: NotificationSettings,
        clock: Clock,
    ) -> None:
        self._followed, self._epoch = followed, followed.epoch
        self._store, self._settings, self._clock = store, settings, clock
        self._progress = self._first_progress()

    def _first_progress(self) -> Delivered:
        raise NotImplementedError

    def _wants(self, event: Event) -> bool:
        raise NotImplementedError

    async def _deal(self, event: Event) -> None:
        raise NotImplementedError

    async def handle(self, event: Event, epoch: str) -> None:
        """Deal with `event`, unless that was done before."""
        if epoch != self._epoch:
            self._epoch, self._progress = epoch, replace(self._progress, sequence=0)
        if (event.sequence or 0) > self._progress.sequence and self._wants(event):
            await self._deal(event)

    async def _advance(self, event: Event, *emitted: Event, **values: Any) -> None:
        """Note that `event` was dealt with, with what follows from it, in one transaction."""
        now = self._clock.now()
        progress = replace(
            self._progress,
            sequence=event.sequence or 0,
            event_id=event.id,
            at=now,
            **{"failures": 0, "last_error": None, **values},
        )
        async with self._store.begin() as unit:
            await unit.emit(*emitted)
            await unit.change(
                self.table, self._followed.thing.id, epoch=self._epoch, **_columns(progress)
            )
        self._progress = progress

    async def _failed(self, reason: str) -> None:
        """Note a try that failed."""
        self._progress = replace(
            self._progress, failures=self._progress.failures + 1, last_error=reason
        )
        async with self._store.begin() as unit:
            await unit.change(
                self.table,
                self._followed.thing.id,
                failures=self._progress.failures,
                last_error=reason,
            )

    async def _disable(self, reason: str) -> None:
        """Disable the subscription or trigger; its loop ends.

        Raises:
            Ended: always.
        """
        log.warning("following_disabled", id=self._followed.thing.id, reason=reason)
        async with self._store.begin() as unit:
            await unit.change(self.table, self._followed.thing.id, status=DISABLED, reason=reason)
        raise Ended

    def _too_old(self, event: Event) -> bool:
        age_s = (self._clock.now() - event.time).total_seconds()
        return age_s > self._settings.give_up_after_s

    async def _pause(self, after_s: float | None = None) -> None:
        """Wait before the next try: doubling, bounded, with jitter; or as long as asked."""
        settings = self._settings
        step = min(self._progress.failures - 1, 16)
        pause_s = min(settings.sink_pause_max_s, settings.sink_pause_s * 2**step)
        pause_s *= random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing
        await self._clock.sleep(min(max(pause_s, after_s or 0.0), 10 * settings.sink_pause_max_s))


class DeliveryLoop(_Loop):
    """Delivers the events of one subscription.

    Args:
        followed: the subscription.
        secret: that signs its deliveries.
        sink: that takes them.
        store: keeps the place.
        settings: pauses and bounds.
        clock: paces tries.
    """

    table = SUBSCRIPTIONS

    def __init__(
        self,
        followed: Followed,
        secret: str,
        sink: Sink,
        store: NotificationStore,
        settings: NotificationSettings,
        clock: Clock,
    ) -> None:
        super().__init__(followed, store, settings, clock)
        self._secret, self._sink = secret, sink

    @property
    def subscription(self) -> Subscription:
        """The subscription."""
        thing = self._followed.thing
        assert isinstance(thing, Subscription)  # noqa: S101 - narrows what the fleet built
        return thing

    def follower(self, bus: Bus) -> Follower:
        """Return the cursor of the subscription."""
        site = self.subscription.filter.site
        wish = Wish(self.subscription.types, (site,) if site else (), self._followed.follow_from)
        return Follower(bus, durable_of(self.subscription), wish)

    def _first_progress(self) -> Delivered:
        return self.subscription.delivered

    def _wants(self, event: Event) -> bool:
        return self.subscription.wants(event)

    async def _deal(self, event: Event) -> None:
        found = self.subscription
        while True:
            outcome = await self._sink.deliver(
                event, found.sink_url, self._secret, self._followed.grant
            )
            if isinstance(outcome, Gone):
                DELIVERED.labels("gone").inc()
                await self._disable("the sink answered 410 Gone")
            elif isinstance(outcome, Refused):
                DELIVERED.labels("refused").inc()
                await self._failed(outcome.reason)
                if self._too_old(event):
                    log.warning("event_given_up", id=found.id, event_id=event.id)
                    dropped = {"dropped": self._progress.dropped + 1}
                    await self._advance(event, last_error=outcome.reason, **dropped)
                    return
                await self._pause(outcome.retry_after_s)
            else:
                DELIVERED.labels("taken").inc()
                answers, note = self._answers(outcome.answer)
                count = {"count": self._progress.count + 1}
                await self._advance(event, *answers, last_error=note or outcome.note, **count)
                return

    def _answers(self, answer: Event | None) -> tuple[list[Event], str | None]:
        """Return the sink's own event as it is published, or why it is not.

        Its id is made from the subscription and its own, so that the same answer is one event and
        no sink can take the id of somebody else's.
        """
        if answer is None:
            return [], None
        found = self.subscription
        published = replace(
            answer,
            id=derived_uuid("answer", found.id, answer.id),
            site=HUB,
            group=found.group,
            sequence=None,
        )
        try:
            check_own_type(answer.type)
            published.encoded()
        except TwinfraError as error:
            log.warning("answer_refused", id=found.id, type=answer.type)
            return [], error.detail
        return [published], None


class TriggerLoop(_Loop):
    """Registers the files of one trigger.

    Args:
        followed: the trigger.
        registrar: that registers.
        store: keeps the place.
        settings: pauses and bounds.
        clock: paces tries.
    """

    table = TRIGGERS

    def __init__(
        self,
        followed: Followed,
        registrar: Registrar,
        store: NotificationStore,
        settings: NotificationSettings,
        clock: Clock,
    ) -> None:
        super().__init__(followed, store, settings, clock)
        self._registrar = registrar

    @property
    def trigger(self) -> Trigger:
        """The trigger."""
        thing = self._followed.thing
        assert isinstance(thing, Trigger)  # noqa: S101 - narrows what the fleet built
        return thing

    def follower(self, bus: Bus) -> Follower:
        """Return the cursor of the trigger."""
        wish = Wish((STORAGE_CREATED,), (self.trigger.site,), self._followed.follow_from)
        return Follower(bus, durable_of(self.trigger), wish)

    def _first_progress(self) -> Delivered:
        return self.trigger.registered

    def _wants(self, event: Event) -> bool:
        return self.trigger.wants(event)

    async def _deal(self, event: Event) -> None:
        found, file = self.trigger, _new_file(event)
        name = found.file_name(file.path)
        refusals = 0
        while True:
            try:
                await self._registrar.register(file, found.dataset, name, self._followed.grant)
            except FOR_GOOD as error:
                REGISTERED.labels("refused").inc()
                log.warning("file_not_registered", id=found.id, path=file.path, error=error.detail)
                text = f"{file.path}: {error.detail}"
                await self._advance(event, last_error=text, dropped=self._progress.dropped + 1)
                return
            except TwinfraError as error:
                REGISTERED.labels("put-off").inc()
                await self._failed(error.detail)
                refusals += isinstance(error, Unauthenticated | InsufficientScope)
                if refusals >= LAST_TRIES:
                    await self._disable(f"its creator may not do this any more: {error.detail}")
                if self._too_old(event):
                    dropped = {"dropped": self._progress.dropped + 1}
                    await self._advance(event, last_error=error.detail, **dropped)
                    return
                await self._pause(error.retry_after_s)
            else:
                REGISTERED.labels("registered").inc()
                await self._advance(event, count=self._progress.count + 1)
                return


def durable_of(thing: Subscription | Trigger) -> str:
    """Return the name of a cursor at the server."""
    kind = "subscription" if isinstance(thing, Subscription) else "trigger"
    return f"{kind}-{thing.id}"


def _new_file(event: Event) -> NewFile:
    data = event.data
    return NewFile(
        site=event.site,
        rse=str(data.get("rse") or event.site.upper()),
        path=str(data["path"]),
        size_bytes=data.get("size_bytes"),
        adler32=data.get("adler32"),
        md5=data.get("md5"),
    )


def _columns(progress: Delivered) -> dict[str, Any]:
    return {
        "sequence": progress.sequence,
        "count": progress.count,
        "event_id": progress.event_id,
        "at": progress.at,
        "failures": progress.failures,
        "dropped": progress.dropped,
        "last_error": progress.last_error,
    }
