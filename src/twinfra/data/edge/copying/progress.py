"""How far a copy is, and how its orderer is told: performance markers, then one last line."""

import asyncio
import time
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

from twinfra.core.errors import shorten
from twinfra.core.tasks import settled
from twinfra.core.telemetry import get_logger
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.edge.wire.exchange import Exchange

log = get_logger(__name__)
MARKERS = "text/perf-marker-stream"


class CopyFailed(Exception):
    """The copy cannot succeed; the text is for whoever ordered it."""


@dataclass
class Progress:
    """How far a copy is.

    Attributes:
        bytes_done: moved so far.
        bytes_total: to move, where known.
        connections: ``tcp:host:port`` of the peer's ends.
    """

    bytes_done: int = 0
    bytes_total: int | None = None
    connections: list[str] = field(default_factory=list)

    def marker(self, moment_s: int) -> str:
        """Return one performance marker."""
        lines = [
            "Perf Marker",
            f"    Timestamp: {moment_s}",
            "    Stripe Index: 0",
            f"    Stripe Bytes Transferred: {self.bytes_done}",
            "    Total Stripe Count: 1",
        ]
        if self.connections:
            lines.append(f"    RemoteConnections: {','.join(self.connections)}")
        return "\n".join([*lines, "End", ""])


async def run_with_markers(
    exchange: Exchange,
    progress: Progress,
    work: Coroutine[Any, Any, None],
    *,
    interval_s: float,
) -> str:
    """Answer 202, do `work`, tell how far it is, and how it ended; returns the last line.

    The first marker goes out at once. If the orderer leaves, the work is cancelled.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        await exchange.begin(202, [("Content-Type", MARKERS)])
        while True:
            await exchange.write(progress.marker(int(time.time())).encode())
            await asyncio.wait([task], timeout=interval_s)
            if task.done():
                break
        if progress.bytes_done:
            await exchange.write(progress.marker(int(time.time())).encode())
        last = outcome(task)
        await exchange.write(f"{last}\n".encode())
        await exchange.end()
    except BaseException:
        task.cancel()
        await settled(task)
        raise
    return last


def outcome(task: "asyncio.Task[None]") -> str:
    """Return the last line for work that is done."""
    if task.cancelled():
        return "failure: the storage is being stopped"
    error = task.exception()
    if error is None:
        return "success: Created"
    if isinstance(error, CopyFailed):
        return f"failure: {shorten(str(error))}"
    if isinstance(error, HttpRefusal):
        return f"failure: {shorten(error.text)}"
    if isinstance(error, OSError):
        return f"failure: {error.strerror or 'the file system failed'}"
    log.error("copy_crashed", exc_info=error)
    return "failure: this storage is at fault; its log has the cause"
