"""The services next door, behind the ports: transfers over FTS3, tokens, accounting.

Nothing is decided here; foreign words become ours. ``wiring`` builds these.
"""

import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from typing_extensions import override

from twinfra.access.model import Delegation as HeldDelegation
from twinfra.access.tokens import TokenClient
from twinfra.accounting.client import AccountingClient, from_json
from twinfra.core.errors import Conflict, NotFound, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.data.datasets.ports import (
    Accounting,
    Attempt,
    Copy,
    Delegation,
    Job,
    JobReport,
    Tokens,
    Transfers,
)
from twinfra.data.transfers.client import (
    Checksum,
    FileState,
    FileStatus,
    NewTransfer,
    TransferParams,
    TransfersClient,
)

log = get_logger(__name__)

FAILED = frozenset({FileState.FAILED, FileState.CANCELLED})
UNUSED = FileState.NOT_USED


class FtsTransfers(Transfers):
    """A transfer service that speaks FTS3's REST interface.

    Args:
        client: of the service, with our own token.
    """

    def __init__(self, client: TransfersClient) -> None:
        self._client = client

    @override
    async def submit(self, job: Job) -> str:
        files = [_new(copy, job.activity) for copy in job.copies]
        params = TransferParams(
            overwrite=True, sid=job.sid, priority=job.priority, job_metadata=dict(job.metadata)
        )
        try:
            return await self._client.submit(files, params)
        except Conflict:
            job_id = await self._derived_id(job.sid)
            if not (await self._client.statuses([job_id]))[job_id].known:
                raise
            return job_id

    async def _derived_id(self, sid: str) -> str:
        """Return the id that FTS derives from a ``sid``: uuid5(uuid5(base_id, vo), sid)."""
        me = await self._client.whoami()
        own = uuid.uuid5(uuid.UUID(me["base_id"]), me["vos"][0])
        return str(uuid.uuid5(own, sid))

    @override
    async def report(self, job_id: str) -> JobReport:
        found = (await self._client.statuses([job_id])).get(job_id)
        if found is None or not found.known:
            return JobReport(known=False, final=True)
        attempts: dict[str, list[Attempt]] = {}
        for file in found.files:
            named = file.metadata.get("request_id") if isinstance(file.metadata, Mapping) else None
            if named is not None and file.state is not UNUSED:
                attempts.setdefault(str(named), []).append(_attempt(file))
        return JobReport(
            known=True, final=found.state.final, attempts=attempts, reason=found.reason
        )

    @override
    async def cancel(self, job_id: str) -> None:
        with suppress(NotFound):
            await self._client.cancel(job_id)


class IssuerTokens(Tokens):
    """Rights of people, held at the federation's issuer.

    Args:
        client: our token client.
    """

    def __init__(self, client: TokenClient) -> None:
        self._client = client

    @override
    async def delegate(self, token: str) -> Delegation:
        return (await self._client.delegate(token)).to_dict()

    @override
    async def for_storage(self, delegation: Delegation | None, audience: str, scope: str) -> str:
        if delegation is None:
            return await self._client.service(audience, scope)
        held = HeldDelegation.from_dict(delegation)
        return await self._client.on_behalf(held, audience, scope)

    @override
    async def revoke(self, delegation: Delegation) -> None:
        try:
            await self._client.revoke(HeldDelegation.from_dict(delegation))
        except TwinfraError as error:
            log.warning("delegation_not_revoked", sub=delegation.get("sub"), error=error.detail)


class AccountingLink(Accounting):
    """The accounting service.

    Args:
        client: of the service, with our own token.
    """

    def __init__(self, client: AccountingClient) -> None:
        self._client = client

    @override
    async def post(self, records: Sequence[Mapping[str, Any]]) -> None:
        await self._client.post([from_json(record) for record in records])


def _new(copy: Copy, activity: str) -> NewTransfer:
    return NewTransfer(
        sources=copy.sources,
        destination=copy.destination,
        source_tokens=copy.source_tokens,
        destination_token=copy.destination_token,
        size_bytes=copy.size_bytes,
        checksum=_checksum(copy),
        metadata=dict(copy.metadata),
        activity=activity,
    )


def _checksum(copy: Copy) -> Checksum | None:
    if copy.adler32:
        return Checksum("adler32", copy.adler32)
    return Checksum("md5", copy.md5) if copy.md5 else None


def _attempt(file: FileStatus) -> Attempt:
    return Attempt(
        source=file.source_url,
        destination=file.dest_url,
        finished=file.state is FileState.FINISHED,
        failed=file.state in FAILED,
        reason=file.reason,
    )
