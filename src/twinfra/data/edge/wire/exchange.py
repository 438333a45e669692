"""One request and its answer: what a handler holds.

``answer`` sends a short answer whole; ``begin``, ``write``/``send_file`` and ``end`` send a long
one with back-pressure. A HEAD gets the same head and no body.
"""

import asyncio
import os
import select
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

from twinfra.core.tasks import settled
from twinfra.data.edge.wire.body import Body
from twinfra.data.edge.wire.errors import ClientGone, HttpRefusal
from twinfra.data.edge.wire.head import Head

if TYPE_CHECKING:
    from twinfra.data.edge.wire.connection import Connection

Fields = Sequence[tuple[str, str]]
SERVER = "twinfra"
KEEP_UNREAD_BYTES = 1024 * 1024
SENDFILE_BYTES = 8 * 1024 * 1024
TEXT = "text/plain; charset=utf-8"
_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_date: tuple[int, str] = (0, "")


class Exchange:
    """One request and its answer.

    Attributes:
        head: of the request.
        body: of the request.
        status: of the answer, once it has begun; 0 before.
        sent_bytes: of the answer's body.
    """

    def __init__(self, connection: "Connection", head: Head, body: Body) -> None:
        self._connection = connection
        self.head = head
        self.body = body
        self.status = 0
        self.sent_bytes = 0
        self.finished = False
        self._chunked = False
        self._close = not head.keep_alive

    @property
    def begun(self) -> bool:
        """Whether the answer's head is out."""
        return self.status != 0

    @property
    def keeps_alive(self) -> bool:
        """Whether the connection may serve another request after this one."""
        return not self._close

    @property
    def client(self) -> str:
        """The client's address, for the log."""
        peer = self._connection.transport.get_extra_info("peername")
        return f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer)

    async def answer(
        self,
        status: int,
        body: bytes | str = b"",
        headers: Fields = (),
        *,
        content_type: str = TEXT,
    ) -> None:
        """Send a whole answer."""
        raw = body.encode() if isinstance(body, str) else body
        fields = [*headers]
        if raw:
            fields.append(("Content-Type", content_type))
        self._write_head(status, fields, len(raw), raw)
        self.finished = True
        await self._connection.drain()

    async def refuse(self, refusal: HttpRefusal) -> None:
        """Send the answer that a refusal is."""
        self._close = self._close or refusal.close
        text = "" if refusal.status in {204, 304} else refusal.text + "\n"
        await self.answer(refusal.status, text, refusal.headers)

    async def begin(self, status: int, headers: Fields = (), length: int | None = None) -> None:
        """Send the head of an answer; its body follows.

        Args:
            status: of the answer.
            headers: besides the usual ones.
            length: of the body in bytes; none: it is sent in chunks.
        """
        self._chunked = length is None and not self.head.http10
        if length is None and self.head.http10:
            self._close = True
        self._write_head(status, headers, length, b"")
        await self._connection.drain()

    async def write(self, data: bytes | memoryview) -> None:
        """Send a part of the body; waits while the client is slow.

        Raises:
            ClientGone: the client left.
        """
        if self.head.method == "HEAD" or not data:
            return
        self.sent_bytes += len(data)
        if self._chunked:
            data = b"".join((b"%x\r\n" % len(data), data, b"\r\n"))
        self._connection.transport.write(data)
        await self._connection.drain()

    async def send_file(
        self, descriptor: int, offset: int, count: int, *, pool: Executor, block_bytes: int
    ) -> None:
        """Send `count` bytes of an open file from `offset`; memory does not grow with it.

        Raises:
            ClientGone: the client left, or the file turned out shorter.
        """
        if self.head.method == "HEAD" or count == 0:
            return
        connection = self._connection
        if connection.transport.get_extra_info("sslcontext") is None and not self._chunked:
            await connection.drain_all()
            raw = connection.transport.get_extra_info("socket")
            await _sendfile(pool, raw.fileno(), descriptor, offset, count)
            self.sent_bytes += count
            return
        loop = asyncio.get_running_loop()
        ahead = loop.run_in_executor(pool, _read(descriptor, offset, min(count, block_bytes)))
        try:
            while count > 0:
                data = await ahead
                if not data:
                    raise ClientGone("the file became shorter while it was sent")
                offset, count = offset + len(data), count - len(data)
                if count > 0:
                    ahead = loop.run_in_executor(
                        pool, _read(descriptor, offset, min(count, block_bytes))
                    )
                await self.write(data)
        finally:
            await settled(ahead)  # the descriptor is closed by whoever opened it

    async def end(self) -> None:
        """Finish an answer that was begun."""
        if self._chunked and self.head.method != "HEAD":
            self._connection.transport.write(b"0\r\n\r\n")
        self.finished = True
        await self._connection.drain()

    def _write_head(self, status: int, headers: Fields, length: int | None, body: bytes) -> None:
        self.status = status
        if not self.body.ended:
            left = None if self.body.length is None else self.body.length - self.body.received
            waits = self.head.expects_continue and not self.body.started
            self._close = self._close or waits or left is None or left > KEEP_UNREAD_BYTES
        lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}", f"Date: {_now()}"]
        lines.append(f"Server: {SERVER}")
        lines.extend(f"{name}: {_plain(value)}" for name, value in headers)
        if length is not None and status not in {204, 304} and status >= 200:
            lines.append(f"Content-Length: {length}")
        elif self._chunked:
            lines.append("Transfer-Encoding: chunked")
        if self._close:
            lines.append("Connection: close")
        elif self.head.http10:
            lines.append("Connection: keep-alive")
        raw = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        if body and self.head.method != "HEAD" and status not in {204, 304}:
            self.sent_bytes += len(body)
            raw += body
        self._connection.transport.write(raw)


