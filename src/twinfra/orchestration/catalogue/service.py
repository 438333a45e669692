"""Use cases of the catalogue: register, beat, expire, remove, look up; and who may.

A site registers itself: its own services' tokens name it (``plugin@hpc-b`` may speak for
``hpc-b``). Operators may speak for any. A registration that says nothing new is a heartbeat.
"""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

from twinfra.access.audit import audit
from twinfra.access.model import Principal
from twinfra.core.errors import (
    Conflict,
    InsufficientCapacity,
    InsufficientScope,
    InvalidRequest,
    NotFound,
)
from twinfra.core.time import Clock
from twinfra.orchestration.catalogue.errors import VersionMismatch
from twinfra.orchestration.catalogue.model import (
    Change,
    ChangeKind,
    Condition,
    Provider,
    ProviderFilter,
    ProviderState,
    Registration,
    address_of,
    changed_fields,
)
from twinfra.orchestration.catalogue.ports import ProviderStore, ProviderUnit
from twinfra.orchestration.catalogue.settings import CatalogueSettings

OWN = "service:catalogue"
LONGEST_PAUSE_S = 60.0


class Catalogue:
    """The providers of the federation.

    Args:
        store: where they are kept.
        settings: limits, and who operates the catalogue.
        clock: tells deadlines.
    """

    def __init__(self, store: ProviderStore, settings: CatalogueSettings, clock: Clock) -> None:
        self._store, self._settings, self._clock = store, settings, clock
        self._news = asyncio.Event()

    async def register(
        self,
        who: Principal,
        provider: Provider,
        *,
        ttl_s: float | None = None,
        condition: Condition = Condition(),  # noqa: B008 - frozen
    ) -> tuple[Registration, bool]:
        """Put a provider as it says it is, and count this as its heartbeat.

        Returns:
            The registration, and whether it is new.

        Raises:
            InsufficientScope: `who` may not speak for that provider.
            VersionMismatch: `condition` does not hold.
            InvalidRequest: `ttl_s` is beyond the settings.
            InsufficientCapacity: there are as many providers as the settings allow.
        """
        self._require_speaker(who, provider.name)
        life = timedelta(seconds=self._ttl_s(ttl_s))
        now = self._clock.now()
        actor = _actor(who)
        async with self._store.unit() as unit:
            before = await unit.find(provider.name)
            if not condition.holds(before.provider.etag if before else None):
                raise VersionMismatch(f"{provider.name} is not as the request expects it")
            if before is None:
                registration = await self._add(unit, provider, actor, now, now + life)
            else:
                registration = await _renew(unit, before, provider, actor, now, now + life)
        self._news.set()
        return registration, before is None

    async def remove(
        self,
        who: Principal,
        name: str,
        *,
        condition: Condition = Condition(),  # noqa: B008 - frozen
    ) -> None:
        """Forget a provider; its history stays.

        Raises:
            InsufficientScope: `who` is no operator.
            NotFound: there is no such provider.
            VersionMismatch: `condition` does not hold.
        """
        if not self._is_operator(who):
            audit("catalogue.remove", who, "denied", name)
            raise InsufficientScope("only operators remove providers")
        async with self._store.unit() as unit:
            before = await unit.find(name)
            if before is None:
                raise NotFound(f"there is no provider {name}")
            if not condition.holds(before.provider.etag):
                raise VersionMismatch(f"{name} is not as the request expects it")
            await unit.remove(name)
            now = self._clock.now()
            await unit.note(Change(name, now, ChangeKind.REMOVED, _actor(who)))
        audit("catalogue.remove", who, "allowed", name)

    async def get(self, name: str) -> Registration:
        """Return a provider.

        Raises:
            NotFound: there is none of that name.
        """
        found = await self._store.get(name)
        if found is None:
            raise NotFound(f"there is no provider {name}")
        return found

    async def find(self, wanted: ProviderFilter) -> list[Registration]:
        """Return the providers that are wanted, by name."""
        now = self._clock.now()
        return [each for each in await self._store.all() if wanted.admits(each, now)]

    async def history(self, name: str) -> list[Change]:
        """Return what happened to a provider, the newest first, removed ones too.

        Raises:
            NotFound: there never was one of that name.
        """
        lines = await self._store.history(name, self._settings.history_lines)
        if not lines:
            raise NotFound(f"there is no provider {name}")
        return lines

    async def peers(self) -> dict[str, str]:
        """Return the site by ``host:port`` of its storage edge, stale providers included."""
        found = {}
        for each in await self._store.all():
            address = address_of(each.provider.edge_url) if each.provider.edge_url else None
            if address is not None:
                found[address] = each.provider.name
        return found

    async def expire(self) -> list[str]:
        """Note every provider whose deadline has passed as stale; return their names."""
        now = self._clock.now()
        async with self._store.unit() as unit:
            late = await unit.overdue(now)
            for each in late:
                await unit.change(replace(each, state=ProviderState.STALE))
                await unit.note(Change(each.provider.name, now, ChangeKind.STALE, OWN))
        return [each.provider.name for each in late]

    async def watch(self) -> None:
        """Keep the deadlines, for ever: sleeps until the next one; a registration wakes it."""
        while True:
            self._news.clear()
            await self.expire()
            deadline = await self._store.next_deadline()
            pause_s = LONGEST_PAUSE_S
            if deadline is not None:
                pause_s = max(0.0, (deadline - self._clock.now()).total_seconds())
            await self._pause(min(pause_s, LONGEST_PAUSE_S))

    async def _pause(self, seconds: float) -> None:
        sleep = asyncio.ensure_future(self._clock.sleep(seconds))
        news = asyncio.ensure_future(self._news.wait())
        try:
            await asyncio.wait({sleep, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sleep, news):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _add(
        self, unit: ProviderUnit, provider: Provider, actor: str, now: datetime, until: datetime
    ) -> Registration:
        if len(await self._store.all()) >= self._settings.max_providers:
            raise InsufficientCapacity("there are as many providers as the settings allow")
        registration = Registration(provider, now, now, now, until, actor)
        if not await unit.add(registration):
            raise Conflict(f"{provider.name} was registered at this very moment; do it again")
        document = provider.to_json()
        await unit.note(Change(provider.name, now, ChangeKind.REGISTERED, actor, document=document))
        return registration

    def _require_speaker(self, who: Principal, name: str) -> None:
        service = who.service_name
        own = service is not None and service.partition("@")[2] == name
        if not own and not self._is_operator(who):
            audit("catalogue.register", who, "denied", name)
            raise InsufficientScope(f"only the services of {name} and operators speak for it")

    def _is_operator(self, who: Principal) -> bool:
        return not who.groups.isdisjoint(self._settings.operator_groups)

    def _ttl_s(self, asked_s: float | None) -> float:
        ttl_s = self._settings.default_ttl_s if asked_s is None else asked_s
        least_s, most_s = self._settings.least_ttl_s, self._settings.most_ttl_s
        if not least_s <= ttl_s <= most_s:
            raise InvalidRequest(f"ttl_s must be from {least_s:g} to {most_s:g}")
        return ttl_s


async def _renew(
    unit: ProviderUnit,
    before: Registration,
    provider: Provider,
    actor: str,
    now: datetime,
    until: datetime,
) -> Registration:
    fields = changed_fields(before.provider, provider)
    registration = replace(
        before,
        provider=provider,
        heartbeat_at=now,
        expires_at=until,
        updated_at=now if fields else before.updated_at,
        state=ProviderState.ACTIVE,
    )
    await unit.change(registration)
    name = provider.name
    if before.state_at(now) is ProviderState.STALE:
        await unit.note(Change(name, now, ChangeKind.REVIVED, actor))
    if fields:
        document = provider.to_json()
        await unit.note(Change(name, now, ChangeKind.CHANGED, actor, fields, document))
    return registration


def _actor(who: Principal) -> str:
    return who.sub if who.is_service else f"{who.sub}@{who.issuer}"
