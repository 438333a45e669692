"""Storages behind WebDAV and HTTP third-party copy: dCache, EOS, StoRM, XRootD and our own edge.

Turns every answer into facts or a `TransferFault`; decides nothing about trying again, which is the
engine's business.

Source: HTTP-TPC of WLCG (COPY, TransferHeaderAuthorization, markers), RFC 3230 (Want-Digest).
"""

import asyncio
import re
from collections.abc import Mapping
from errno import ECONNREFUSED, EHOSTUNREACH, EIO, ETIMEDOUT

import aiohttp
from yarl import URL

from twinfra.core.errors import TwinfraError, Unavailable, UpstreamTimeout
from twinfra.core.http.client import HttpClient
from twinfra.data.transfers.model.checksums import parse_digest_header
from twinfra.data.transfers.model.faults import (
    Fault,
    Scope,
    TransferFault,
    fault,
    fault_of_status,
    fault_of_text,
)
from twinfra.data.transfers.model.links import address_of, http_url
from twinfra.data.transfers.model.markers import MarkerReader
from twinfra.data.transfers.ports import CopyOrder, FileFacts, Peers, Progress

REDIRECTS = frozenset({302, 307, 308})
MAX_REDIRECTS = 3
ERROR_TEXT_BYTES = 2048
_NOT_RESOLVED = re.compile(r"name or service not known|name resolution", re.IGNORECASE)


class WebdavStorage:
    """Speaks to any number of storages.

    Args:
        http: a client that follows no redirect; URLs are whole.
        peers: which storages may be called at all, redirects included.
        stat_limit_s: for one look at a file.
        stall_s: the longest silence of a copy.
    """

    def __init__(
        self, http: HttpClient, peers: Peers, *, stat_limit_s: float, stall_s: float
    ) -> None:
        self._http, self._peers = http, peers
        self._stat_limit_s, self._stall_s = stat_limit_s, stall_s

    async def stat(
        self, url: str, token: str | None, algorithm: str, *, scope: Scope
    ) -> FileFacts | None:
        """Ask by HEAD with ``Want-Digest``."""
        headers = _bearer(token) | {"Want-Digest": algorithm}
        target = http_url(url)
        await self._check_peer(target, scope, "CHECK")
        try:
            async with self._http.stream(
                "HEAD", target, headers=headers, timeout_s=self._stat_limit_s
            ) as answer:
                return _facts(answer, scope)
        except TwinfraError as error:
            raise _unreachable(scope, "CHECK", error) from error

    async def copy(self, order: CopyOrder, progress: Progress) -> None:
        """Send COPY to the destination and follow the markers to the final line."""
        headers = _copy_headers(order)
        target = http_url(order.dest_url)
        try:
            async with asyncio.timeout(order.limit_s):
                for _ in range(MAX_REDIRECTS + 1):
                    await self._check_peer(target, Scope.DESTINATION, "COPY")
                    moved = await self._copy_at(target, headers, progress)
                    if moved is None:
                        return
                    target = moved
        except TimeoutError as error:
            text = f"the copy took longer than {order.limit_s:.0f} s: Connection timed out"
            raise TransferFault(fault(Scope.TRANSFER, ETIMEDOUT, "COPY", text)) from error
        except TwinfraError as error:
            raise _unreachable(Scope.TRANSFER, "COPY", error) from error
        raise TransferFault(fault(Scope.DESTINATION, EIO, "COPY", "too many redirects"))

    async def delete(self, url: str, token: str | None) -> None:
        """Send DELETE; 404 is fine."""
        target = http_url(url)
        await self._check_peer(target, Scope.DESTINATION, "CLEANUP")
        try:
            async with self._http.stream(
                "DELETE", target, headers=_bearer(token), timeout_s=self._stat_limit_s
            ) as answer:
                if answer.status >= 300 and answer.status not in {404, 410}:
                    text = await _text_of(answer)
                    raise TransferFault(
                        fault_of_status(Scope.DESTINATION, answer.status, "CLEANUP", text)
                    )
        except TwinfraError as error:
            raise _unreachable(Scope.DESTINATION, "CLEANUP", error) from error

    async def _check_peer(self, url: str, scope: Scope, phase: str) -> None:
        verdict = await self._peers.allowed(url)
        if verdict is None:
            text = "the catalogue of storages does not answer; Connection timed out"
            raise TransferFault(fault(Scope.AGENT, ETIMEDOUT, phase, text))
        if not verdict:
            text = f"{address_of(url)} is not a registered storage: Permission denied"
            raise TransferFault(fault_of_status(scope, 403, phase, text))

    async def _copy_at(
        self, target: str, headers: Mapping[str, str], progress: Progress
    ) -> str | None:
        """Copy at `target`; returns where it sends us on to, none when the copy is done."""
        async with self._http.stream("COPY", target, headers=headers) as answer:
            if answer.status in REDIRECTS and "Location" in answer.headers:
                return str(answer.url.join(URL(answer.headers["Location"])))
            if answer.status >= 300:
                raise TransferFault(_refused(answer.status, await _text_of(answer)))
            await self._follow(answer, progress)
        return None

    async def _follow(self, answer: aiohttp.ClientResponse, progress: Progress) -> None:
        reader = MarkerReader()
        seen = False
        while True:
            try:
                async with asyncio.timeout(self._stall_s):
                    raw = await answer.content.readline()
            except TimeoutError as error:
                text = f"no performance marker for {self._stall_s:.0f} s"
                raise TransferFault(fault(Scope.TRANSFER, ETIMEDOUT, "COPY", text)) from error
            if not raw:
                break
            seen = True
            if reader.feed(raw.decode("utf-8", "replace")):
                await progress(reader.transferred_bytes)
        if reader.outcome == "success" or (not seen and answer.status in {201, 204}):
            return
        if reader.outcome is None:
            text = "the copy ended without a word: EOF"
            raise TransferFault(fault(Scope.TRANSFER, EIO, "COPY", text))
        raise TransferFault(fault_of_text(Scope.TRANSFER, "COPY", reader.text))


