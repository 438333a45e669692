"""One client connection: finds heads and bodies in the byte stream, one request at a time.

Requests sent ahead wait in the kernel or in the staging buffer until the answer before them is out.
Who answers is the door's business; how an answer is written is the exchange's.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Protocol, cast

from twinfra.data.edge.wire.body import Body
from twinfra.data.edge.wire.chunks import ChunkDecoder
from twinfra.data.edge.wire.errors import ClientGone, HttpRefusal
from twinfra.data.edge.wire.exchange import Exchange, simple_answer
from twinfra.data.edge.wire.head import END, parse_head
from twinfra.data.edge.wire.limits import WireLimits

WRITE_HIGH_BYTES = 1024 * 1024
UNSENT_IN_KERNEL_BYTES = 512 * 1024
TCP_NOTSENT_LOWAT = 25  # Linux' number; the socket module does not name it
SWALLOW_BYTES = 64 * 1024 * 1024
SWALLOW_WITHIN_S = 2.0
NEVER = float("inf")


class Door(Protocol):
    """What a connection asks of the server that accepted it."""

    limits: WireLimits

    def opened(self, connection: "Connection") -> bool:
        """Take note of a connection; false: there are too many."""
        ...

    def closed(self, connection: "Connection") -> None:
        """Forget a connection."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether no further request is to be taken."""
        ...

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request; raises `ClientGone` when the client left."""
        ...


class Connection(asyncio.BufferedProtocol):
    """One accepted connection."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._staging = bytearray(door.limits.max_head_bytes)
        self._have = 0
        self._direct = False
        self._head_begun = False
        self._expects = False
        self._body: Body | None = None
        self._decoder: ChunkDecoder | None = None
        self._task: asyncio.Task[None] | None = None
        self._deadline = NEVER
        self._unsent_bytes = 0
        self._reading = True
        self._writable: asyncio.Future[None] | None = None
        self.lost = False
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)

    # ------------------------------------------------------------- asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for a request."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)
        raw = transport.get_extra_info("socket")
        if raw is not None:
            with suppress(OSError):  # not every family of sockets has it
                raw.setsockopt(socket.IPPROTO_TCP, TCP_NOTSENT_LOWAT, UNSENT_IN_KERNEL_BYTES)
        self._deadline = self._loop.time() + self._door.limits.head_timeout_s
        if not self._door.opened(self):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of everything; work on a request is cancelled."""
        del exc
        self.lost = True
        if self._body is not None:
            self._body.fail(ClientGone("the client went away"))
        self.resume_writing()
        if self._task is not None:
            self._task.cancel()
        self._door.closed(self)

    def eof_received(self) -> bool | None:
        """Close when the client has closed: a half-open client cannot be told from a lost one."""
        return None

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go: straight into a body's block where that can be."""
        del sizehint
        body = self._body
        if body is not None and self._decoder is None and not body.ended and not self._have:
            view = body.room()
            if view is not None:
                self._direct = True
                return view
        self._direct = False
        return memoryview(self._staging)[self._have :]

    def buffer_updated(self, nbytes: int) -> None:
        """Work on what has come."""
        if self._direct:
            body = cast("Body", self._body)
            body.filled(nbytes)
            self._deadline = (
                NEVER if body.ended else self._loop.time() + self._door.limits.body_idle_timeout_s
            )
            if not body.ended and body.room() is None:
                self._pause()
            return
        self._have += nbytes
        try:
            self._advance()
        except HttpRefusal as refusal:
            self._refuse(refusal)

    def pause_writing(self) -> None:
        """Let writers wait."""
        if self._writable is None:
            self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        """Let writers go on."""
        waiting, self._writable = self._writable, None
        if waiting is not None and not waiting.done():
            waiting.set_result(None)

    # ------------------------------------------------------------- reading

    def _advance(self) -> None:
        """Work on the staging buffer until it holds nothing that can be worked on now."""
        if self._body is not None and not self._body.ended:
            self._pump(self._body)
        elif self._task is None:
            self._next_head()
        if self._have == len(self._staging):
            self._pause()

    def _next_head(self) -> None:
        now = self._loop.time()
        end = self._staging.find(END, 0, self._have)
        if end < 0:
            if self._have == len(self._staging):
                raise HttpRefusal(431, "the request head is too long", close=True)
            if self._have and not self._head_begun:
                self._head_begun = True
                self._deadline = now + self._door.limits.head_timeout_s
            return
        raw = bytes(self._staging[: end + len(END)])
        self._drop(len(raw))
        self._head_begun = False
        head = parse_head(raw)
        self._expects = head.expects_continue
        limits = self._door.limits
        body = Body(
            head.length, limits.block_bytes, start=self._start_body, resume=self._resume_body
        )
        self._body = body
        self._decoder = ChunkDecoder() if head.chunked else None
        self._deadline = NEVER if body.ended else now + limits.body_idle_timeout_s
        exchange = Exchange(self, head, body)
        self._task = self._loop.create_task(self._serve(exchange))
        if not body.ended:
            self._pump(body)

    def _pump(self, body: Body) -> None:
        """Move staged bytes into the body, as far as it has room."""
        self._deadline = self._loop.time() + self._door.limits.body_idle_timeout_s
        taken = 0
        staged = memoryview(self._staging)[: self._have]
        if self._decoder is None:
            taken = body.put(staged)
        else:
            while not self._decoder.ended:
                drop, count = self._decoder.step(staged[taken:])
                taken += drop
                if count:
                    moved = body.put(staged[taken : taken + count])
                    self._decoder.took(moved)
                    taken += moved
                if not drop and not (count and moved):
                    break
            if self._decoder.ended:
                body.end()
        staged.release()
        self._drop(taken)
        if body.ended:
            self._deadline = NEVER
        elif body.room() is None:
            self._pause()

    def _drop(self, count: int) -> None:
        if count:
            rest = self._have - count
            self._staging[:rest] = self._staging[count : self._have]
            self._have = rest

    def _pause(self) -> None:
        if self._reading and not self.transport.is_closing():
            self._reading = False
            self.transport.pause_reading()

    def _resume(self) -> None:
        if not self._reading and not self.transport.is_closing():
            self._reading = True
            self.transport.resume_reading()

    def _start_body(self) -> None:
        if self._expects and self._body is not None and not self._body.received:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _resume_body(self) -> None:
        if self._body is None or self._body.ended:
            return
        if self._have:
            try:
                self._pump(self._body)
            except HttpRefusal as refusal:
                self._body.fail(refusal)
                return
        if not self._body.ended and self._body.room() is not None:
            self._deadline = self._loop.time() + self._door.limits.body_idle_timeout_s
            self._resume()

    def _refuse(self, refusal: HttpRefusal) -> None:
        """Answer what is no proper HTTP, and shut."""
        if self._body is not None and not self._body.ended:
            self._body.fail(refusal)
            return
        if self._task is None and not self.transport.is_closing():
            self.transport.write(simple_answer(refusal))
            self.transport.close()

    # ------------------------------------------------------------- working

    async def _serve(self, exchange: Exchange) -> None:
        try:
            await self._door.handle(exchange)
            keep = exchange.keeps_alive and not self._door.stopping and not self.lost
            if not exchange.body.ended and exchange.finished:
                keep = await self._swallow(exchange.body) and keep
        except (ConnectionError, TimeoutError):
            self.transport.abort()
            return
        finally:
            self._task = None
        if not keep or not exchange.finished:
            self.transport.close()
            return
        self._body = self._decoder = None
        self._deadline = self._loop.time() + self._door.limits.keepalive_timeout_s
        self._resume()
        try:
            self._advance()
        except HttpRefusal as refusal:
            self._refuse(refusal)

    async def _swallow(self, body: Body) -> bool:
        """Read what nobody wanted of a body, so that the client reads our answer; within limits."""
        if self._expects and not body.started:
            return False
        count = 0
        with suppress(TimeoutError, HttpRefusal):
            async with asyncio.timeout(SWALLOW_WITHIN_S):
                async for block in body.blocks():
                    count += len(block)
                    if count > SWALLOW_BYTES:
                        return False
        return body.ended

    async def drain(self) -> None:
        """Wait until there is room to write.

        Raises:
            ClientGone: the client left.
        """
        if self.lost or self.transport.is_closing():
            raise ClientGone("the client went away")
        if self._writable is not None:
            self._unsent_bytes = self.transport.get_write_buffer_size()
            self._deadline = self._loop.time() + self._door.limits.body_idle_timeout_s
            try:
                await asyncio.shield(self._writable)
            finally:
                self._deadline = NEVER
            if self.lost:
                raise ClientGone("the client went away")

    async def drain_all(self) -> None:
        """Wait until everything written is with the kernel."""
        self.transport.set_write_buffer_limits(high=0)
        try:
            await self.drain()
        finally:
            self.transport.set_write_buffer_limits(high=WRITE_HIGH_BYTES)

    # ------------------------------------------------------------- the door's side

    @property
    def idle(self) -> bool:
        """Whether no request is being worked on."""
        return self._task is None

    def check(self, now: float) -> None:
        """Cut the connection if its client has been silent, or deaf, for too long."""
        if now < self._deadline or self.lost:
            return
        if self._writable is not None:
            unsent = self.transport.get_write_buffer_size()
            if unsent != self._unsent_bytes:
                self._unsent_bytes = unsent
                self._deadline = now + self._door.limits.body_idle_timeout_s
                return
        elif self._task is not None and not self._reading:
            self._deadline = now + self._door.limits.body_idle_timeout_s
            return
        self.transport.abort()

    def shut(self) -> None:
        """Close at once if idle; else after the answer that is being made."""
        if self.idle:
            self.transport.close()

    def cut(self) -> None:
        """Close now, whatever is going on."""
        self.transport.abort()