def simple_answer(refusal: HttpRefusal) -> bytes:
    """Return the bytes of an answer to what is no request; the connection is shut after it."""
    text = refusal.text + "\n"
    phrase = _PHRASES.get(refusal.status, "Unknown")
    return (
        f"HTTP/1.1 {refusal.status} {phrase}\r\nDate: {_now()}\r\nServer: {SERVER}\r\n"
        f"Content-Type: {TEXT}\r\nContent-Length: {len(text)}\r\nConnection: close\r\n\r\n{text}"
    ).encode("latin-1", "replace")


def _plain(value: str) -> str:
    """Return `value` without what would end the header line."""
    if "\r" in value or "\n" in value or "\0" in value:
        return value.replace("\r", " ").replace("\n", " ").replace("\0", " ")
    return value


def _now() -> str:
    global _date  # noqa: PLW0603 - one cached line a second for the whole process
    second = int(time.time())
    if _date[0] != second:
        _date = (second, formatdate(second, usegmt=True))
    return _date[1]


def _read(descriptor: int, offset: int, count: int) -> Callable[[], bytes]:
    return lambda: os.pread(descriptor, count, offset)


async def _sendfile(pool: Executor, door: int, descriptor: int, offset: int, count: int) -> None:
    """Send a file over a plain socket from a thread; a cancelled one is woken by shutting it."""
    own = socket.socket(fileno=os.dup(door))
    work = asyncio.get_running_loop().run_in_executor(
        pool, _sendfile_in_thread, own.fileno(), descriptor, offset, count
    )
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        own.shutdown(socket.SHUT_RDWR)
        raise
    finally:
        await settled(work)
        own.close()


def _sendfile_in_thread(door: int, descriptor: int, offset: int, count: int) -> None:
    poll = select.poll()
    poll.register(door, select.POLLOUT)
    while count > 0:
        try:
            sent = os.sendfile(door, descriptor, offset, min(count, SENDFILE_BYTES))
        except BlockingIOError:
            if not poll.poll(60_000):
                raise ClientGone("the client takes nothing") from None
            continue
        if sent == 0:
            raise ClientGone("the file became shorter while it was sent")
        offset, count = offset + sent, count - sent