def _facts(answer: aiohttp.ClientResponse, scope: Scope) -> FileFacts | None:
    if answer.status in {404, 410}:
        return None
    if answer.status != 200:
        raise TransferFault(fault_of_status(scope, answer.status, "CHECK"))
    length = answer.headers.get("Content-Length", "")
    return FileFacts(
        size_bytes=int(length) if length.isdecimal() else None,
        digests=parse_digest_header(answer.headers.get("Digest")),
    )


def _bearer(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _copy_headers(order: CopyOrder) -> dict[str, str]:
    headers = _bearer(order.dest_token) | {
        "Source": http_url(order.source_url),
        "Overwrite": "T" if order.overwrite else "F",
        "Credential": "none",
        "X-No-Delegate": "true",
        "RequireChecksumVerification": "false",
        "Secure-Redirection": "1",
        "ClientInfo": order.client_info,
    }
    if order.source_token:
        headers["TransferHeaderAuthorization"] = f"Bearer {order.source_token}"
    return headers


def _refused(status: int, text: str) -> Fault:
    scope = Scope.DESTINATION if status in {401, 403, 405, 409, 412, 507} else Scope.TRANSFER
    return fault_of_status(scope, status, "COPY", text)


async def _text_of(answer: aiohttp.ClientResponse) -> str:
    return (await answer.content.read(ERROR_TEXT_BYTES)).decode("utf-8", "replace")


def _unreachable(scope: Scope, phase: str, error: TwinfraError) -> TransferFault:
    if isinstance(error, UpstreamTimeout):
        return TransferFault(fault(scope, ETIMEDOUT, phase, "Connection timed out"))
    errno = ECONNREFUSED if isinstance(error, Unavailable) else EIO
    if _NOT_RESOLVED.search(error.detail):
        errno = EHOSTUNREACH
    return TransferFault(fault(scope, errno, phase, error.detail))
