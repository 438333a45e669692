"""Header blocks: names and values, compressed with the dictionary that the protocol fixes.

One compression context a direction and connection: blocks must be coded in the order of the wire.
"""

import zlib
from collections.abc import Sequence

from twinfra.compute.kubelet.door.spdy.errors import SpdyError

Pairs = tuple[tuple[str, str], ...]

# words of the dictionary in the protocol's order, each behind its length
_ONE_BY_ONE = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language "
    "accept-ranges age allow authorization cache-control connection content-base "
    "content-encoding content-language content-length content-location content-md5 "
    "content-range content-type date etag expect expires from host if-match if-modified-since "
    "if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer "
    "transfer-encoding upgrade user-agent vary via warning www-authenticate method get status "
    "200_OK version HTTP/1.1 url public set-cookie keep-alive origin"
)
_WORDS = [word.replace("_", " ") for word in _ONE_BY_ONE.split()]
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
    "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request"
    "401 Unauthorized403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented"
    "503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 "
    "Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,"
    "application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age="
    "gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = (
    b"".join(len(word).to_bytes(4, "big") + word.encode() for word in _WORDS) + _TAIL.encode()
)


class HeaderWriter:
    """Codes header blocks of one direction."""

    def __init__(self) -> None:
        self._zlib = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, pairs: Sequence[tuple[str, str]]) -> bytes:
        """Return the compressed block; names are written in lower case."""
        block = bytearray(len(pairs).to_bytes(4, "big"))
        for name, value in pairs:
            for text in (name.lower().encode("latin-1"), value.encode("utf-8")):
                block += len(text).to_bytes(4, "big") + text
        return self._zlib.compress(bytes(block)) + self._zlib.flush(zlib.Z_SYNC_FLUSH)


class HeaderReader:
    """Reads header blocks of one direction.

    Args:
        max_bytes: of one block when it is no longer compressed.
        max_pairs: in one block.
    """

    def __init__(self, *, max_bytes: int, max_pairs: int) -> None:
        self._zlib = zlib.decompressobj(zdict=DICTIONARY)
        self._max_bytes, self._max_pairs = max_bytes, max_pairs

    def decode(self, block: bytes) -> Pairs:
        """Return names and values of a compressed block.

        Raises:
            SpdyError: it is none, or larger than allowed; the connection cannot go on.
        """
        try:
            plain = self._zlib.decompress(block, self._max_bytes + 1)
        except zlib.error as error:
            raise SpdyError("a header block is not compressed as it should be") from error
        if len(plain) > self._max_bytes or self._zlib.unconsumed_tail:
            raise SpdyError("a header block is too large")
        return self._pairs(memoryview(plain))

    def _pairs(self, plain: memoryview) -> Pairs:
        count, at = _number(plain, 0)
        if count > self._max_pairs:
            raise SpdyError("a header block has too many names")
        found: dict[str, str] = {}
        for _ in range(count):
            name, at = _text(plain, at)
            value, at = _text(plain, at)
            if not name or name != name.lower() or name in found:
                raise SpdyError("a header block has a bad name")
            found[name] = value
        if at != len(plain):
            raise SpdyError("a header block has more bytes than names")
        return tuple(found.items())


def _number(plain: memoryview, at: int) -> tuple[int, int]:
    if at + 4 > len(plain):
        raise SpdyError("a header block ends too early")
    return int.from_bytes(plain[at : at + 4], "big"), at + 4


def _text(plain: memoryview, at: int) -> tuple[str, int]:
    size, at = _number(plain, at)
    if at + size > len(plain):
        raise SpdyError("a header block ends too early")
    return bytes(plain[at : at + size]).decode("utf-8", "replace"), at + size
