"""Remote commands over WebSockets, as Kubernetes spells them: the query, the subprotocol, the pump.

The messages themselves are passed on untouched. Source: Kubernetes, kubelet
``server/remotecommand`` and KEP-4006 (``v5.channel.k8s.io``).
"""

import asyncio
from collections.abc import Sequence

from starlette.datastructures import QueryParams

from twinfra.compute.containers.keeper import channels
from twinfra.compute.containers.session import Session, Streams
from twinfra.compute.interlink.tunnel import Pipe
from twinfra.core.errors import InvalidRequest

PROTOCOL = "v5.channel.k8s.io"
MOST_WORDS = 4096


def query_of(
    uid: str, container: str, streams: Streams, command: Sequence[str] = ()
) -> list[tuple[str, str]]:
    """Return the query that asks for these streams."""
    query = [("uid", uid), ("container", container)]
    query += [("command", word) for word in command]
    for name in ("stdin", "stdout", "stderr", "tty"):
        query.append((name, "true" if getattr(streams, name) else "false"))
    return query


def streams_of(query: QueryParams) -> Streams:
    """Return the streams that a query asks for.

    Raises:
        InvalidRequest: a flag is neither true nor false, or no stream at all is wanted.
    """
    streams = Streams(
        stdin=_flag(query, "stdin"),
        stdout=_flag(query, "stdout"),
        stderr=_flag(query, "stderr") and not _flag(query, "tty"),
        tty=_flag(query, "tty"),
    )
    if not (streams.stdin or streams.stdout or streams.stderr):
        raise InvalidRequest("you must specify at least 1 of stdin, stdout, stderr")
    return streams


def command_of(query: QueryParams) -> tuple[str, ...]:
    """Return the command that a query names.

    Raises:
        InvalidRequest: it names none, or one that no process can be given.
    """
    words = tuple(query.getlist("command"))
    if not words or not words[0]:
        raise InvalidRequest("command must not be empty")
    if len(words) > MOST_WORDS or any("\0" in word for word in words):
        raise InvalidRequest("command holds what no process can be given")
    return words


def check_protocol(offered: Sequence[str]) -> None:
    """Return if the client speaks our subprotocol.

    Raises:
        InvalidRequest: it does not.
    """
    if PROTOCOL not in offered:
        raise InvalidRequest(f"the WebSocket must offer the subprotocol {PROTOCOL}")


async def serve(pipe: Pipe, session: Session, streams: Streams) -> None:
    """Carry messages between a client and a session until its Status is told or either is gone.

    First an empty message tells the client that the streams are there, as kubelets do.
    """
    lowest = channels.STDOUT if streams.stdout else channels.STDERR
    if not (streams.stdout or streams.stderr):
        lowest = channels.ERROR

    async def outward() -> None:
        await pipe.send(bytes([lowest]))
        while (piece := await session.receive()) is not None:
            await pipe.send(piece)

    async def inward() -> None:
        while (piece := await pipe.receive()) is not None:
            await session.send(piece)

    ways = [asyncio.create_task(outward()), asyncio.create_task(inward())]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)


def _flag(query: QueryParams, name: str) -> bool:
    spelled = query.get(name, "false").lower()
    if spelled in {"true", "1"}:
        return True
    if spelled in {"false", "0", ""}:
        return False
    raise InvalidRequest(f"{name} must be true or false")
