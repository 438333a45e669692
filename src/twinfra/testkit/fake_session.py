"""Sessions of the fake site: commands are processes of this machine, without a terminal."""

import asyncio
import subprocess
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any

from twinfra.compute.containers.keeper import channels
from twinfra.compute.containers.session import Streams

LOOK_S = 0.01
PIECE_BYTES = 4096


class FakeSession:
    """A `Session` whose messages a test, or a process, puts in."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        """What the other side has sent."""
        self._told: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._work: set[asyncio.Task[None]] = set()
        self._process: asyncio.subprocess.Process | None = None

    def tell(self, channel: int, data: bytes) -> None:
        """Let the other side receive a message; a Status is the last."""
        self._told.put_nowait(bytes([channel]) + data)
        if channel == channels.ERROR:
            self._told.put_nowait(None)

    async def send(self, piece: bytes) -> None:
        """Take a message; input goes to the process, if there is one."""
        self.sent.append(piece)
        stdin = self._process.stdin if self._process is not None else None
        if stdin is None or not piece:
            return
        with suppress(OSError):
            if piece[0] == channels.STDIN:
                stdin.write(piece[1:])
                await stdin.drain()
            elif piece == bytes([channels.CLOSE, channels.STDIN]):
                stdin.close()

    async def receive(self) -> bytes | None:
        """Return the next message."""
        return await self._told.get()

    async def close(self) -> None:
        """End the process, if it still runs."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        for task in list(self._work):
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)

    async def run(self, command: Sequence[str], streams: Streams) -> None:
        """Begin a process of this machine and carry its streams."""
        self._process = await asyncio.create_subprocess_exec(
            *command,
            stdin=subprocess.PIPE if streams.stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._begin(self._carry(self._process, streams))

    def follow(self, log: Callable[[], bytes], over: Callable[[], bool]) -> None:
        """Tell what is added to a log from now on, until all is over."""
        self._begin(self._follow(log, over, len(log())))

    async def _carry(self, process: asyncio.subprocess.Process, streams: Streams) -> None:
        async def read(source: asyncio.StreamReader | None, channel: int, *, wanted: bool) -> None:
            while source is not None and (piece := await source.read(PIECE_BYTES)):
                if wanted:
                    self.tell(channel, piece)

        await asyncio.gather(
            read(process.stdout, channels.STDOUT, wanted=streams.stdout),
            read(process.stderr, channels.STDERR, wanted=streams.stderr),
        )
        self.tell(channels.ERROR, channels.ended(await process.wait()))

    async def _follow(
        self, log: Callable[[], bytes], over: Callable[[], bool], told_bytes: int
    ) -> None:
        while True:
            ended = over()
            if more := log()[told_bytes:]:
                told_bytes += len(more)
                self.tell(channels.STDOUT, more)
            if ended:
                self.tell(channels.ERROR, channels.ended(0))
                return
            await asyncio.sleep(LOOK_S)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
