"""COPY with a ``Destination`` elsewhere: this storage sends a file to another one."""

import asyncio
import os
from collections.abc import AsyncIterator

from twinfra.core.telemetry import get_logger
from twinfra.data.edge.copying.order import CopyOrder
from twinfra.data.edge.copying.outbound import Outbound, remote_connection
from twinfra.data.edge.copying.progress import CopyFailed, Progress
from twinfra.data.edge.copying.pulling import WANT, told_by
from twinfra.data.edge.copying.rate import TokenBucket
from twinfra.data.edge.dav.reading import Opened, checksums_of
from twinfra.data.edge.files.checksums import as_mapping, differing
from twinfra.data.edge.paths import Resource
from twinfra.data.edge.site import Site
from twinfra.data.storage.digest_fields import write_digest, write_repr_digest

log = get_logger(__name__)

CREATED = (200, 201, 202, 204)
NARROW_BLOCK_BYTES = 64 * 1024


class Push:
    """One file on its way out.

    Args:
        site: this one.
        outbound: reaches the target.
        order: what was ordered.
        bucket: limits the link; none: no limit.
        opened: the file; closed by whoever opened it.
    """

    def __init__(
        self,
        site: Site,
        outbound: Outbound,
        order: CopyOrder,
        bucket: TokenBucket | None,
        opened: Opened,
    ) -> None:
        self._site, self._outbound, self._order = site, outbound, order
        self._bucket, self._opened = bucket, opened
        self._verify = (
            site.settings.require_checksum_verification if order.verify is None else order.verify
        )
        self._patience: asyncio.Timeout | None = None
        self.progress = Progress(bytes_total=opened.version.size_bytes)

    async def run(self, source: Resource) -> None:
        """Send the file and compare checksums with what arrived.

        Raises:
            CopyFailed: it did not work; what arrived wrong was removed, as far as it could be.
        """
        opened, order = self._opened, self._order
        if opened.checksums is None:
            opened.checksums = await checksums_of(self._site, opened, source.path)
        if opened.checksums is None:
            raise CopyFailed("the file changed while it was read")
        name = differing(order.promised, opened.checksums)
        if name is not None:
            have = as_mapping(opened.checksums)[name]
            raise CopyFailed(
                f"Checksum mismatch: {name} is {have} here, {order.promised[name]} by the orderer"
            )
        told = await self._send()
        if self._verify and not told:
            told = await self._ask()
        wrong = differing(told, opened.checksums)
        if wrong is not None:
            await self._take_back()
            raise CopyFailed(
                f"Checksum mismatch: {wrong} is {as_mapping(opened.checksums)[wrong]} here, "
                f"{told[wrong]} by the target"
            )
        if self._verify and not told:
            raise CopyFailed("the target tells no checksum (RequireChecksumVerification)")

    async def _send(self) -> dict[str, str]:
        opened = self._opened
        assert opened.checksums is not None  # noqa: S101 - `run` has made them
        sums = as_mapping(opened.checksums)
        own = {
            **WANT,
            "Content-Length": str(opened.version.size_bytes),
            "Content-Type": "application/octet-stream",
            "Digest": write_digest({"adler32": sums["adler32"]}),
            "Repr-Digest": write_repr_digest({"sha256": sums["sha256"]}),
        }
        if not self._order.overwrite:
            own["If-None-Match"] = "*"
        try:
            async with (
                asyncio.timeout(self._site.settings.peer_first_byte_timeout_s) as self._patience,
                self._outbound.request(
                    "PUT",
                    self._order.remote,
                    self._order.headers,
                    own=own,
                    body=self._blocks,
                    narrow=self._bucket is not None,
                ) as answer,
            ):
                if answer.status not in CREATED:
                    text = (await answer.content.read(256)).decode("utf-8", "replace").strip()
                    raise CopyFailed(f"the target answered {answer.status} {answer.reason}: {text}")
                return told_by(answer.headers)
        except TimeoutError as error:
            raise CopyFailed("the target took nothing for too long") from error

    async def _blocks(self) -> AsyncIterator[bytes]:
        """Give the file's bytes, from the start: a redirection sends it anew."""
        self.progress.bytes_done = 0
        settings, offset = self._site.settings, 0
        block_bytes = NARROW_BLOCK_BYTES if self._bucket else settings.block_bytes
        size = self._opened.version.size_bytes
        while offset < size:
            count = min(block_bytes, size - offset)
            block = await self._site.io(os.pread, self._opened.descriptor, count, offset)
            if not block:
                raise CopyFailed("the file became shorter while it was sent")
            if self._bucket is not None:
                await self._bucket.take(len(block))
            self._wait_again(settings.peer_idle_timeout_s)
            yield block
            offset += len(block)
            self.progress.bytes_done = offset
        self._wait_again(settings.peer_first_byte_timeout_s)

    def _wait_again(self, seconds: float) -> None:
        """Give the peer so long from now for its next sign of life."""
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time() + seconds)

    async def _ask(self) -> dict[str, str]:
        order = self._order
        async with self._outbound.request("HEAD", order.remote, order.headers, own=WANT) as answer:
            if (end := remote_connection(answer)) is not None:
                self.progress.connections = [end]
            return told_by(answer.headers) if answer.status == 200 else {}

    async def _take_back(self) -> None:
        """Remove what arrived wrong."""
        order = self._order
        try:
            async with self._outbound.request("DELETE", order.remote, order.headers) as answer:
                log.warning("bad_copy_removed", url=_shown(order), status=answer.status)
        except CopyFailed as error:
            log.warning("bad_copy_left", url=_shown(order), error=str(error))


def _shown(order: CopyOrder) -> str:
    """Return the target as the log may have it: without a query, which may hold a secret."""
    return str(order.remote).partition("?")[0]
