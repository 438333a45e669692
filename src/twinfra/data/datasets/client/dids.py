"""Calls about data identifiers: make, fill, close, describe, look up, search."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from twinfra.core.errors import Conflict
from twinfra.data.datasets.client.base import Calls
from twinfra.data.datasets.client.wire import (
    collection_dict,
    did_info,
    did_of,
    dids_body,
    file_info,
    path_of,
)
from twinfra.data.datasets.model import Did, DidInfo, DidType, FileInfo, NewCollection


class DidCalls(Calls):
    """Files, datasets and containers."""

    async def dids_add(
        self, new: Sequence[NewCollection], *, exist_ok: bool = False, token: str | None = None
    ) -> None:
        """Make datasets and containers, all or none.

        Args:
            new: what is to be made; files come into being by `add_replicas`.
            exist_ok: those that are there already are no error (they are made one by one then).
            token: acts for a person.

        Raises:
            Conflict: a name is taken, and `exist_ok` is not set.
            InsufficientScope: the scope belongs to others.
        """
        if not exist_ok:
            body = [collection_dict(entry) for entry in new]
            await self._http.request("POST", "/dids", json=body, token=token)
            return
        for entry in new:
            try:
                await self.dids_add([entry], token=token)
            except Conflict:
                found = await self.get_did(entry.did, token=token)
                if found.type is not entry.type:
                    raise

    async def attach(
        self, parent: Did, children: Sequence[Did], *, token: str | None = None
    ) -> None:
        """Put `children` into the collection `parent`; what is in it already stays.

        Raises:
            Conflict: the collection is closed, or does not hold such children.
        """
        body = {
            "ignore_duplicate": True,
            "attachments": [
                {"scope": parent.scope, "name": parent.name, "dids": dids_body(children)}
            ],
        }
        await self._http.request("POST", "/dids/attachments", json=body, token=token)

    async def detach(
        self, parent: Did, children: Sequence[Did], *, token: str | None = None
    ) -> None:
        """Take `children` out of the collection `parent`."""
        body = {"dids": dids_body(children)}
        await self._http.request("DELETE", f"/dids/{path_of(parent)}/dids", json=body, token=token)

    async def close(self, did: Did, *, token: str | None = None) -> None:
        """Close a collection: nothing joins it any more. A closed one stays so, without error."""
        await self._set_open(did, is_open=False, token=token)

    async def open(self, did: Did, *, token: str | None = None) -> None:
        """Open a closed collection again."""
        await self._set_open(did, is_open=True, token=token)

    async def set_meta(
        self, did: Did, meta: Mapping[str, Any], *, token: str | None = None
    ) -> None:
        """Set metadata keys; others stay. Values are any JSON."""
        body = {"meta": dict(meta)}
        await self._http.request("POST", f"/dids/{path_of(did)}/meta", json=body, token=token)

    async def get_meta(self, did: Did, *, token: str | None = None) -> dict[str, Any]:
        """Return the free metadata of a data identifier (without Rucio's built-in columns)."""
        reply = await self._read(
            f"/dids/{path_of(did)}/meta", params={"plugin": "JSON"}, token=token
        )
        meta: dict[str, Any] = reply.json()
        return meta

    async def get_did(self, did: Did, *, token: str | None = None) -> DidInfo:
        """Return what is known of `did`; for a collection the size of all files below it.

        Raises:
            NotFound: there is no such data identifier.
        """
        reply = await self._read(
            f"/dids/{path_of(did)}", params={"dynamic_depth": "FILE"}, token=token
        )
        return did_info(reply.json())

    async def list_content(
        self, did: Did, *, token: str | None = None
    ) -> list[tuple[Did, DidType]]:
        """Return what stands directly in a collection."""
        found = await self._list(f"/dids/{path_of(did)}/dids", token=token)
        return [(did_of(entry), DidType(entry["type"])) for entry in found]

    async def list_parents(
        self, did: Did, *, token: str | None = None
    ) -> list[tuple[Did, DidType]]:
        """Return the collections that hold `did` directly."""
        found = await self._list(f"/dids/{path_of(did)}/parents", token=token)
        return [(did_of(entry), DidType(entry["type"])) for entry in found]

    async def list_files(self, did: Did, *, token: str | None = None) -> list[FileInfo]:
        """Return all files below `did`, each once."""
        return [file async for file in self.iter_files(did, token=token)]

    async def iter_files(self, did: Did, *, token: str | None = None) -> AsyncIterator[FileInfo]:
        """Give all files below `did` as they come."""
        async for line in self._lines("GET", f"/dids/{path_of(did)}/files", token=token):
            yield file_info(json.loads(line))

    async def search(
        self,
        scope: str,
        filters: Mapping[str, Any] | None = None,
        *,
        type_: str = "collection",
        token: str | None = None,
    ) -> list[Did]:
        """Return the data identifiers of a scope whose columns and metadata match.

        Args:
            scope: where to look.
            filters: by key; ``name`` may hold ``*``; a key may end in .gt .gte .lt .lte .ne.
            type_: ``all``, ``collection``, ``dataset``, ``container`` or ``file``.
            token: acts for a person.
        """
        params = {"type": type_, "long": "True", "filters": json.dumps([dict(filters or {})])}
        found = await self._list(
            f"/dids/{quote(scope, safe='')}/dids/search", params=params, token=token
        )
        return [did_of(entry) for entry in found]

    async def lineage(self, did: Did, *, token: str | None = None) -> dict[str, Any]:
        """Return the graph of where `did` comes from and what came of it: nodes and edges."""
        graph: dict[str, Any] = (await self._read(f"/lineage/{path_of(did)}", token=token)).json()
        return graph

    async def _set_open(self, did: Did, *, is_open: bool, token: str | None) -> None:
        await self._http.request(
            "PUT", f"/dids/{path_of(did)}/status", json={"open": is_open}, token=token
        )
