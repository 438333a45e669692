"""A command in a container, or the container's own process, joined from outside.

What goes to and fro are messages whose first byte is a channel, as in `keeper/channels.py`: those
of ``v5.channel.k8s.io``. It must not know how the keeper is reached: any byte stream will do.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from twinfra.compute.containers.keeper import channels

__all__ = ["KeeperSession", "Session", "Streams", "attach_request", "exec_request"]

LOST = "the container's keeper went away"
_READ_BYTES = 64 * 1024


@dataclass(frozen=True)
class Streams:
    """Which streams are wanted; with a terminal, standard error is part of standard output."""

    stdin: bool = False
    stdout: bool = True
    stderr: bool = True
    tty: bool = False


class Session(Protocol):
    """A joined process; closing it ends a command, and only leaves a container's own process."""

    async def send(self, piece: bytes) -> None:
        """Send one message, channel first."""
        ...

    async def receive(self) -> bytes | None:
        """Return the next message; the last is a Status on channel 3, then None."""
        ...

    async def close(self) -> None:
        """Leave."""
        ...


class KeeperSession:
    """A `Session` over a byte stream to a keeper that has accepted the request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = channels.Decoder()
        self._waiting: list[bytes] = []
        self._over = False

    async def send(self, piece: bytes) -> None:
        """Send one message, channel first; one to a process that has ended goes nowhere."""
        if not piece:
            return
        channel, data = piece[0], piece[1:]
        with suppress(OSError):
            for at in range(0, max(1, len(data)), channels.PIECE_BYTES):
                part = data[at : at + channels.PIECE_BYTES]
                self._writer.write(channels.frame(channel, part))
                await self._writer.drain()

    async def receive(self) -> bytes | None:
        """Return the next message; a Status always comes, even if the keeper could send none."""
        while not self._waiting:
            if self._over:
                return None
            try:
                data = await self._reader.read(_READ_BYTES)
                found = self._decoder.feed(data)
            except (OSError, channels.FrameError):
                data, found = b"", []
            if not data:
                self._end()
                return bytes([channels.ERROR]) + channels.broken(LOST)
            self._waiting += [bytes([channel]) + body for channel, body in found]
        piece = self._waiting.pop(0)
        if piece[0] == channels.ERROR:
            self._end()
        return piece

    def _end(self) -> None:
        """Nothing follows a Status: let go of the connection, whether or not anybody closes."""
        self._over, self._waiting = True, []
        self._writer.close()

    async def close(self) -> None:
        """Close the connection to the keeper."""
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                await self._writer.wait_closed()


def exec_request(container: str, command: tuple[str, ...], streams: Streams) -> Mapping[str, Any]:
    """Return what a keeper is asked to run a command; frames follow its answer."""
    asked = {"do": "exec", "container": container, "command": list(command)}
    return {**asked, **asdict(streams)}


def attach_request(container: str, streams: Streams) -> Mapping[str, Any]:
    """Return what a keeper is asked to join a container's own process."""
    return {"do": "attach", "container": container, **asdict(streams)}
