"""Storages: registered by services, described by attributes, asked for by expression."""

from collections.abc import Callable, Mapping
from typing import Any

from twinfra.core.time import Clock
from twinfra.data.datasets.errors import (
    Duplicate,
    InvalidObject,
    ProtocolNotSupported,
    RseAttributeNotFound,
    UnsupportedOperation,
)
from twinfra.data.datasets.model.names import check_attribute_name, check_rse_name
from twinfra.data.datasets.model.rses import DISK, TAPE, Protocol, Rse, check_protocol
from twinfra.data.datasets.ports import Work
from twinfra.data.datasets.service.replicas import find_rse, select_rses
from twinfra.data.datasets.service.rights import Caller, allowed, require_service

CHANGEABLE = (
    "deterministic",
    "volatile",
    "staging_area",
    "availability_read",
    "availability_write",
    "availability_delete",
)


class RseService:
    """Storages.

    Args:
        work: opens units of work.
        clock: tells the moment.
        new_id: draws the ids that Rucio shows.
    """

    def __init__(self, work: Work, clock: Clock, new_id: Callable[[], str]) -> None:
        self._work, self._clock, self._new_id = work, clock, new_id

    async def all(self, expression: str | None = None) -> list[Rse]:
        """Return all storages, or those that an expression means, by name."""
        async with self._work.read() as tx:
            rses = await tx.rses.all()
        chosen = select_rses(rses, expression) if expression else set(rses)
        return [rse for rse_id, rse in rses.items() if rse_id in chosen]

    async def get(self, name: str) -> Rse:
        """Return a storage.

        Raises:
            RseNotFound: there is none of this name.
        """
        async with self._work.read() as tx:
            return (await find_rse(tx, name))[1]

    async def add(self, caller: Caller, name: str, facts: Mapping[str, Any]) -> None:
        """Register a storage.

        Raises:
            Duplicate: the name is taken.
        """
        require_service(caller, "rse.add", name)
        check_rse_name(name)
        kind = str(facts.get("rse_type") or DISK).upper()
        if kind not in {DISK, TAPE}:
            raise InvalidObject(f"rse_type {kind!r} is neither DISK nor TAPE")
        flags: dict[str, Any] = {
            key: bool(facts[key]) for key in CHANGEABLE if facts.get(key) is not None
        }
        place = {
            key: value
            for key, value in facts.items()
            if key not in {*CHANGEABLE, "rse_type"} and value is not None
        }
        rse = Rse(self._new_id().replace("-", ""), name, kind, place=place, **flags)
        async with self._work.begin() as tx:
            if not await tx.rses.add(rse, self._clock.now()):
                raise Duplicate(f"RSE {name!r} exists already")
        allowed(caller, "rse.add", name)

    async def update(self, caller: Caller, name: str, facts: Mapping[str, Any]) -> None:
        """Change flags and place of a storage."""
        require_service(caller, "rse.update", name)
        async with self._work.begin() as tx:
            rse_id, rse = await find_rse(tx, name)
            values: dict[str, Any] = {k: bool(facts[k]) for k in CHANGEABLE if k in facts}
            place = {k: v for k, v in facts.items() if k not in {*CHANGEABLE, "rse_type", "name"}}
            await tx.rses.update(rse_id, {**values, "place": {**rse.place, **place}})
        allowed(caller, "rse.update", name)

    async def remove(self, caller: Caller, name: str) -> None:
        """Remove a storage that holds nothing.

        Raises:
            UnsupportedOperation: it holds replicas.
        """
        require_service(caller, "rse.remove", name)
        async with self._work.begin() as tx:
            rse_id, _ = await find_rse(tx, name)
            if not await tx.rses.remove(rse_id):
                raise UnsupportedOperation(f"{name} holds replicas")
        allowed(caller, "rse.remove", name)

    async def add_attribute(self, caller: Caller, name: str, key: str, value: Any) -> None:
        """Set an attribute that the storage does not have yet.

        Raises:
            Duplicate: it has it.
        """
        require_service(caller, "rse.attribute", name)
        check_attribute_name(key)
        if value is None or isinstance(value, dict | list):
            raise InvalidObject(f"attribute {key!r} is a text, a number or a truth value")
        async with self._work.begin() as tx:
            rse_id, rse = await find_rse(tx, name)
            if key in rse.attributes:
                raise Duplicate(f"{name} has the attribute {key!r} already")
            await tx.rses.set_attribute(rse_id, key, value)
        allowed(caller, "rse.attribute", f"{name} {key}")

    async def remove_attribute(self, caller: Caller, name: str, key: str) -> None:
        """Remove an attribute.

        Raises:
            RseAttributeNotFound: the storage does not have it.
        """
        require_service(caller, "rse.attribute", name)
        async with self._work.begin() as tx:
            rse_id, rse = await find_rse(tx, name)
            if key not in rse.attributes:
                raise RseAttributeNotFound(f"{name} has no attribute {key!r}")
            await tx.rses.set_attribute(rse_id, key, None)
        allowed(caller, "rse.attribute", f"{name} {key}")

    async def add_protocol(self, caller: Caller, name: str, protocol: Protocol) -> None:
        """Add a door.

        Raises:
            Duplicate: there is one of this scheme, host and port.
        """
        require_service(caller, "rse.protocol", name)
        check_protocol(protocol)
        async with self._work.begin() as tx:
            rse_id, rse = await find_rse(tx, name)
            if any(_same(protocol, known) for known in rse.protocols):
                raise Duplicate(f"{name} has the protocol {protocol.origin} already")
            await tx.rses.set_protocol(rse_id, protocol)
        allowed(caller, "rse.protocol", f"{name} {protocol.origin}")

    async def change_protocols(
        self,
        caller: Caller,
        name: str,
        door: tuple[str, str | None, int | None],
        changes: Mapping[str, Any] | None,
    ) -> None:
        """Change the doors of a scheme (and host, and port), or remove them.

        Raises:
            ProtocolNotSupported: there is none such.
        """
        require_service(caller, "rse.protocol", name)
        scheme, host, port = door
        async with self._work.begin() as tx:
            rse_id, rse = await find_rse(tx, name)
            meant = [
                one
                for one in rse.protocols
                if one.scheme == scheme
                and host in {None, one.hostname}
                and port in {None, one.port}
            ]
            if not meant:
                raise ProtocolNotSupported(f"{name} has no protocol {scheme}")
            for one in meant:
                if changes is None:
                    await tx.rses.set_protocol(rse_id, one, remove=True)
                    continue
                domains = {**one.domains}
                for domain, operations in (changes.get("domains") or {}).items():
                    domains[domain] = {**domains.get(domain, {}), **operations}
                changed = Protocol(
                    one.scheme,
                    one.hostname,
                    one.port,
                    str(changes.get("prefix", one.prefix)),
                    str(changes.get("impl", one.impl)),
                    domains,
                    changes.get("extended_attributes") or one.extended_attributes,
                )
                await tx.rses.set_protocol(rse_id, check_protocol(changed))
        allowed(caller, "rse.protocol", f"{name} {scheme}")

    async def distance(self, source: str, destination: str) -> int | None:
        """Return how far one storage is from another, if that was said."""
        async with self._work.read() as tx:
            pair = (await find_rse(tx, source))[0], (await find_rse(tx, destination))[0]
            return (await tx.rse_facts.distances()).get(pair)

    async def set_distance(
        self,
        caller: Caller,
        source: str,
        destination: str,
        distance: int | None,
        *,
        new: bool = False,
    ) -> None:
        """Say how far one storage is from another; none forgets it.

        Raises:
            Duplicate: it was said already, and `new` asks for a first time.
        """
        require_service(caller, "rse.distance", f"{source} {destination}")
        async with self._work.begin() as tx:
            pair = (await find_rse(tx, source))[0], (await find_rse(tx, destination))[0]
            if new and pair in await tx.rse_facts.distances():
                raise Duplicate(f"the distance from {source} to {destination} is set already")
            await tx.rse_facts.set_distance(*pair, distance)
        allowed(caller, "rse.distance", f"{source} {destination}")

    async def usage(self, name: str) -> list[dict[str, Any]]:
        """Return what is said about a storage's space, the catalogue's own count first."""
        async with self._work.read() as tx:
            return await tx.rse_facts.usage((await find_rse(tx, name))[0])

    async def set_usage(
        self, caller: Caller, name: str, source: str, numbers: Mapping[str, int | None]
    ) -> None:
        """Note what a source says about a storage's space."""
        require_service(caller, "rse.usage", name)
        async with self._work.begin() as tx:
            rse_id, _ = await find_rse(tx, name)
            await tx.rse_facts.set_usage(rse_id, source, numbers, self._clock.now())
        allowed(caller, "rse.usage", name)

    async def limits(self, name: str) -> dict[str, float]:
        """Return the limits of a storage."""
        async with self._work.read() as tx:
            return await tx.rse_facts.limits((await find_rse(tx, name))[0])

    async def set_limit(self, caller: Caller, name: str, limit: str, value: float | None) -> None:
        """Set a limit of a storage; none removes it."""
        require_service(caller, "rse.limit", name)
        async with self._work.begin() as tx:
            rse_id, _ = await find_rse(tx, name)
            await tx.rse_facts.set_limit(rse_id, limit, value)
        allowed(caller, "rse.limit", f"{name} {limit}")


def _same(left: Protocol, right: Protocol) -> bool:
    return (left.scheme, left.hostname, left.port) == (right.scheme, right.hostname, right.port)
