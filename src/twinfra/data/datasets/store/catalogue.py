"""SQL of accounts, scopes and data identifiers."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import delete, select, update
from typing_extensions import override

from twinfra.core.database import Connection, Database
from twinfra.data.datasets.model import Did, DidType, FileSpec, NewCollection
from twinfra.data.datasets.ports.catalogue import AccountStore, DidStore, MetaStore, ScopeStore
from twinfra.data.datasets.ports.rows import Account, DidRow
from twinfra.data.datasets.store.filters import condition
from twinfra.data.datasets.store.rows import chunks, did_row, select_dids, was_inserted
from twinfra.data.datasets.store.tables import accounts, did_inputs, dids, identities, scopes


class SqlAccounts(AccountStore):
    """Accounts in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def of_identity(self, issuer: str, sub: str) -> str | None:
        query = select(identities.c.account).where(
            identities.c.issuer == issuer, identities.c.sub == sub
        )
        return (await self._connection.execute(query)).scalar_one_or_none()

    @override
    async def add(self, name: str, type_: str, now: datetime) -> bool:
        row = {"name": name, "type": type_, "created_at": now}
        insert = self._database.insert(accounts).values(row).on_conflict_do_nothing()
        return await was_inserted(self._connection, insert, accounts.c.name)

    @override
    async def map_identity(self, issuer: str, sub: str, account: str) -> None:
        row = {"issuer": issuer, "sub": sub, "account": account}
        insert = self._database.insert(identities).values(row).on_conflict_do_nothing()
        await self._connection.execute(insert)

    @override
    async def get(self, name: str) -> Account | None:
        row = (
            await self._connection.execute(select(accounts).where(accounts.c.name == name))
        ).one_or_none()
        return Account(row.name, row.type, row.created_at) if row else None

    @override
    async def all(self) -> list[Account]:
        rows = await self._connection.execute(select(accounts).order_by(accounts.c.name))
        return [Account(row.name, row.type, row.created_at) for row in rows]

    @override
    async def identities(self, name: str) -> list[tuple[str, str]]:
        query = select(identities).where(identities.c.account == name)
        return [(row.issuer, row.sub) for row in await self._connection.execute(query)]


