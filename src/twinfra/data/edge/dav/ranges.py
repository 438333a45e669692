"""Byte ranges of a GET; pure. Source: RFC 9110 §14."""

import re
from dataclasses import dataclass

from twinfra.data.edge.wire.errors import HttpRefusal

_ONE = re.compile(r"(\d{0,18})-(\d{0,18})")


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of a file.

    Attributes:
        start: offset of its first byte.
        length: in bytes, at least one.
    """

    start: int
    length: int

    def field(self, size: int) -> str:
        """Return the value of ``Content-Range`` for it in a file of `size` bytes."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


def parse_ranges(field: str, size: int, limit: int) -> list[Span] | None:
    """Return the spans that a ``Range`` field asks for, cut to the file.

    Args:
        field: its value.
        size: of the file in bytes.
        limit: of ranges in one request.

    Returns:
        None where the field is to be ignored: another unit, or not of its form.

    Raises:
        HttpRefusal: 416 when no range lies within the file, 400 when there are too many.
    """
    unit, _, wanted = field.partition("=")
    if unit.strip().lower() != "bytes":
        return None
    pieces = [piece.strip() for piece in wanted.split(",") if piece.strip()]
    if len(pieces) > limit:
        raise HttpRefusal(400, f"over {limit} ranges in one request")
    spans = []
    for piece in pieces:
        found = _ONE.fullmatch(piece)
        if found is None or piece == "-":
            return None
        first, last = found[1], found[2]
        if first and last and int(first) > int(last):
            return None
        span = _span(first, last, size)
        if span is not None:
            spans.append(span)
    if not pieces:
        return None
    if not spans:
        raise HttpRefusal(416, headers=[("Content-Range", f"bytes */{size}")])
    if sum(span.length for span in spans) > 2 * size:
        return None  # overlapping without measure: the whole file is less to send
    return spans


def _span(first: str, last: str, size: int) -> Span | None:
    if not first:
        length = min(int(last), size)
        return Span(size - length, length) if length else None
    start = int(first)
    if start >= size:
        return None
    end = min(int(last), size - 1) if last else size - 1
    return Span(start, end - start + 1)
