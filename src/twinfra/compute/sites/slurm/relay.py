"""Reaches the keeper of a job on another machine: ``srun --overlap`` runs a relay beside it.

The relay is ``keeper.pyz --relay``; what it hands back is lines of base64 (``keeper/pipe.py``).
It must not know what is asked of the keeper.

Source: srun(1), ``--overlap``, ``--jobid``.
"""

import asyncio
import base64
import binascii
import socket
from contextlib import suppress
from pathlib import Path
from typing import cast

from twinfra.compute.sites.slurm.commands import SlurmCommands, end_process
from twinfra.compute.sites.slurm.script import KEEPER
from twinfra.core.errors import Unavailable

_LINE_BYTES = 256 * 1024
_CHUNK_BYTES = 48 * 1024
_THERE_WITHIN_S = 60.0
_CLOSED = (OSError, RuntimeError)
"""What a write to an end that is closed raises; the second by uvloop."""

ByteStreams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relays:
    """Connections to keepers through Slurm; each is a process that ends with its connection.

    Args:
        commands: run srun.
        python: interpreter at the nodes.
    """

    def __init__(self, commands: SlurmCommands, python: Path) -> None:
        self._commands, self._python = commands, python
        self._pumps: set[asyncio.Task[None]] = set()

    async def open(self, native_id: str, job_dir: Path) -> ByteStreams:
        """Return a byte stream to the door of a running job's keeper.

        Raises:
            Unavailable: it cannot be reached (retryable).
        """
        process = await self._start(native_id, job_dir)
        try:
            async with asyncio.timeout(_THERE_WITHIN_S):
                line = await cast("asyncio.StreamReader", process.stdout).readline()
        except BaseException as error:
            await end_process(process)
            if isinstance(error, TimeoutError | ValueError):
                raise Unavailable("the job's node did not answer") from error
            raise
        if line != b"\n":
            await end_process(process)
            raise Unavailable("the job's keeper cannot be reached through Slurm")
        ours, theirs = socket.socketpair()
        pump = asyncio.create_task(_pump(process, await asyncio.open_connection(sock=theirs)))
        self._pumps.add(pump)
        pump.add_done_callback(self._pumps.discard)
        return await asyncio.open_connection(sock=ours, limit=_LINE_BYTES)

    async def close(self) -> None:
        """End all connections."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _start(self, native_id: str, job_dir: Path) -> asyncio.subprocess.Process:
        argv = self._commands.argv(
            "srun", f"--jobid={native_id}", "--overlap", "--quiet", "--nodes=1", "--ntasks=1",
            "--mem=0", "--gres=none", "--mpi=none", "--chdir=/", str(self._python),
            "-I", "-S", "-B", f"{job_dir}/{KEEPER}", "--relay", str(job_dir),
        )  # fmt: skip
        try:
            return await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._commands.environment,
                start_new_session=True,
                limit=_LINE_BYTES,
            )
        except OSError as error:
            raise Unavailable(f"srun cannot be run: {error.strerror}") from error


async def _pump(process: asyncio.subprocess.Process, inner: ByteStreams) -> None:
    """Move bytes both ways until the relay ends or nobody wants them; then end the relay."""
    reader, writer = inner
    sending = asyncio.create_task(_send(reader, cast("asyncio.StreamWriter", process.stdin)))
    try:
        await _receive(cast("asyncio.StreamReader", process.stdout), writer)
    finally:
        sending.cancel()
        writer.close()
        await asyncio.gather(sending, return_exceptions=True)
        await end_process(process)


async def _send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(*_CLOSED):
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    with suppress(*_CLOSED):
        writer.close()


async def _receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(*_CLOSED, ValueError, binascii.Error):
        while line := await reader.readline():
            writer.write(base64.b64decode(line, validate=False))
            await writer.drain()
