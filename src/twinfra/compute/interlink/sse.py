"""Server-sent events, written and read: the few lines of the format that ``/ext/events`` needs.

Source: WHATWG HTML Living Standard, "Server-sent events" (9.2.6, parsing an event stream).
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

COMMENT = b": still here\n\n"


@dataclass(frozen=True)
class Frame:
    """One event of a stream."""

    data: str
    event: str = "message"
    id: str = ""


def encode(data: Any, *, event: str = "", event_id: str = "") -> bytes:
    """Spell one event; `data` goes as JSON on one line."""
    lines = [f"id: {event_id}"] if event_id else []
    lines += [f"event: {event}"] if event else []
    lines.append("data: " + json.dumps(data, separators=(",", ":")))
    return ("\n".join(lines) + "\n\n").encode()


async def frames(chunks: AsyncIterator[bytes]) -> AsyncIterator[Frame]:
    """Read events from the pieces of a stream; comments are skipped, the last id goes on."""
    rest, last_id = b"", ""
    data: list[str] = []
    event = ""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if not line:
                if data:
                    yield Frame("\n".join(data), event or "message", last_id)
                data, event = [], ""
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                data.append(value)
            elif name == "event":
                event = value
            elif name == "id":
                last_id = value