class SqlScopes(ScopeStore):
    """Scopes in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def owner(self, scope: str) -> str | None:
        query = select(scopes.c.account).where(scopes.c.name == scope)
        return (await self._connection.execute(query)).scalar_one_or_none()

    @override
    async def add(self, scope: str, account: str, now: datetime) -> bool:
        row = {"name": scope, "account": account, "created_at": now}
        insert = self._database.insert(scopes).values(row).on_conflict_do_nothing()
        return await was_inserted(self._connection, insert, scopes.c.name)

    @override
    async def all(self, account: str | None = None) -> list[tuple[str, str]]:
        query = select(scopes.c.name, scopes.c.account).order_by(scopes.c.name)
        if account is not None:
            query = query.where(scopes.c.account == account)
        return [(row.name, row.account) for row in await self._connection.execute(query)]


class SqlDids(DidStore):
    """Data identifiers in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def get_many(self, wanted: Collection[Did], *, lock: bool = False) -> dict[Did, DidRow]:
        found: dict[Did, DidRow] = {}
        for scope, group in groupby(sorted(set(wanted)), key=lambda did: did.scope):
            for names in chunks([did.name for did in group]):
                query = select_dids().where(dids.c.scope == scope, dids.c.name.in_(names))
                if lock:
                    query = query.order_by(dids.c.id).with_for_update()
                rows = map(did_row, await self._connection.execute(query))
                found |= {row.did: row for row in rows}
        return found

    @override
    async def add_collections(
        self, new: Sequence[NewCollection], account: str, now: datetime
    ) -> dict[Did, DidRow]:
        added: dict[Did, DidRow] = {}
        for some in chunks(new, 200):
            values = [
                {
                    **_columns(entry.did, entry.type, account, now),
                    "is_open": True,
                    "monotonic": entry.monotonic,
                    "meta": dict(entry.meta),
                    "expires_at": (
                        now + timedelta(seconds=entry.lifetime_s) if entry.lifetime_s else None
                    ),
                }
                for entry in some
            ]
            insert = self._database.insert(dids).on_conflict_do_nothing().returning(dids.c.id)
            ids = (await self._connection.execute(insert, values)).scalars().all()
            query = select_dids().where(dids.c.id.in_(ids))
            rows = map(did_row, await self._connection.execute(query))
            added |= {row.did: row for row in rows}
        return added

    @override
    async def add_files(self, files: Sequence[FileSpec], account: str, now: datetime) -> set[Did]:
        added: set[Did] = set()
        for some in chunks(files, 500):
            values = [
                {
                    **_columns(file.did, DidType.FILE, account, now),
                    "size_bytes": file.size_bytes,
                    "adler32": file.adler32,
                    "md5": file.md5,
                    "meta": dict(file.meta),
                }
                for file in some
            ]
            insert = self._database.insert(dids).on_conflict_do_nothing()
            insert = insert.returning(dids.c.scope, dids.c.name)
            rows = await self._connection.execute(insert, values)
            added |= {Did(row.scope, row.name) for row in rows}
        return added

    @override
    async def set_open(self, did_id: int, *, is_open: bool, now: datetime) -> None:
        values = {"is_open": is_open, "closed_at": None if is_open else now, "updated_at": now}
        await self._connection.execute(update(dids).where(dids.c.id == did_id).values(values))

    @override
    async def remove(self, did_ids: Collection[int]) -> None:
        for some in chunks(did_ids):
            await self._connection.execute(delete(dids).where(dids.c.id.in_(some)))

    @override
    async def search(
        self,
        scope: str,
        filters: Sequence[Mapping[str, Any]],
        types: Collection[DidType],
        limit: int | None = None,
    ) -> AsyncIterator[DidRow]:
        query = (
            select_dids()
            .where(dids.c.scope == scope, dids.c.type.in_([one.value for one in types]))
            .order_by(dids.c.name)
        )
        if filters:
            query = query.where(condition(filters, is_sqlite=self._database.is_sqlite))
        if limit is not None:
            query = query.limit(limit)
        async with self._connection.stream(query) as rows:
            async for row in rows:
                yield did_row(row)


class SqlMeta(MetaStore):
    """Metadata in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def write(
        self, did_id: int, meta: Mapping[str, Any], inputs: Sequence[Did], now: datetime
    ) -> None:
        values = {"meta": dict(meta), "updated_at": now}
        await self._connection.execute(update(dids).where(dids.c.id == did_id).values(values))
        await self._connection.execute(delete(did_inputs).where(did_inputs.c.did_id == did_id))
        if inputs:
            rows = [{"did_id": did_id, "scope": one.scope, "name": one.name} for one in inputs]
            await self._connection.execute(did_inputs.insert(), rows)

    @override
    async def set_expiry(self, did_id: int, expires_at: datetime | None) -> None:
        change = update(dids).where(dids.c.id == did_id).values(expires_at=expires_at)
        await self._connection.execute(change)

    @override
    async def readers(self, wanted: Collection[Did]) -> list[tuple[Did, DidRow]]:
        found: list[tuple[Did, DidRow]] = []
        for scope, group in groupby(sorted(set(wanted)), key=lambda did: did.scope):
            for names in chunks([did.name for did in group]):
                query = (
                    select_dids()
                    .add_columns(did_inputs.c.name.label("input_name"))
                    .join(did_inputs, did_inputs.c.did_id == dids.c.id)
                    .where(did_inputs.c.scope == scope, did_inputs.c.name.in_(names))
                )
                rows = await self._connection.execute(query)
                found += [(Did(scope, row.input_name), did_row(row)) for row in rows]
        return found


def _columns(did: Did, type_: DidType, account: str, now: datetime) -> dict[str, Any]:
    return {
        "scope": did.scope,
        "name": did.name,
        "type": type_.value,
        "account": account,
        "created_at": now,
        "updated_at": now,
    }
