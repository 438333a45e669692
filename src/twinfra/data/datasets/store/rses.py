"""SQL of storages: few rows, read whole."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update
from typing_extensions import override

from twinfra.core.database import Connection, Database
from twinfra.data.datasets.model import ReplicaState
from twinfra.data.datasets.model.rses import Protocol, Rse
from twinfra.data.datasets.ports.storage import RseFactStore, RseStore
from twinfra.data.datasets.store.rows import was_inserted
from twinfra.data.datasets.store.tables import (
    replicas,
    rse_attributes,
    rse_distances,
    rse_limits,
    rse_protocols,
    rse_usage,
    rses,
)

FLAGS = (
    "deterministic",
    "volatile",
    "staging_area",
    "availability_read",
    "availability_write",
    "availability_delete",
)


class SqlRses(RseStore):
    """Storages in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def all(self) -> dict[int, Rse]:
        attributes: dict[int, dict[str, Any]] = defaultdict(dict)
        for row in await self._connection.execute(select(rse_attributes)):
            attributes[row.rse_id][row.key] = row.value
        protocols: dict[int, list[Protocol]] = defaultdict(list)
        for row in await self._connection.execute(
            select(rse_protocols).order_by(
                rse_protocols.c.scheme, rse_protocols.c.hostname, rse_protocols.c.port
            )
        ):
            protocols[row.rse_id].append(
                Protocol(
                    row.scheme,
                    row.hostname,
                    row.port,
                    row.prefix,
                    row.impl,
                    row.domains,
                    row.extended_attributes,
                )
            )
        return {
            row.id: Rse(
                id=row.uuid,
                name=row.name,
                rse_type=row.rse_type,
                attributes=dict(attributes[row.id]),
                protocols=tuple(protocols[row.id]),
                place=row.place,
                **{flag: getattr(row, flag) for flag in FLAGS},
            )
            for row in await self._connection.execute(select(rses).order_by(rses.c.name))
        }

    @override
    async def add(self, rse: Rse, now: datetime) -> bool:
        row = {
            "uuid": rse.id,
            "name": rse.name,
            "rse_type": rse.rse_type,
            "place": dict(rse.place),
            "created_at": now,
            **{flag: getattr(rse, flag) for flag in FLAGS},
        }
        insert = self._database.insert(rses).values(row).on_conflict_do_nothing()
        return await was_inserted(self._connection, insert, rses.c.id)

    @override
    async def update(self, rse_id: int, values: Mapping[str, Any]) -> None:
        change = update(rses).where(rses.c.id == rse_id).values(**values)
        await self._connection.execute(change)

    @override
    async def remove(self, rse_id: int) -> bool:
        held = select(replicas.c.did_id).where(replicas.c.rse_id == rse_id).limit(1)
        if (await self._connection.execute(held)).first() is not None:
            return False
        await self._connection.execute(delete(rses).where(rses.c.id == rse_id))
        return True

    @override
    async def set_attribute(self, rse_id: int, key: str, value: Any) -> None:
        if value is None:
            await self._connection.execute(
                delete(rse_attributes).where(
                    rse_attributes.c.rse_id == rse_id, rse_attributes.c.key == key
                )
            )
            return
        insert = self._database.insert(rse_attributes).values(
            {"rse_id": rse_id, "key": key, "value": value}
        )
        await self._connection.execute(
            insert.on_conflict_do_update(
                index_elements=["rse_id", "key"], set_={"value": insert.excluded.value}
            )
        )

    @override
    async def set_protocol(self, rse_id: int, protocol: Protocol, *, remove: bool = False) -> None:
        await self._connection.execute(
            delete(rse_protocols).where(
                rse_protocols.c.rse_id == rse_id,
                rse_protocols.c.scheme == protocol.scheme,
                rse_protocols.c.hostname == protocol.hostname,
                rse_protocols.c.port == protocol.port,
            )
        )
        if remove:
            return
        row = {
            "rse_id": rse_id,
            "scheme": protocol.scheme,
            "hostname": protocol.hostname,
            "port": protocol.port,
            "prefix": protocol.prefix,
            "impl": protocol.impl,
            "domains": {domain: dict(ops) for domain, ops in protocol.domains.items()},
            "extended_attributes": dict(protocol.extended_attributes),
        }
        await self._connection.execute(rse_protocols.insert().values(row))


class SqlRseFacts(RseFactStore):
    """Distances, limits and usage in SQL."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self._database, self._connection = database, connection

    @override
    async def distances(self) -> dict[tuple[int, int], int]:
        rows = await self._connection.execute(select(rse_distances))
        return {(row.source_id, row.dest_id): row.distance for row in rows}

    @override
    async def set_distance(self, source_id: int, dest_id: int, distance: int | None) -> None:
        pair = {"source_id": source_id, "dest_id": dest_id}
        await self._connection.execute(
            delete(rse_distances).where(
                rse_distances.c.source_id == source_id, rse_distances.c.dest_id == dest_id
            )
        )
        if distance is not None:
            await self._connection.execute(
                rse_distances.insert().values({**pair, "distance": distance})
            )

    @override
    async def usage(self, rse_id: int) -> list[dict[str, Any]]:
        told = select(rse_usage).where(rse_usage.c.rse_id == rse_id).order_by(rse_usage.c.source)
        rows = [dict(row._mapping) for row in await self._connection.execute(told)]  # noqa: SLF001 - SQLAlchemy's documented name
        query = select(
            func.count(),
            func.coalesce(func.sum(replicas.c.size_bytes), 0),
            func.max(replicas.c.updated_at),
        ).where(replicas.c.rse_id == rse_id, replicas.c.state == ReplicaState.AVAILABLE.value)
        files, used, updated_at = (await self._connection.execute(query)).one()
        own = {
            "rse_id": rse_id,
            "source": "rucio",
            "used_bytes": int(used),
            "free_bytes": None,
            "files": files,
            "updated_at": updated_at,
        }
        return [own, *rows]

    @override
    async def set_usage(
        self, rse_id: int, source: str, numbers: Mapping[str, int | None], now: datetime
    ) -> None:
        values = {**numbers, "updated_at": now}
        insert = self._database.insert(rse_usage).values(
            {"rse_id": rse_id, "source": source, **values}
        )
        await self._connection.execute(
            insert.on_conflict_do_update(index_elements=["rse_id", "source"], set_=values)
        )

    @override
    async def limits(self, rse_id: int) -> dict[str, float]:
        query = select(rse_limits).where(rse_limits.c.rse_id == rse_id)
        return {row.name: row.value for row in await self._connection.execute(query)}

    @override
    async def set_limit(self, rse_id: int, name: str, value: float | None) -> None:
        await self._connection.execute(
            delete(rse_limits).where(rse_limits.c.rse_id == rse_id, rse_limits.c.name == name)
        )
        if value is not None:
            await self._connection.execute(
                rse_limits.insert().values({"rse_id": rse_id, "name": name, "value": value})
            )
