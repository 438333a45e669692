"""Registers a new file in the datasets service, on behalf of the trigger's creator.

Three calls that each change nothing when repeated: the dataset, the replica, the attachment.
"""

import base64
import binascii
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from twinfra.core.errors import NotFound, SiteRejected, Unavailable, UpstreamFault
from twinfra.core.http.client import HttpClient
from twinfra.data.datasets.client import (
    DatasetsClient,
    Did,
    DidType,
    FileSpec,
    NewCollection,
)
from twinfra.data.notifications.directory import Directory
from twinfra.data.notifications.ports import Grant, NewFile

TokenFor = Callable[[Grant, str, str], Awaitable[str]]
"""Gives a token for a grant, an audience and a scope."""


class DatasetsRegistrar:
    """Speaks to the datasets service and, where an event tells too little, to the edge.

    Args:
        datasets: its client.
        datasets_url: its base URL, the audience of tokens.
        storages: a client without a base URL, for edges.
        directory: where edges stand.
        token_for: gives tokens on behalf of creators.
    """

    def __init__(
        self,
        datasets: DatasetsClient,
        datasets_url: str,
        storages: HttpClient,
        directory: Directory,
        token_for: TokenFor,
    ) -> None:
        self._datasets, self._datasets_url = datasets, datasets_url
        self._storages, self._directory = storages, directory
        self._token_for = token_for
        self._made: set[tuple[str, str]] = set()

    async def register(self, file: NewFile, dataset: str, name: str, grant: Grant) -> None:
        """Register `file` and put it into `dataset`."""
        scope, _, parent_name = dataset.partition(":")
        parent, did = Did(scope, parent_name), Did(scope, name)
        edge = await self._directory.edge_of(file.site)
        if edge is None:
            raise Unavailable(f"the site {file.site} is not in the catalogue yet")
        url = f"{edge}/dav{quote(file.path)}"
        token = await self._token_for(grant, self._datasets_url, "")
        if file.size_bytes is None or file.adler32 is None:
            file = await self._looked_at(file, edge, url, grant)
        spec = FileSpec(did, file.size_bytes or 0, file.adler32, file.md5, url)
        await self._make(parent, token)
        try:
            await self._datasets.add_replicas(file.rse, [spec], token=token)
        except NotFound as error:
            raise Unavailable(f"{file.rse} is not registered yet: {error.detail}") from error
        try:
            await self._datasets.attach(parent, [did], token=token)
        except NotFound as error:
            self._made.discard((scope, parent_name))
            raise Unavailable(f"{dataset} went away: {error.detail}") from error

    async def _make(self, parent: Did, token: str) -> None:
        """Make the dataset; a name that is taken by something else is a conflict for good."""
        if (parent.scope, parent.name) in self._made:
            return
        wanted = NewCollection(parent, DidType.DATASET)
        await self._datasets.dids_add([wanted], exist_ok=True, token=token)
        self._made.add((parent.scope, parent.name))

    async def _looked_at(self, file: NewFile, edge: str, url: str, grant: Grant) -> NewFile:
        """Ask the edge for size and checksums of a file whose event did not tell them."""
        token = await self._token_for(grant, edge, f"storage.read:{file.path}")
        reply = await self._storages.request(
            "HEAD",
            url,
            headers={"Want-Digest": "adler32,md5"},
            token=token,
            expect=(200, 404),
            retry=True,
        )
        if reply.status == 404:
            raise SiteRejected(f"{file.path} is not at {file.site} any more")
        digests = _digests(reply.headers.get("Digest", ""))
        length = reply.headers.get("Content-Length", "")
        if not length.isdecimal() or "adler32" not in digests:
            raise UpstreamFault(f"{file.site} tells neither size nor checksum of {file.path}")
        return NewFile(
            file.site, file.rse, file.path, int(length), digests["adler32"], digests.get("md5")
        )


def _digests(header: str) -> dict[str, str]:
    found = {}
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "adler32":
            found["adler32"] = value.lower()
        elif name.lower() == "md5":
            try:
                found["md5"] = base64.b64decode(value, validate=True).hex()
            except (ValueError, binascii.Error):
                continue
    return found
