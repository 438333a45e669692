"""Reads a WebDAV multi-status answer as it comes; refuses everything that XML can do besides.

No document type, so no entities; depth and size are bounded. Knows only the properties that
`Entry` has.
Source: RFC 4918 §13, §14.24; RFC 9110 for dates.
"""

from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit
from xml.parsers.expat import ExpatError, ParserCreate

from twinfra.core.errors import UpstreamFault
from twinfra.data.storage.model import Entry

DAV = "DAV: "
MAX_DEPTH = 16
MAX_TEXT_CHARS = 64 * 1024
ASKED = (
    b'<?xml version="1.0" encoding="utf-8"?><D:propfind xmlns:D="DAV:"><D:prop>'
    b"<D:resourcetype/><D:getcontentlength/><D:getlastmodified/></D:prop></D:propfind>"
)


class MultiStatus:
    """Fed with bytes, gives the entries that are complete.

    Args:
        base: path of the storage's root in the server's URLs, cut off from every href.
    """

    def __init__(self, base: str = "") -> None:
        self._base = base.rstrip("/")
        self._parser = ParserCreate(namespace_separator=" ")
        self._parser.buffer_text = True
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._depth = 0
        self._text: list[str] = []
        self._text_chars = 0
        self._found: dict[str, str] = {}
        self._ready: list[Entry] = []

    def feed(self, block: bytes, *, last: bool = False) -> Iterator[Entry]:
        """Take `block` and give what is complete now.

        Raises:
            UpstreamFault: this is no multi-status, or one with a document type.
        """
        try:
            self._parser.Parse(block, last)
        except ExpatError as error:
            raise UpstreamFault("the storage's listing is not XML") from error
        ready, self._ready = self._ready, []
        yield from ready

    def _refuse(self, *_: object) -> None:
        raise UpstreamFault("the storage's listing has a document type")

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise UpstreamFault("the storage's listing is nested too deep")
        self._text, self._text_chars = [], 0
        if name == DAV + "response":
            self._found = {}
        elif name == DAV + "collection":
            self._found["collection"] = "yes"

    def _characters(self, text: str) -> None:
        self._text_chars += len(text)
        if self._text_chars > MAX_TEXT_CHARS:
            raise UpstreamFault("the storage's listing has a name beyond all measure")
        self._text.append(text)

    def _end(self, name: str) -> None:
        self._depth -= 1
        text = "".join(self._text).strip()
        self._text, self._text_chars = [], 0
        key = name.removeprefix(DAV)
        if key in {"href", "getcontentlength", "getlastmodified"} and text:
            self._found.setdefault(key, text)
        elif key == "response" and "href" in self._found:
            self._ready.append(self._entry())

    def _entry(self) -> Entry:
        path = unquote(urlsplit(self._found["href"]).path)
        path = path.removeprefix(self._base).rstrip("/") or "/"
        is_directory = "collection" in self._found
        size = self._found.get("getcontentlength", "0")
        return Entry(
            path,
            "directory" if is_directory else "file",
            int(size) if size.isdecimal() and not is_directory else 0,
            http_date(self._found.get("getlastmodified")),
        )


def http_date(text: str | None) -> datetime | None:
    """Return the moment of an HTTP date, or none if there is none."""
    if not text:
        return None
    try:
        return parsedate_to_datetime(text)
    except ValueError:
        return None
