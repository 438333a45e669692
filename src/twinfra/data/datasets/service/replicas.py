"""Replicas: registered, listed, judged; what arrives or breaks is seen by rules at once."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinfra.core.time import Clock
from twinfra.data.datasets.errors import (
    FileMismatch,
    InvalidRseExpression,
    InvalidType,
    ReplicaLocked,
    ReplicaNotFound,
    RseNotFound,
    UnsupportedOperation,
)
from twinfra.data.datasets.model import Did, DidType, FileSpec, ReplicaState
from twinfra.data.datasets.model.expression import parse
from twinfra.data.datasets.model.rses import Rse
from twinfra.data.datasets.ports import DidRow, Owner, ReplicaRow, ReplicaSummary, Tx, Work
from twinfra.data.datasets.service.accounts import ensure_scope
from twinfra.data.datasets.service.dids import require, require_all
from twinfra.data.datasets.service.keeping import EPOCH, USAGE, USAGE_KEY, Keeping
from twinfra.data.datasets.service.rights import Caller, allowed, group_of, require_write

SETTABLE = (
    ReplicaState.AVAILABLE,
    ReplicaState.UNAVAILABLE,
    ReplicaState.TEMPORARY_UNAVAILABLE,
    ReplicaState.BAD,
)


@dataclass(frozen=True, slots=True)
class Listing:
    """Which replicas are asked for."""

    dids: Sequence[Did]
    rse_expression: str | None = None
    all_states: bool = False


class ReplicaService:
    """Where files stand.

    Args:
        work: opens units of work.
        clock: tells the moment.
        keeping: told of what arrives and breaks.
    """

    def __init__(self, work: Work, clock: Clock, keeping: Keeping) -> None:
        self._work, self._clock, self._keeping = work, clock, keeping

    async def add(self, caller: Caller, rse_name: str, files: Sequence[FileSpec]) -> None:
        """Register files at a storage, all or none; unknown files come into being.

        Guarantees: registering again what is registered changes nothing.

        Raises:
            FileMismatch: a file is known with another size or checksum.
            InvalidPath: a PFN is not at this storage.
        """
        files = [file.checked() for file in files]
        now = self._clock.now()
        async with self._work.begin() as tx:
            rse_id, rse = await find_rse(tx, rse_name)
            for scope in sorted({file.did.scope for file in files}):
                await require_write(tx, caller, scope, "replica.add", f"{scope}@{rse_name}")
                await ensure_scope(tx, caller, scope, self._clock)
            await tx.dids.add_files(files, caller.account, now)
            known = await tx.dids.get_many([file.did for file in files])
            for state, owner, some in _by_state_and_owner(caller, files):
                entries = {}
                for file in some:
                    row = known[file.did]
                    _require_same(row, file)
                    path = rse.kept_path(file.did, file.pfn) if file.pfn else None
                    entries[row.id] = (file.size_bytes, path)
                changed = await tx.replicas.register(rse_id, entries, owner, state, now)
                if state is ReplicaState.AVAILABLE:
                    fresh = [row for row in known.values() if row.id in changed]
                    await self._keeping.arrived(tx, rse_id, rse, fresh)
        allowed(caller, "replica.add", f"{rse_name} ({len(files)} files)")

    async def each(self, listing: Listing) -> AsyncIterator[ReplicaRow]:
        """Give the files at or below data identifiers with their replicas, file by file."""
        async with self._work.read() as tx:
            roots = await require_all(tx, listing.dids)
            rse_ids = await _selected(tx, listing.rse_expression)
            states = None if listing.all_states else [ReplicaState.AVAILABLE]
            async for row in tx.replicas.each([root.id for root in roots], rse_ids, states):
                yield row

    async def check(self, listing: Listing) -> dict[int, Rse]:
        """Return all storages by number, if the listing can be given.

        Raises:
            DidNotFound: a data identifier does not exist.
            InvalidRseExpression: the expression does not parse or fits no storage.
        """
        async with self._work.read() as tx:
            await require_all(tx, listing.dids)
            await _selected(tx, listing.rse_expression)
            return await tx.rses.all()

    async def holders(self, file_ids: Sequence[int]) -> dict[int, list[Did]]:
        """Return by file all collections that hold it, directly or not."""
        above: dict[int, set[int]] = {}
        names: dict[int, Did] = {}
        async with self._work.read() as tx:
            front: Collection[int] = file_ids
            while front:
                found = await tx.contents.parents(front)
                for child_id, parent in found:
                    above.setdefault(child_id, set()).add(parent.id)
                    names[parent.id] = parent.did
                front = {parent.id for _, parent in found} - above.keys()
        return {file_id: sorted(names[one] for one in _all(above, file_id)) for file_id in file_ids}

    async def datasets(self, did: Did) -> tuple[list[ReplicaSummary], dict[int, Rse]]:
        """Return how much each storage holds of a dataset, or of each dataset of a container."""
        async with self._work.read() as tx:
            row = await require(tx, did)
            if row.type is DidType.FILE:
                raise UnsupportedOperation(f"{did} is a file")
            datasets = await tx.trees.datasets(row.id)
            found = await tx.replicas.summaries([dataset.id for dataset in datasets])
            return found, await tx.rses.all()

    async def datasets_at(self, rse_name: str) -> tuple[list[ReplicaSummary], Rse]:
        """Return the datasets of which a storage holds anything."""
        async with self._work.read() as tx:
            rse_id, rse = await find_rse(tx, rse_name)
            return await tx.care.datasets_at(rse_id), rse

    async def declare_bad(
        self, caller: Caller, by_rse: Mapping[str, Sequence[Did]], reason: str
    ) -> None:
        """Say that copies are broken.

        Raises:
            ReplicaNotFound: a storage holds no such replica.
        """
        async with self._work.begin() as tx:
            for rse_name, dids in by_rse.items():
                rse_id, rse = await find_rse(tx, rse_name)
                rows = await self._held(tx, caller, rse_id, rse_name, dids, "replica.bad")
                await self._keeping.went_bad(tx, rse_id, rse, rows, reason, caller.account)
        allowed(caller, "replica.bad", ", ".join(sorted(by_rse)))

    async def declare_suspicious(
        self, caller: Caller, by_rse: Mapping[str, Sequence[Did]], reason: str
    ) -> None:
        """Note that something spoke against copies; they stay readable."""
        now = self._clock.now()
        async with self._work.begin() as tx:
            for rse_name, dids in by_rse.items():
                rse_id, _ = await find_rse(tx, rse_name)
                rows = await self._held(tx, caller, rse_id, rse_name, dids, "replica.suspicious")
                ids = [row.id for row in rows]
                await tx.care.note_bad(rse_id, ids, "SUSPICIOUS", reason, caller.account, now)
        allowed(caller, "replica.suspicious", ", ".join(sorted(by_rse)))

    async def suspicious(self, rse_expression: str | None) -> list[dict[str, Any]]:
        """Return replicas that something spoke against, newest first."""
        async with self._work.read() as tx:
            rses = await tx.rses.all()
            found = await tx.care.bad(await _selected(tx, rse_expression), "SUSPICIOUS")
        return [{**one, "rse": rses[one["rse_id"]].name} for one in found]

    async def set_states(
        self, caller: Caller, rse_name: str, states: Sequence[tuple[Did, ReplicaState]]
    ) -> None:
        """Set the states of replicas at a storage.

        Raises:
            InvalidType: a state cannot be set by hand.
        """
        now = self._clock.now()
        async with self._work.begin() as tx:
            rse_id, rse = await find_rse(tx, rse_name)
            for state in dict.fromkeys(one for _, one in states):
                if state not in SETTABLE:
                    raise InvalidType(f"state {state.value} cannot be set")
                dids = [did for did, one in states if one is state]
                rows = await self._held(tx, caller, rse_id, rse_name, dids, "replica.state")
                if state is ReplicaState.BAD:
                    await self._keeping.went_bad(
                        tx, rse_id, rse, rows, "declared so", caller.account
                    )
                    continue
                ids = [row.id for row in rows]
                changed = await tx.replicas.set_state(rse_id, ids, state, now)
                if state is ReplicaState.AVAILABLE:
                    fresh = [row for row in rows if row.id in changed]
                    await self._keeping.arrived(tx, rse_id, rse, fresh)
            await tx.wake(USAGE, USAGE_KEY)
        allowed(caller, "replica.state", rse_name)

    async def remove(self, caller: Caller, rse_name: str, dids: Sequence[Did]) -> None:
        """Forget replicas whose bytes are gone.

        Raises:
            ReplicaLocked: a rule needs one of them.
        """
        async with self._work.begin() as tx:
            rse_id, _ = await find_rse(tx, rse_name)
            rows = await self._held(tx, caller, rse_id, rse_name, dids, "replica.remove")
            locked = await tx.care.locked(rse_id, [row.id for row in rows])
            for row in rows:
                if row.id in locked:
                    raise ReplicaLocked(f"a rule needs {row.did} at {rse_name}")
            await tx.replicas.remove(rse_id, [row.id for row in rows])
            await tx.wake(USAGE, USAGE_KEY)
        allowed(caller, "replica.remove", rse_name)

    async def tombstone(self, caller: Caller, by_rse: Mapping[str, Sequence[Did]]) -> None:
        """Mark replicas that no rule needs to go first when space is needed.

        Raises:
            ReplicaLocked: a rule needs one of them.
        """
        async with self._work.begin() as tx:
            for rse_name, dids in by_rse.items():
                rse_id, _ = await find_rse(tx, rse_name)
                rows = await self._held(tx, caller, rse_id, rse_name, dids, "replica.tombstone")
                if locked := await tx.care.locked(rse_id, [row.id for row in rows]):
                    first = next(row.did for row in rows if row.id in locked)
                    raise ReplicaLocked(f"a rule needs {first} at {rse_name}")
                await tx.care.set_tombstones(rse_id, [row.id for row in rows], EPOCH)

    async def by_pfn(self, pfns: Sequence[str], rse_name: str | None) -> dict[str, tuple[str, Did]]:
        """Return by PFN the storage and the file that stand there, where naming tells."""
        found: dict[str, tuple[str, Did]] = {}
        async with self._work.read() as tx:
            for rse in (await tx.rses.all()).values():
                if rse_name is not None and rse.name != rse_name:
                    continue
                for pfn in pfns:
                    did = _named(rse, pfn)
                    if did is not None and pfn not in found:
                        found[pfn] = (rse.name, did)
        return found

    @staticmethod
    async def _held(
        tx: Tx, caller: Caller, rse_id: int, rse_name: str, dids: Sequence[Did], action: str
    ) -> list[DidRow]:
        for scope in sorted({did.scope for did in dids}):
            await require_write(tx, caller, scope, action, f"{scope}@{rse_name}")
        rows = await require_all(tx, dids)
        there = await tx.replicas.at(rse_id, [row.id for row in rows])
        for row in rows:
            if row.id not in there:
                raise ReplicaNotFound(f"{rse_name} holds no replica of {row.did}")
        return rows


async def find_rse(tx: Tx, name: str) -> tuple[int, Rse]:
    """Return number and facts of a storage.

    Raises:
        RseNotFound: there is none of this name.
    """
    for rse_id, rse in (await tx.rses.all()).items():
        if rse.name == name:
            return rse_id, rse
    raise RseNotFound(f"RSE {name!r} does not exist")


def select_rses(rses: Mapping[int, Rse], expression: str) -> set[int]:
    """Return the numbers of the storages that an expression means.

    Raises:
        InvalidRseExpression: it does not parse, or fits none.
    """
    chosen = parse(expression).select({rse.name: rse.attributes for rse in rses.values()})
    if not chosen:
        raise InvalidRseExpression("RSE Expression resulted in an empty set.")
    return {rse_id for rse_id, rse in rses.items() if rse.name in chosen}


async def _selected(tx: Tx, expression: str | None) -> Collection[int] | None:
    return select_rses(await tx.rses.all(), expression) if expression else None


def _all(above: Mapping[int, set[int]], start: int) -> set[int]:
    """Return everything above a number; collections never hold themselves."""
    found: set[int] = set()
    front = set(above.get(start, ()))
    while front:
        found |= front
        front = {one for each in front for one in above.get(each, ())} - found
    return found


def _require_same(row: DidRow, file: FileSpec) -> None:
    """Refuse another file under a taken name; a checksum not known before is no conflict."""
    if row.type is not DidType.FILE:
        raise FileMismatch(f"{file.did} is a {row.type.value.lower()}")
    if row.size_bytes is not None and row.size_bytes != file.size_bytes:
        raise FileMismatch(f"{file.did} has {row.size_bytes} bytes, not {file.size_bytes}")
    for name in ("adler32", "md5"):
        known, told = getattr(row, name), getattr(file, name)
        if known and told and known != told:
            raise FileMismatch(f"{file.did} has the {name} {known}, not {told}")


def _by_state_and_owner(
    caller: Caller, files: Sequence[FileSpec]
) -> list[tuple[ReplicaState, Owner, list[FileSpec]]]:
    groups: dict[tuple[ReplicaState, Owner], list[FileSpec]] = {}
    for file in files:
        deployment = file.meta.get("deployment")
        owner = Owner(
            caller.account,
            group_of(caller, file.did.scope, file.meta.get("group")),
            deployment if isinstance(deployment, str) else "",
        )
        groups.setdefault((file.state, owner), []).append(file)
    return [(state, owner, some) for (state, owner), some in groups.items()]


def _named(rse: Rse, pfn: str) -> Did | None:
    """Return the file that an identity-named PFN means."""
    for door in rse.protocols:
        path = door.path_of(pfn)
        if path is not None and path.startswith(door.prefix):
            scope, _, name = path[len(door.prefix) :].partition("/")
            return Did(scope, name) if name else None
    return None
