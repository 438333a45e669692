"""SQL of submissions to the transfer service: the intent first, then what became of it."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select, update
from typing_extensions import override

from twinfra.core.database import Connection
from twinfra.data.datasets.model import RequestState
from twinfra.data.datasets.ports.keeping import TransferStore
from twinfra.data.datasets.ports.rows import RequestRow, TransferRow
from twinfra.data.datasets.store.requests import REQUEST_COLUMNS, request_row
from twinfra.data.datasets.store.rows import DID_COLUMNS, chunks
from twinfra.data.datasets.store.tables import dids, requests, transfers


class SqlTransfers(TransferStore):
    """Submissions in SQL."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @override
    async def add(self, transfer: TransferRow, request_ids: Sequence[int], now: datetime) -> None:
        row = {
            "id": transfer.id,
            "rule_id": transfer.rule_id,
            "rse_id": transfer.rse_id,
            "job_id": transfer.job_id,
            "state": "PREPARED",
            "created_at": now,
        }
        await self._connection.execute(transfers.insert().values(row))
        for some in chunks(request_ids):
            await self._connection.execute(
                update(requests)
                .where(requests.c.id.in_(some))
                .values(
                    state=RequestState.SUBMITTED.value,
                    transfer_id=transfer.id,
                    next_try_at=None,
                    updated_at=now,
                )
            )

    @override
    async def get(self, transfer_id: str) -> TransferRow | None:
        row = (
            await self._connection.execute(select(transfers).where(transfers.c.id == transfer_id))
        ).one_or_none()
        return TransferRow(row.id, row.rule_id, row.rse_id, row.job_id) if row else None

    @override
    async def requests(self, transfer_id: str) -> list[RequestRow]:
        query = (
            select(*REQUEST_COLUMNS, *DID_COLUMNS)
            .join(dids, dids.c.id == requests.c.did_id)
            .where(requests.c.transfer_id == transfer_id)
            .order_by(requests.c.id)
        )
        return [request_row(row) for row in await self._connection.execute(query)]

    @override
    async def set_job(self, transfer_id: str, job_id: str, now: datetime) -> None:
        await self._connection.execute(
            update(transfers)
            .where(transfers.c.id == transfer_id)
            .values(job_id=job_id, state="SUBMITTED", submitted_at=now)
        )

    @override
    async def by_job(self, job_id: str) -> str | None:
        query = select(transfers.c.id).where(transfers.c.job_id == job_id)
        return (await self._connection.execute(query)).scalars().first()

    @override
    async def remove(self, transfer_id: str) -> None:
        await self._connection.execute(delete(transfers).where(transfers.c.id == transfer_id))
