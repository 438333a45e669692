"""Metadata: Rucio's built-in columns, the free JSON beside them, and how long data lives."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from twinfra.core.time import Clock
from twinfra.core.workflow.model import Done, Outcome, Run, Wait
from twinfra.data.datasets.errors import InvalidMetadata, KeyNotFound
from twinfra.data.datasets.model import Did
from twinfra.data.datasets.model.lineage import inputs_of
from twinfra.data.datasets.ports import DidRow, Tx, Work
from twinfra.data.datasets.service.dids import require
from twinfra.data.datasets.service.keeping import EXPIRY, Keeping
from twinfra.data.datasets.service.rights import Caller, allowed, require_write

LIFETIME = "lifetime"
BUILT_IN = frozenset(
    {
        "scope", "name", "account", "did_type", "is_open", "monotonic", "hidden", "obsolete",
        "complete", "is_new", "availability", "suppressed", "bytes", "length", "md5", "adler32",
        "expired_at", "purge_replicas", "deleted_at", "created_at", "updated_at", "accessed_at",
        "closed_at", "eol_at", "is_archive", "constituent", "access_cnt",
    }
)  # fmt: skip
MAX_KEYS = 200
NEVER_S = 86400.0


class MetadataService:
    """Metadata of data identifiers.

    Args:
        work: opens units of work.
        clock: tells the moment.
        keeping: removes the rules of what expires.
    """

    def __init__(self, work: Work, clock: Clock, keeping: Keeping) -> None:
        self._work, self._clock, self._keeping = work, clock, keeping

    async def get(self, dids: Sequence[Did]) -> list[DidRow]:
        """Return data identifiers with their metadata; those that do not exist are left out."""
        async with self._work.read() as tx:
            rows = await tx.dids.get_many(dids)
        return [rows[did] for did in dids if did in rows]

    async def set(self, caller: Caller, changes: Sequence[tuple[Did, Mapping[str, Any]]]) -> None:
        """Set keys of data identifiers, all or none; other keys stay.

        Raises:
            InvalidMetadata: a key is built in, or there are too many.
            DidNotFound: a data identifier does not exist.
        """
        async with self._work.begin() as tx:
            for did, meta in changes:
                await require_write(tx, caller, did.scope, "did.meta", str(did))
                await self._set(tx, await require(tx, did), meta)
        for did, _ in changes:
            allowed(caller, "did.meta", str(did))

    async def _set(self, tx: Tx, row: DidRow, changes: Mapping[str, Any]) -> None:
        now, free = self._clock.now(), dict(changes)
        if LIFETIME in free:
            seconds = _seconds(free.pop(LIFETIME))
            until = None if seconds is None else now + timedelta(seconds=seconds)
            await tx.meta.set_expiry(row.id, until)
            await tx.start(EXPIRY, str(row.id), {"did": str(row.did)})
            await tx.wake(EXPIRY, str(row.id))
        for key in free:
            if key in BUILT_IN or '"' in key or "\\" in key or not key:
                raise InvalidMetadata(f"metadata key {key!r} cannot be set")
        meta = {**row.meta, **free}
        if len(meta) > MAX_KEYS:
            raise InvalidMetadata(f"{row.did} would have more than {MAX_KEYS} metadata keys")
        if free:
            await tx.meta.write(row.id, meta, inputs_of(meta), now)

    async def remove(self, caller: Caller, did: Did, key: str) -> None:
        """Remove a key.

        Raises:
            KeyNotFound: the data identifier has no such key.
        """
        async with self._work.begin() as tx:
            await require_write(tx, caller, did.scope, "did.meta", str(did))
            row = await require(tx, did)
            if key not in row.meta:
                raise KeyNotFound(f"{did} has no metadata key {key!r}")
            meta = {name: value for name, value in row.meta.items() if name != key}
            await tx.meta.write(row.id, meta, inputs_of(meta), self._clock.now())
        allowed(caller, "did.meta", str(did))

    async def expire(self, run: Run) -> Outcome:
        """Remove a data identifier with its rules when its time has come; a durable step."""
        did, now = Did.parse(run.data["did"]), self._clock.now()
        async with self._work.begin() as tx:
            row = (await tx.dids.get_many([did], lock=True)).get(did)
            if row is None or str(row.id) != run.key:
                return Done()
            if row.expires_at is None:
                return Wait(NEVER_S, "no end is set")
            if row.expires_at > now:
                return Wait((row.expires_at - now).total_seconds(), "not due yet")
            for rule_id in await tx.rules.on([row.id]):
                rule = await tx.rules.get(rule_id, lock=True)
                if rule is not None:
                    await self._keeping.release(tx, rule, purge=True)
            holders = [parent.id for _, parent in await tx.contents.parents([row.id])]
            await tx.dids.remove([row.id])
            if holders:
                await self._keeping.content_changed(tx, holders)
        return Done()


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InvalidMetadata(f"a lifetime of {value!r}: no number of seconds") from error
