"""One request head, parsed strictly by llhttp; the body never reaches the parser.

Whatever two HTTP parsers might read differently (lengths twice, folded lines, bare line feeds) is
refused here, so that no request hides in another one.
"""

from dataclasses import dataclass

import httptools

from twinfra.data.edge.wire.errors import HttpRefusal

END = b"\r\n\r\n"
SINGLE = frozenset({"host", "content-length", "authorization", "destination", "source", "range"})


@dataclass(slots=True)
class Head:
    """The request line and headers of one request.

    Attributes:
        method: in upper case.
        target: as sent.
        headers: lower-case name to value; fields sent more than once are joined by commas.
        keep_alive: the connection may serve another request.
        http10: the client speaks HTTP/1.0, which knows no chunks.
        length: of the body in bytes; none with `chunked`.
        chunked: the body comes in chunks.
    """

    method: str
    target: bytes
    headers: dict[str, str]
    keep_alive: bool
    http10: bool
    length: int | None
    chunked: bool

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for leave to send its body (RFC 9110 §10.1.1)."""
        return self.headers.get("expect", "").lower() == "100-continue" and not self.http10

    @property
    def has_body(self) -> bool:
        """Whether body bytes follow the head."""
        return self.chunked or bool(self.length)


class _Collector:
    """What httptools calls while it reads a head."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.begun = 0
        self.complete = False

    def on_message_begin(self) -> None:
        self.begun += 1

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


def parse_head(raw: bytes) -> Head:
    """Return the head that `raw` is, which ends with the empty line.

    Raises:
        HttpRefusal: 400 for what is no head, 501 for an unknown method or transfer coding.
    """
    collector = _Collector()
    parser = httptools.HttpRequestParser(collector)
    try:
        parser.feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass  # an offer to change the protocol may be ignored (RFC 9110 §7.8)
    except httptools.HttpParserInvalidMethodError as error:
        raise HttpRefusal(501, "this method is not known", close=True) from error
    except httptools.HttpParserError as error:
        raise HttpRefusal(400, "this is not HTTP", close=True) from error
    if not collector.complete or collector.begun != 1:
        raise HttpRefusal(400, "this is not one HTTP request head", close=True)
    headers = _joined(collector.fields)
    http10 = parser.get_http_version() == "1.0"
    if not http10 and "host" not in headers:
        raise HttpRefusal(400, "HTTP/1.1 needs a Host", close=True)
    coding = headers.get("transfer-encoding", "").lower()
    if coding and (coding != "chunked" or http10):
        raise HttpRefusal(501, "only the transfer coding 'chunked' is known", close=True)
    connection = {word.strip() for word in headers.get("connection", "").lower().split(",")}
    return Head(
        method=parser.get_method().decode("ascii"),
        target=collector.target,
        headers=headers,
        keep_alive="keep-alive" in connection if http10 else "close" not in connection,
        http10=http10,
        length=None if coding else int(headers.get("content-length", "0")),
        chunked=bool(coding),
    )


def _joined(fields: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in fields:
        name = raw_name.decode("ascii").lower()
        value = raw_value.decode("latin-1").strip()
        if name not in headers:
            headers[name] = value
        elif name in SINGLE:
            raise HttpRefusal(400, f"{name} stands twice", close=True)
        else:
            headers[name] += ", " + value
    return headers
