"""Use cases of notifications: subscribe, set triggers, publish; and who may do what with which.

A subscription is seen by its owner, its group and services, and ended by its owner and services.
Loops and delivery are elsewhere: the fleet is only told that something changed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

from twinfra.access.audit import audit
from twinfra.access.authorization import require_group
from twinfra.access.model import Principal
from twinfra.core.bus import HUB, Event
from twinfra.core.errors import Conflict, InsufficientScope, InvalidRequest, NotFound, RateLimited
from twinfra.core.ids import derived_uuid
from twinfra.core.time import Clock
from twinfra.data.notifications.model import (
    ACTIVE,
    EventFilter,
    Subscription,
    Trigger,
    check_dataset,
    check_own_type,
    check_path_prefix,
    check_sink,
    check_types,
)
from twinfra.data.notifications.settings import NotificationSettings
from twinfra.data.notifications.signing import secret_of
from twinfra.data.notifications.store import (
    SUBSCRIPTIONS,
    TRIGGERS,
    Followed,
    NotificationStore,
    NotificationUnit,
)

Thing = TypeVar("Thing", Subscription, Trigger)


class Loops(Protocol):
    """What runs the loops of subscriptions and triggers."""

    def wake(self) -> None:
        """Look again at once."""
        ...

    async def stop_of(self, thing_id: str) -> None:
        """End the loop of a thing and forget its cursor."""
        ...


class Granting(Protocol):
    """Gives and ends lasting permissions to act for a person."""

    async def grant(self, principal: Principal) -> Mapping[str, Any] | None:
        """Return the permission as JSON; none for services, which need none."""
        ...

    async def revoke(self, grant: Mapping[str, Any] | None) -> None:
        """End a permission; never raises."""
        ...


@dataclass(frozen=True)
class Tools:
    """What the use cases are given besides the store."""

    loops: Loops
    granting: Granting
    publish: Callable[[Event], Any]
    clock: Clock
    new_id: Callable[[], str]
    signing_key: str
    sinks: frozenset[str]


class NotificationService:
    """What the API calls.

    Args:
        store: of the service.
        tools: clock, ids, loops, permissions, the bus.
        settings: bounds.
    """

    def __init__(
        self, store: NotificationStore, tools: Tools, settings: NotificationSettings
    ) -> None:
        self._store, self._tools, self._settings = store, tools, settings

    # ------------------------------------------------------------------ subscriptions
    async def subscribe(
        self, principal: Principal, body: Mapping[str, Any]
    ) -> tuple[Subscription, bool]:
        """Make a subscription, or find the one of the same name and wishes; says which.

        One that a sink had ended (410) is enabled again, from now on.

        Raises:
            InvalidRequest: a wish is not understood, or the sink is not registered.
            InsufficientScope: the caller is not in the group.
            Conflict: the name exists with other wishes.
            RateLimited: the caller has too many already.
        """
        new_id = self._tools.new_id()
        sink = body.get("sink")
        wanted = Subscription(
            id=new_id,
            name=_name(body, new_id),
            types=check_types(body.get("types")),
            sink_url=check_sink(
                sink.get("url") if isinstance(sink, Mapping) else sink, self._tools.sinks
            ),
            filter=EventFilter.from_json(body.get("filter") or {}),
            group=_group(principal, body.get("group"), "subscription.create"),
            owner=principal.person,
        )
        same = ("types", "sink_url", "filter", "group")
        found, made = await self._make(principal, wanted, same)
        audit("subscription.create", principal, "allowed", found.id, sink=found.sink_url)
        return self._with_secret(found), made

    async def subscriptions(self, principal: Principal) -> list[Subscription]:
        """Return the subscriptions that the caller may see."""
        return [each for each in await self._all(Subscription) if may_see(principal, each)]

    async def subscription(self, principal: Principal, thing_id: str) -> Subscription:
        """Return a subscription; its owner also gets the secret.

        Raises:
            NotFound: there is none, or the caller may not know of it.
        """
        found = await self._one(principal, Subscription, thing_id)
        return self._with_secret(found) if is_owner(principal, found) else found

    async def unsubscribe(self, principal: Principal, thing_id: str) -> None:
        """End a subscription.

        Raises:
            NotFound: there is none, or the caller may not know of it.
            InsufficientScope: it is another's.
        """
        await self._remove(principal, Subscription, thing_id)

    # ------------------------------------------------------------------ triggers
    async def set_trigger(
        self, principal: Principal, body: Mapping[str, Any]
    ) -> tuple[Trigger, bool]:
        """Make a trigger, or find the one of the same name and wishes; says which.

        Raises:
            InvalidRequest: a wish is not understood.
            InsufficientScope: the caller is not in the group of the dataset's scope.
            Conflict: the name exists with other wishes.
            RateLimited: the caller has too many already.
        """
        new_id = self._tools.new_id()
        dataset = check_dataset(body.get("dataset"))
        wanted = Trigger(
            id=new_id,
            name=_name(body, new_id),
            site=_site(body.get("site")),
            path_prefix=check_path_prefix(body.get("path_prefix")),
            dataset=dataset,
            pattern=_text(body, "pattern"),
            existing=bool(body.get("existing")),
            group=dataset.partition(":")[0],
            owner=principal.person,
        )
        if not principal.is_service:
            scope = wanted.scope
            require_group(principal, scope, action="trigger.create", resource=dataset)
        same = ("site", "path_prefix", "dataset", "pattern", "existing")
        found, made = await self._make(principal, wanted, same)
        audit("trigger.create", principal, "allowed", found.id, dataset=dataset)
        return found, made

    async def triggers(self, principal: Principal) -> list[Trigger]:
        """Return the triggers that the caller may see."""
        return [each for each in await self._all(Trigger) if may_see(principal, each)]

    async def trigger(self, principal: Principal, thing_id: str) -> Trigger:
        """Return a trigger.

        Raises:
            NotFound: there is none, or the caller may not know of it.
        """
        return await self._one(principal, Trigger, thing_id)

    async def remove_trigger(self, principal: Principal, thing_id: str) -> None:
        """End a trigger; what it registered stays.

        Raises:
            NotFound: there is none, or the caller may not know of it.
            InsufficientScope: it is another's.
        """
        await self._remove(principal, Trigger, thing_id)

    # ------------------------------------------------------------------ events
    async def publish(self, principal: Principal, event: Event) -> tuple[Event, int]:
        """Publish an event of the caller's; returns it as published, and its place.

        People's events get an id made from theirs and who they are, so that nobody can take the
        id of somebody else's event, and sending one again is still one event.

        Raises:
            InsufficientScope: the type is ours, or the group is not the caller's.
            Unavailable: the stream did not confirm; send the same again.
        """
        if not principal.is_service:
            check_own_type(event.type)
            event = replace(
                event,
                id=derived_uuid("published", principal.issuer, principal.sub, event.id),
                site=HUB,
                group=_group(principal, event.group, "event.publish"),
            )
        sequence = await self._tools.publish(event)
        audit("event.publish", principal, "allowed", event.type, event_id=event.id)
        return event, sequence

    # ------------------------------------------------------------------ shared
    async def _make(
        self, principal: Principal, wanted: Thing, same: tuple[str, ...]
    ) -> tuple[Thing, bool]:
        grant = await self._tools.granting.grant(principal)
        revoked: Mapping[str, Any] | None = None
        async with self._store.begin() as unit:
            existing = await self._named(unit, principal, wanted)
            if existing is None:
                await self._add(unit, principal, wanted, grant)
            else:
                found = existing.thing
                if any(getattr(found, field) != getattr(wanted, field) for field in same):
                    raise Conflict(f"{wanted.name!r} exists with other wishes")
                revoked = existing.grant
                await self._renew(unit, found, grant)
        await self._tools.granting.revoke(revoked)
        if existing is not None and existing.thing.status != ACTIVE:
            await self._tools.loops.stop_of(existing.thing.id)
        self._tools.loops.wake()
        name_or_id = wanted.id if existing is None else existing.thing.id
        return await self._one(principal, type(wanted), name_or_id), existing is None

    async def _named(
        self, unit: NotificationUnit, principal: Principal, wanted: Thing
    ) -> Followed | None:
        query = unit.subscriptions if isinstance(wanted, Subscription) else unit.triggers
        found = await query(issuer=principal.issuer, sub=principal.sub, name=wanted.name)
        return found[0] if found else None

    async def _add(
        self,
        unit: NotificationUnit,
        principal: Principal,
        wanted: Thing,
        grant: Mapping[str, Any] | None,
    ) -> None:
        table = SUBSCRIPTIONS if isinstance(wanted, Subscription) else TRIGGERS
        count = await unit.count_of(table, principal.issuer, principal.sub)
        if count >= self._settings.subscriptions_per_owner:
            raise RateLimited(f"{count} are enough for one person; remove some first")
        now = self._tools.clock.now()
        if isinstance(wanted, Subscription):
            await unit.add_subscription(wanted, grant, now)
        else:
            await unit.add_trigger(wanted, grant, now)

    async def _renew(
        self, unit: NotificationUnit, found: Subscription | Trigger, grant: Mapping[str, Any] | None
    ) -> None:
        table = SUBSCRIPTIONS if isinstance(found, Subscription) else TRIGGERS
        values: dict[str, Any] = {"grant": dict(grant) if grant is not None else None}
        if found.status != ACTIVE:
            now = self._tools.clock.now()
            values |= {"status": ACTIVE, "reason": None, "failures": 0, "follow_from": now}
        await unit.change(table, found.id, **values)

    async def _all(self, kind: type[Thing], **columns: Any) -> list[Thing]:
        async with self._store.read() as unit:
            query = unit.subscriptions if kind is Subscription else unit.triggers
            return [each.thing for each in await query(**columns)]  # type: ignore[misc]  # by kind

    async def _one(self, principal: Principal, kind: type[Thing], thing_id: str) -> Thing:
        for found in await self._all(kind, id=thing_id):
            if may_see(principal, found):
                return found
        raise NotFound(f"there is no {kind.__name__.lower()} {thing_id}")

    async def _remove(self, principal: Principal, kind: type[Thing], thing_id: str) -> None:
        found = await self._one(principal, kind, thing_id)
        word = kind.__name__.lower()
        if not is_owner(principal, found):
            audit(f"{word}.delete", principal, "denied", thing_id)
            raise InsufficientScope(f"this {word} belongs to somebody else")
        table = SUBSCRIPTIONS if kind is Subscription else TRIGGERS
        async with self._store.begin() as unit:
            query = unit.subscriptions if kind is Subscription else unit.triggers
            grants = [each.grant for each in await query(id=thing_id)]
            await unit.remove(table, thing_id)
        await self._tools.loops.stop_of(thing_id)
        for grant in grants:
            await self._tools.granting.revoke(grant)
        audit(f"{word}.delete", principal, "allowed", thing_id)

    def _with_secret(self, found: Subscription) -> Subscription:
        return replace(found, secret=secret_of(self._tools.signing_key, found.id))


def is_owner(principal: Principal, thing: Subscription | Trigger) -> bool:
    """Say whether a thing is the caller's own; services may act on any."""
    return principal.is_service or dict(thing.owner) == principal.person


def may_see(principal: Principal, thing: Subscription | Trigger) -> bool:
    """Say whether the caller may know of a thing: its owner, its group, services."""
    return is_owner(principal, thing) or (
        thing.group is not None and thing.group in principal.groups
    )


def _group(principal: Principal, wished: Any, action: str) -> str | None:
    """Return the group that events are seen for: the wished one, else the caller's first."""
    if wished is None or wished == "":
        first = min(principal.groups) if principal.groups else None
        return principal.primary_group or first
    if not isinstance(wished, str):
        raise InvalidRequest("'group' is not a text")
    if not principal.is_service:
        require_group(principal, wished, action=action, resource=wished)
    return wished.strip("/")


def _name(body: Mapping[str, Any], otherwise: str) -> str:
    return _text(body, "name") or otherwise


def _text(body: Mapping[str, Any], key: str) -> str | None:
    value = body.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > 255:
        raise InvalidRequest(f"{key!r} is not a text of at most 255 characters")
    return value


def _site(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.replace("-", "").isalnum():
        raise InvalidRequest("'site' is not the name of a site")
    return value
