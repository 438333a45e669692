"""Replicas as a Metalink, which Rucio's download client asks for.

Source: RFC 5854, with the attributes that Rucio's client reads (``location domain priority``).
"""

from collections.abc import AsyncIterator
from typing import Any
from xml.sax.saxutils import escape, quoteattr

METALINK = "application/metalink4+xml"


async def metalink(files: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """Spell files with their replicas, as they come."""
    yield b'<?xml version="1.0" encoding="UTF-8"?>\n'
    yield b'<metalink xmlns="urn:ietf:params:xml:ns:metalink">\n'
    async for file in files:
        yield "".join(_lines(file)).encode()
    yield b"</metalink>\n"


def _lines(file: dict[str, Any]) -> list[str]:
    lines = [
        f" <file name={quoteattr(file['name'])}>\n",
        f"  <identity>{escape(file['scope'])}:{escape(file['name'])}</identity>\n",
    ]
    lines += [
        f'  <hash type="{kind}">{escape(file[kind])}</hash>\n'
        for kind in ("adler32", "md5")
        if file[kind]
    ]
    if file["bytes"] is not None:
        lines.append(f"  <size>{file['bytes']}</size>\n")
    lines += [
        f"  <url location={quoteattr(facts['rse'])} domain={quoteattr(facts['domain'])}"
        f' priority="{facts["priority"]}" client_extract="false">{escape(pfn)}</url>\n'
        for pfn, facts in file["pfns"].items()
    ]
    if file.get("parents"):
        named = "".join(f"   <did>{escape(did)}</did>\n" for did in file["parents"])
        lines.insert(1, f"  <parents>\n{named}  </parents>\n")
    return [*lines, " </file>\n"]
