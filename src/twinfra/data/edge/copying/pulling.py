"""COPY with a ``Source``: this storage fetches a file from another one."""

from collections.abc import Mapping

from aiohttp import StreamReader

from twinfra.data.edge.copying.order import CopyOrder
from twinfra.data.edge.copying.outbound import Outbound, remote_connection
from twinfra.data.edge.copying.progress import CopyFailed, Progress
from twinfra.data.edge.copying.rate import TokenBucket
from twinfra.data.edge.dav.writing import commit
from twinfra.data.edge.files.checksums import as_mapping, differing
from twinfra.data.edge.files.draft import Draft
from twinfra.data.edge.paths import Resource
from twinfra.data.edge.site import Site
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.storage.digest_fields import read_digest, read_repr_digest

WANT = {
    "Want-Digest": "adler32,md5;q=0.5,sha-256;q=0.4",
    "Want-Repr-Digest": "sha-256=5, md5=3, adler=2",
}
IDENTITY = frozenset({"", "identity"})


class Pull:
    """One file on its way here.

    Args:
        site: this one.
        outbound: reaches the source.
        order: what was ordered.
        bucket: limits the link; none: no limit.
        replace: a file at the target may be replaced.
    """

    def __init__(
        self,
        site: Site,
        outbound: Outbound,
        order: CopyOrder,
        bucket: TokenBucket | None,
        *,
        replace: bool,
    ) -> None:
        self._site, self._outbound, self._order = site, outbound, order
        self._bucket, self._replace = bucket, replace
        self._verify = (
            site.settings.require_checksum_verification if order.verify is None else order.verify
        )
        self.progress = Progress()

    async def run(self, target: Resource) -> None:
        """Fetch the file, compare its checksums, let it appear at `target`.

        Raises:
            CopyFailed: it did not work; nothing is to be seen of it.
            HttpRefusal: the target changed meanwhile.
        """
        site = self._site
        async with Draft(site.tree, site.pool, site.new_id()) as draft:
            told = await self._fetch(draft)
            if self._verify and not told:
                told = await self._ask()
            checksums = draft.checksums()
            for promised, by in ((told, "the source"), (self._order.promised, "the orderer")):
                name = differing(promised, checksums)
                if name is not None:
                    raise CopyFailed(
                        f"Checksum mismatch: {name} is {as_mapping(checksums)[name]} here, "
                        f"{promised[name]} by {by}"
                    )
            if self._verify and not told and not self._order.promised:
                raise CopyFailed("the source tells no checksum (RequireChecksumVerification)")
            headers = {} if self._order.overwrite else {"if-none-match": "*"}
            await site.unbroken(commit(site, draft, target, headers, replace=self._replace))

    async def _fetch(self, draft: Draft) -> dict[str, str]:
        """Write what the source sends; returns the checksums that it tells."""
        order = self._order
        async with self._outbound.request(
            "GET", order.remote, order.headers, own=WANT, narrow=self._bucket is not None
        ) as answer:
            if answer.status != 200:
                raise CopyFailed(f"the source answered {answer.status} {answer.reason}")
            if answer.headers.get("Content-Encoding", "").lower() not in IDENTITY:
                raise CopyFailed("the source sent the file encoded")
            self.progress.bytes_total = answer.content_length
            if (end := remote_connection(answer)) is not None:
                self.progress.connections = [end]
            try:
                self._site.check_room(answer.content_length)
            except HttpRefusal as refusal:
                raise CopyFailed(refusal.text) from refusal
            await self._write(draft, answer.content)
            return told_by(answer.headers)

    async def _write(self, draft: Draft, content: StreamReader) -> None:
        gathered = bytearray()
        block_bytes = self._site.settings.block_bytes
        limit = self._site.settings.max_upload_bytes
        async for piece in content.iter_any():
            if self._bucket is not None:
                await self._bucket.take(len(piece))
            self.progress.bytes_done += len(piece)
            if limit is not None and self.progress.bytes_done > limit:
                raise CopyFailed(f"a file may have {limit} bytes here")
            gathered += piece
            if len(gathered) >= block_bytes:
                await draft.write(bytes(gathered))
                gathered.clear()
        if gathered:
            await draft.write(bytes(gathered))

    async def _ask(self) -> dict[str, str]:
        """Ask the source for its checksum once more, in case it only tells it to a HEAD."""
        order = self._order
        async with self._outbound.request("HEAD", order.remote, order.headers, own=WANT) as answer:
            return told_by(answer.headers) if answer.status == 200 else {}


def told_by(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the checksums that an answer tells.

    Raises:
        CopyFailed: they are not of their form.
    """
    try:
        return read_repr_digest(headers.get("Repr-Digest", "")) | read_digest(
            headers.get("Digest", "")
        )
    except ValueError as error:
        raise CopyFailed(f"the other storage's digest makes no sense: {error}") from error
