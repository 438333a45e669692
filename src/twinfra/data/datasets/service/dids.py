"""Data identifiers: made, filled, closed, looked up; rules see what joins a collection."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinfra.core.time import Clock
from twinfra.data.datasets.errors import (
    DidExists,
    DidNotFound,
    DuplicateContent,
    ScopeNotFound,
    UnsupportedOperation,
    UnsupportedStatus,
)
from twinfra.data.datasets.model import Did, DidType, NewCollection, ReplicaState
from twinfra.data.datasets.model.lineage import inputs_of
from twinfra.data.datasets.model.rses import Rse
from twinfra.data.datasets.ports import DidRow, Tx, Work
from twinfra.data.datasets.service import news
from twinfra.data.datasets.service.accounts import ensure_scope
from twinfra.data.datasets.service.keeping import EXPIRY, Keeping
from twinfra.data.datasets.service.rights import Caller, allowed, require_write

ALL_TYPES = tuple(DidType)


@dataclass(frozen=True, slots=True)
class Attachment:
    """What joins which collection."""

    parent: Did
    children: Sequence[Did]


class DidService:
    """Data identifiers and what stands in them.

    Args:
        work: opens units of work.
        clock: tells the moment.
        keeping: told of content that changes.
    """

    def __init__(self, work: Work, clock: Clock, keeping: Keeping) -> None:
        self._work, self._clock, self._keeping = work, clock, keeping

    async def add(self, caller: Caller, new: Sequence[NewCollection]) -> None:
        """Make collections, all or none.

        Raises:
            DidExists: a name is taken.
            AccessDenied: a scope belongs to others.
        """
        for entry in new:
            entry.did.checked()
            if not entry.type.is_collection:
                raise UnsupportedOperation("files come into being with their first replica")
        now = self._clock.now()
        async with self._work.begin() as tx:
            for scope in sorted({entry.did.scope for entry in new}):
                await require_write(tx, caller, scope, "did.add", scope)
                await ensure_scope(tx, caller, scope, self._clock)
            made = await tx.dids.add_collections(new, caller.account, now)
            for entry in new:
                row = made.get(entry.did)
                if row is None:
                    raise DidExists(f"{entry.did} exists already")
                if inputs := inputs_of(entry.meta):
                    await tx.meta.write(row.id, entry.meta, inputs, now)
                if row.expires_at is not None:
                    await tx.start(EXPIRY, str(row.id), {"did": str(row.did)})
                await news.collection_created(tx, row.did, row.type)
        for entry in new:
            allowed(caller, "did.add", str(entry.did))

    async def attach(
        self, caller: Caller, attachments: Sequence[Attachment], *, ignore_duplicates: bool = False
    ) -> None:
        """Put data into collections, all or none; rules on them look at once.

        Raises:
            DidNotFound: a collection or what shall join it does not exist.
            UnsupportedOperation: a collection is closed, or cannot hold such things, or itself.
            DuplicateContent: something is in it already, and that is not to be ignored.
        """
        async with self._work.begin() as tx:
            rses = await tx.rses.all()
            for one in attachments:
                await self._attach(tx, caller, one, rses, ignore_duplicates=ignore_duplicates)
        for one in attachments:
            allowed(caller, "did.attach", str(one.parent))

    async def _attach(
        self,
        tx: Tx,
        caller: Caller,
        one: Attachment,
        rses: Mapping[int, Rse],
        *,
        ignore_duplicates: bool,
    ) -> None:
        parent = await self._collection(tx, caller, one.parent, "did.attach")
        if not parent.is_open:
            raise UnsupportedOperation(f"{parent.did} is closed")
        children = await require_all(tx, one.children)
        for child in children:
            if not parent.type.may_hold(child.type):
                kinds = f"a {parent.type.value.lower()} holds no {child.type.value.lower()}"
                raise UnsupportedOperation(f"{kinds}: {child.did}")
        if parent.type is DidType.CONTAINER:
            above = await tx.trees.ancestors([parent.id])
            if any(child.id in above for child in children):
                raise UnsupportedOperation(f"{parent.did} cannot hold itself")
        now = self._clock.now()
        added = await tx.contents.attach(parent.id, children, now)
        fresh = [child for child in children if child.id in added]
        if len(fresh) < len(children) and not ignore_duplicates:
            there = next(child.did for child in children if child.id not in added)
            raise DuplicateContent(f"{there} is in {parent.did} already")
        if not fresh:
            return
        if parent.type is DidType.DATASET:
            places = await _places(tx, [child.id for child in fresh], rses)
            await news.files_added(tx, parent.did, fresh, places)
        else:
            await news.members_added(tx, parent.did, fresh)
        await self._keeping.content_changed(tx, [parent.id])

    async def detach(self, caller: Caller, parent: Did, children: Sequence[Did]) -> None:
        """Take data out of a collection.

        Raises:
            DidNotFound: the collection does not exist, or does not hold it.
            UnsupportedOperation: the collection only grows.
        """
        async with self._work.begin() as tx:
            row = await self._collection(tx, caller, parent, "did.detach")
            if row.monotonic:
                raise UnsupportedOperation(f"{parent} is monotonic: nothing leaves it")
            members = await require_all(tx, children)
            gone = await tx.contents.detach(row.id, [member.id for member in members])
            missing = [member.did for member in members if member.id not in gone]
            if missing:
                raise DidNotFound(f"{missing[0]} is not in {parent}")
            await self._keeping.content_changed(tx, [row.id])
        allowed(caller, "did.detach", str(parent))

    async def set_open(self, caller: Caller, did: Did, *, is_open: bool) -> None:
        """Close a collection, or open it again; what is so already stays.

        Raises:
            UnsupportedStatus: `did` is a file.
        """
        async with self._work.begin() as tx:
            row = await self._collection(tx, caller, did, "did.status")
            if row.is_open != is_open:
                await tx.dids.set_open(row.id, is_open=is_open, now=self._clock.now())
                if not is_open:
                    await news.collection_closed(tx, did)
        allowed(caller, "did.close" if not is_open else "did.open", str(did))

    async def _collection(self, tx: Tx, caller: Caller, did: Did, action: str) -> DidRow:
        await require_write(tx, caller, did.scope, action, str(did))
        row = (await tx.dids.get_many([did], lock=True)).get(did)
        if row is None:
            raise DidNotFound(f"{did} does not exist")
        if not row.type.is_collection:
            raise UnsupportedStatus(f"{did} is a file")
        return row

    async def get(
        self, did: Did, *, dynamic: bool = False
    ) -> tuple[DidRow, int | None, int | None]:
        """Return a data identifier, and if `dynamic` number and bytes of the files below it.

        Raises:
            DidNotFound: there is none.
        """
        async with self._work.read() as tx:
            row = await require(tx, did)
            if row.type is DidType.FILE:
                return row, 1, row.size_bytes
            if not dynamic:
                return row, None, None
            return row, *await tx.trees.totals(row.id)

    async def exists(self, did: Did) -> DidRow:
        """Return a data identifier.

        Raises:
            DidNotFound: there is none.
        """
        async with self._work.read() as tx:
            return await require(tx, did)

    async def content(self, did: Did) -> AsyncIterator[DidRow]:
        """Give what stands directly in a collection."""
        async with self._work.read() as tx:
            row = await require(tx, did)
            async for child in tx.contents.children(row.id):
                yield child

    async def files(self, dids: Collection[Did]) -> AsyncIterator[DidRow]:
        """Give all files at or below data identifiers, each once."""
        async with self._work.read() as tx:
            rows = await require_all(tx, list(dids))
            async for file in tx.trees.files([row.id for row in rows]):
                yield file

    async def parents(self, did: Did) -> list[DidRow]:
        """Return the collections that hold `did` directly."""
        async with self._work.read() as tx:
            row = await require(tx, did)
            return [parent for _, parent in await tx.contents.parents([row.id])]

    async def scope_exists(self, scope: str) -> None:
        """Return if there is such a scope.

        Raises:
            ScopeNotFound: there is none.
        """
        async with self._work.read() as tx:
            if await tx.scopes.owner(scope) is None:
                raise ScopeNotFound(f"scope {scope!r} does not exist")

    async def search(
        self,
        scope: str,
        filters: Sequence[Mapping[str, Any]],
        types: Collection[DidType],
        limit: int | None = None,
    ) -> AsyncIterator[DidRow]:
        """Give the data identifiers of a scope that match one of `filters`, by name."""
        async with self._work.read() as tx:
            async for row in tx.dids.search(scope, filters, types, limit):
                yield row


async def require(tx: Tx, did: Did) -> DidRow:
    """Return a data identifier.

    Raises:
        DidNotFound: there is none.
    """
    row = (await tx.dids.get_many([did])).get(did)
    if row is None:
        raise DidNotFound(f"{did} does not exist")
    return row


async def require_all(tx: Tx, dids: Sequence[Did]) -> list[DidRow]:
    """Return data identifiers in the given order, each once.

    Raises:
        DidNotFound: one of them does not exist.
    """
    rows = await tx.dids.get_many(dids)
    for did in dids:
        if did not in rows:
            raise DidNotFound(f"{did} does not exist")
    return [rows[did] for did in dict.fromkeys(dids)]


async def _places(
    tx: Tx, file_ids: Collection[int], rses: Mapping[int, Rse]
) -> dict[int, list[Rse]]:
    found: dict[int, list[Rse]] = {}
    async for row in tx.replicas.each(file_ids, None, [ReplicaState.AVAILABLE]):
        if row.rse_id is not None:
            found.setdefault(row.file.id, []).append(rses[row.rse_id])
    return found
