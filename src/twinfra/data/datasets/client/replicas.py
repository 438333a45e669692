"""Calls about replicas: register, list, declare bad, ask how much an RSE holds."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from twinfra.data.datasets.client.base import Calls
from twinfra.data.datasets.client.wire import (
    dataset_replica,
    did_dict,
    dids_body,
    file_dict,
    path_of,
    replica_info,
)
from twinfra.data.datasets.model import DatasetReplica, Did, FileSpec, ReplicaInfo, ReplicaState

FILES_A_CALL = 1000


class ReplicaCalls(Calls):
    """Where files stand."""

    async def add_replicas(
        self, rse: str, files: Sequence[FileSpec], *, token: str | None = None
    ) -> None:
        """Register files that stand at `rse`; unknown files come into being.

        Guarantees: registering the same file there again changes nothing; a thousand files a call,
        each call all or none.

        Raises:
            Conflict: a file of this name is known with another size or checksum.
            InvalidRequest: a PFN is not on a host of that RSE, or a checksum is malformed.
        """
        for start in range(0, len(files), FILES_A_CALL):
            chunk = files[start : start + FILES_A_CALL]
            body = {"rse": rse, "files": [file_dict(file) for file in chunk]}
            await self._http.request("POST", "/replicas", json=body, token=token)

    async def list_replicas(
        self,
        dids: Sequence[Did],
        rse_expression: str | None = None,
        *,
        all_states: bool = False,
        token: str | None = None,
    ) -> list[ReplicaInfo]:
        """Return all files below `dids` with their replicas; see `iter_replicas`."""
        found = self.iter_replicas(dids, rse_expression, all_states=all_states, token=token)
        return [replica async for replica in found]

    async def iter_replicas(
        self,
        dids: Sequence[Did],
        rse_expression: str | None = None,
        *,
        all_states: bool = False,
        token: str | None = None,
    ) -> AsyncIterator[ReplicaInfo]:
        """Give all files below `dids` with their replicas, as they come.

        Args:
            dids: files or collections.
            rse_expression: only replicas there; a file without one comes without PFNs.
            all_states: also replicas that cannot be read now.
            token: acts for a person.
        """
        body: dict[str, Any] = {"dids": dids_body(dids), "all_states": all_states}
        if rse_expression:
            body["rse_expression"] = rse_expression
        async for line in self._lines("POST", "/replicas/list", json=body, token=token):
            yield replica_info(json.loads(line))

    async def dataset_replicas(self, did: Did, *, token: str | None = None) -> list[DatasetReplica]:
        """Return how much of a dataset each RSE holds (a container: of each dataset below)."""
        found = await self._list(
            f"/replicas/{path_of(did)}/datasets", params={"deep": "True"}, token=token
        )
        return [dataset_replica(entry) for entry in found]

    async def declare_bad(
        self, rse: str, dids: Sequence[Did], reason: str, *, token: str | None = None
    ) -> None:
        """Say that copies at `rse` are broken: they are no source any more, rules heal them."""
        body = {"rse": rse, "dids": dids_body(dids), "reason": reason}
        await self._http.request("POST", "/replicas/bad/dids", json=body, token=token)

    async def set_replica_states(
        self, rse: str, states: Sequence[tuple[Did, ReplicaState]], *, token: str | None = None
    ) -> None:
        """Set the states of replicas at `rse`."""
        files = [{**did_dict(did), "state": state.value} for did, state in states]
        await self._http.request("PUT", "/replicas", json={"rse": rse, "files": files}, token=token)

    async def remove_replicas(
        self, rse: str, dids: Sequence[Did], *, token: str | None = None
    ) -> None:
        """Forget replicas at `rse`, after their bytes are gone; no rule may need them."""
        body = {"rse": rse, "files": dids_body(dids)}
        await self._http.request("DELETE", "/replicas", json=body, token=token)
