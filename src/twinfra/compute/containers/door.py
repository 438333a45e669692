"""Speaks to a keeper's Unix socket: the client of `keeper/door.py`.

It must not read the job's files: its neighbour `handle.py` does.
"""

import asyncio
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twinfra.compute.containers.keeper import journal
from twinfra.compute.containers.session import KeeperSession
from twinfra.core.errors import (
    InvalidRequest,
    NotFound,
    RateLimited,
    TwinfraError,
    Unavailable,
    UpstreamFault,
)

_ANSWER_BYTES = 4 * 1024 * 1024
_TIMEOUT_S = 10.0
_REFUSALS: Mapping[str, type[TwinfraError]] = {
    "invalid": InvalidRequest,
    "not-found": NotFound,
    "rate-limited": RateLimited,
    "unavailable": Unavailable,
}


def _open(jobdir: Path, timeout_s: float) -> socket.socket:
    """Connect by way of a directory descriptor: socket addresses hold 107 characters only."""
    try:
        folder = os.open(jobdir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable("the job's directory is gone") from error
    door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        door.settimeout(timeout_s)
        door.connect(f"/proc/self/fd/{folder}/{journal.SOCKET}")
    except OSError as error:
        door.close()
        raise Unavailable("the keeper does not answer") from error
    finally:
        os.close(folder)
    return door


async def ask(
    jobdir: Path, request: Mapping[str, Any], *, timeout_s: float | None = _TIMEOUT_S
) -> dict[str, Any]:
    """Send one request and return the answer.

    Raises:
        Unavailable: no keeper, or it went away before it answered (retryable).
        UpstreamFault: it answered that it cannot.
    """
    door = _open(jobdir, _TIMEOUT_S)
    door.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=door, limit=_ANSWER_BYTES)
    try:
        async with asyncio.timeout(timeout_s):
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
    except (OSError, TimeoutError) as error:
        raise Unavailable("the keeper did not answer") from error
    finally:
        writer.close()
    return _parse(line)


def _parse(line: bytes) -> dict[str, Any]:
    if not line.endswith(b"\n"):
        raise Unavailable("the keeper went away before it answered")
    answer: dict[str, Any] = json.loads(line)
    if not answer.get("ok"):
        raise UpstreamFault(f"the keeper refused: {answer.get('error', '')}")
    return answer


async def join(jobdir: Path, request: Mapping[str, Any]) -> KeeperSession:
    """Have the keeper run a command in a container, or join its process.

    Args:
        jobdir: of the pod.
        request: by `session.exec_request` or `session.attach_request`.

    Raises:
        NotFound: the pod has no such container.
        InvalidRequest: no such command, or the container has no input or terminal.
        RateLimited: too many sessions with this pod at once (retryable).
        Unavailable: no keeper, or the container does not run (retryable).
    """
    door = _open(jobdir, _TIMEOUT_S)
    door.setblocking(False)
    reader, writer = await asyncio.open_unix_connection(sock=door, limit=_ANSWER_BYTES)
    try:
        await begin(reader, writer, request)
    except BaseException:
        writer.close()
        raise
    return KeeperSession(reader, writer)


async def begin(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Mapping[str, Any]
) -> None:
    """Ask for a session over any byte stream to a keeper's socket; raises as `join`."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            writer.write(json.dumps(request).encode() + b"\n")
            await writer.drain()
            line = await reader.readline()
    except (OSError, TimeoutError) as error:
        raise Unavailable("the keeper did not answer") from error
    try:
        _parse(line)
    except UpstreamFault as error:
        refused = _REFUSALS.get(str(json.loads(line).get("code")))
        if refused is None:
            raise
        raise refused(error.detail.partition(": ")[2]) from error


async def connect(jobdir: Path, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Have the keeper open a connection within the pod and hand it over.

    Raises:
        Unavailable: no keeper, or nothing listens there (retryable).
    """
    inner = await asyncio.to_thread(_receive, jobdir, port)
    inner.setblocking(False)
    return await asyncio.open_connection(sock=inner)


def _receive(jobdir: Path, port: int) -> socket.socket:
    request = {"do": "connect", "port": port, "descriptor": True}
    with _open(jobdir, _TIMEOUT_S) as door:
        try:
            door.sendall(json.dumps(request).encode() + b"\n")
            line, descriptors, _, _ = socket.recv_fds(door, _ANSWER_BYTES, 1)
        except OSError as error:
            raise Unavailable("the keeper did not answer") from error
    for descriptor in descriptors:
        return socket.socket(fileno=descriptor)
    try:
        _parse(line)
    except UpstreamFault as error:
        raise Unavailable(f"port {port} of the pod: {error.detail}") from error
    raise Unavailable("the keeper handed over no connection")
