"""Events: CloudEvents 1.0 on a NATS JetStream, at least once, in and out.

A service writes an event into its outbox in the transaction that made it true; the pump publishes
it under its own id, which the stream uses to drop doubles. A consumer is durable and acknowledges
after its handler, which must be idempotent.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy, StreamConfig
from nats.js.errors import NotFoundError
from sqlalchemy import JSON, Column, Integer, MetaData, Table, bindparam, delete, insert, select

from twinfra.core.database import Connection, Database
from twinfra.core.errors import InvalidRequest, Unavailable
from twinfra.core.ids import new_uuid
from twinfra.core.telemetry import get_logger
from twinfra.core.time import SYSTEM_CLOCK, parse_rfc3339, rfc3339

log = get_logger(__name__)

STREAM = "EVENTS"
ROOT = "twinfra.event"
OWN = "org.twinfra."
HUB = "hub"
MAX_AGE_S = 14 * 24 * 3600
DEDUPE_S = 3600
BATCH = 16
FETCH_WAIT_S = 5.0
WITHOUT_END = -1
RECONNECT_WAIT_S = 0.2
OUTBOX_BATCH = 200
OUTBOX_RETRY_S = 1.0
EVENT_BYTES_MOST = 900 * 1024
"""The server takes messages of 1 MiB, headers included."""

Handler = Callable[["Event"], Awaitable[None]]


@dataclass(frozen=True)
class Event:
    """A CloudEvent 1.0.

    ``site`` names where it happened (``hub`` for the central services) and ``group`` who may see
    it; both travel as extension attributes. ``sequence`` is its place in the stream it came from.
    """

    type: str
    source: str
    subject: str | None = None
    data: Any = None
    site: str = HUB
    group: str | None = None
    id: str = field(default_factory=new_uuid)
    time: datetime = field(default_factory=SYSTEM_CLOCK.now)
    sequence: int | None = None

    @property
    def address(self) -> str:
        """Return the NATS subject: ``twinfra.event.<site>.<type>``."""
        return f"{ROOT}.{self.site}.{self.type.removeprefix(OWN)}"

    def to_json(self) -> dict[str, Any]:
        """Return the structured JSON form (CloudEvents JSON format §3)."""
        body: dict[str, Any] = {
            "specversion": "1.0",
            "id": self.id,
            "source": self.source,
            "type": self.type,
            "time": rfc3339(self.time),
            "site": self.site,
            "datacontenttype": "application/json",
            "data": self.data,
        }
        if self.subject is not None:
            body["subject"] = self.subject
        if self.group is not None:
            body["group"] = self.group
        return body

    def encoded(self) -> bytes:
        """Return the structured JSON form as it is published.

        Raises:
            InvalidRequest: it is larger than the stream takes.
        """
        body = json.dumps(self.to_json()).encode()
        if len(body) > EVENT_BYTES_MOST:
            raise InvalidRequest(
                f"the event has {len(body)} bytes, more than the {EVENT_BYTES_MOST} that are taken"
            )
        return body

    @classmethod
    def from_json(cls, body: Any, *, sequence: int | None = None) -> "Event":
        """Read the structured JSON form.

        Raises:
            InvalidRequest: it is not a CloudEvent 1.0.
        """
        try:
            if body["specversion"] != "1.0":
                raise InvalidRequest("only CloudEvents 1.0 are understood")
            return cls(
                type=_word(body["type"]),
                source=str(body["source"]),
                subject=body.get("subject"),
                data=body.get("data"),
                site=_word(body.get("site", HUB)),
                group=body.get("group"),
                id=str(body["id"]),
                time=parse_rfc3339(body["time"]) if "time" in body else SYSTEM_CLOCK.now(),
                sequence=sequence,
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidRequest(f"not a CloudEvent 1.0 in JSON: {error!r}") from error


def _word(text: str) -> str:
    """Refuse what would be more than plain tokens in a NATS subject."""
    if not text or any(c in text for c in " *>\t\r\n") or ".." in text:
        raise ValueError(f"{text!r} cannot be part of a subject")
    return text


class Bus:
    """A connection to the event stream.

    Args:
        url: of the NATS server.
        nkey_file: seed of this service's nkey; none where the server wants none.
        name: of the service, shown by the server.
    """

    def __init__(self, url: str, *, nkey_file: str | None = None, name: str = "twinfra") -> None:
        self._url, self._nkey_file, self._name = url, nkey_file, name
        self._client: Client | None = None
        self._stream: JetStreamContext | None = None

    async def connect(self, *, timeout_s: float = 30.0) -> None:
        """Connect, and declare the stream; waits for the server, reconnects for ever.

        Raises:
            Unavailable: no server answered within `timeout_s`.
        """
        deadline = SYSTEM_CLOCK.monotonic() + timeout_s
        while True:
            client = Client()
            try:
                await self._reach(client)
                stream = client.jetstream()
                await stream.add_stream(
                    StreamConfig(
                        STREAM, subjects=[f"{ROOT}.>"], max_age=MAX_AGE_S, duplicate_window=DEDUPE_S
                    )
                )
            except (OSError, TimeoutError, nats.errors.Error) as error:
                await client.close()
                if SYSTEM_CLOCK.monotonic() > deadline:
                    raise Unavailable(f"no NATS server at {self._url}: {error!r}") from error
                await asyncio.sleep(0.1)
            else:
                self._client, self._stream = client, stream
                return

    async def _reach(self, client: Client) -> None:
        """Connect now or fail soon; once connected, come back for ever.

        The library's first attempt would last for ever too, whatever our caller's patience.
        """
        await client.connect(
            self._url,
            name=self._name,
            nkeys_seed=self._nkey_file,
            allow_reconnect=True,
            max_reconnect_attempts=1,
            reconnect_time_wait=RECONNECT_WAIT_S,  # type: ignore[arg-type] # any seconds will do
            connect_timeout=2,
            error_cb=_note_error,
        )
        client.options["max_reconnect_attempts"] = WITHOUT_END

    @property
    def connected(self) -> bool:
        """Return whether the server answers at present."""
        return self._client is not None and self._client.is_connected

    @property
    def stream(self) -> JetStreamContext:
        """Return the stream's own interface, for what this class does not cover."""
        if self._stream is None:
            raise Unavailable("the bus is not connected yet")
        return self._stream

    async def publish(self, event: Event) -> int:
        """Publish `event`; it is stored once, however often it is sent. Returns its sequence.

        Raises:
            InvalidRequest: it is larger than the stream takes.
            Unavailable: the stream did not confirm; send it again.
        """
        body = event.encoded()
        try:
            ack = await self.stream.publish(
                event.address, body, headers={"Nats-Msg-Id": event.id}, timeout=5
            )
        except (OSError, TimeoutError, nats.errors.Error) as error:
            raise Unavailable("the event stream did not confirm") from error
        return ack.seq

    async def consume(
        self,
        durable: str,
        types: Sequence[str],
        handler: Handler,
        *,
        sites: Sequence[str] | None = None,
        from_now: bool = True,
    ) -> None:
        """Hand every matching event to `handler`, for ever; runs until cancelled.

        Guarantees: an event is acknowledged after its handler returned; a handler that raises
        gets the event again later, with growing pauses; the others go on meanwhile, in order.

        Args:
            durable: name of the cursor, kept by the server.
            types: event types, each may end in ``.*``.
            handler: must be idempotent.
            sites: only events of these; default: all.
            from_now: a new durable starts at the end of the stream; else at its beginning.
        """
        subjects = [f"{ROOT}.{s}.{_pattern(t)}" for s in (sites or ["*"]) for t in types]
        policy = DeliverPolicy.NEW if from_now else DeliverPolicy.ALL
        config = ConsumerConfig(
            durable_name=durable,
            filter_subjects=subjects,
            deliver_policy=policy,
            ack_wait=60,
            max_deliver=WITHOUT_END,
            max_ack_pending=BATCH,
        )
        while True:
            try:
                await self._ensure(durable, config)
                subscription = await self.stream.pull_subscribe_bind(durable, STREAM)
                await self._pull(subscription, handler)
            except (nats.errors.Error, OSError) as error:
                log.warning("bus_consumer_interrupted", durable=durable, error=repr(error))
                await asyncio.sleep(0.5)

    async def forget(self, durable: str) -> None:
        """Remove the cursor `durable`; nothing happens when there is none."""
        with suppress(NotFoundError):
            await self.stream.delete_consumer(STREAM, durable)

    async def close(self) -> None:
        """Send what is still to be sent and close."""
        if self._client is not None and not self._client.is_closed:
            with suppress(nats.errors.Error, TimeoutError):
                await self._client.flush(2)
            await self._client.close()

    async def _ensure(self, durable: str, config: ConsumerConfig) -> None:
        try:
            info = await self.stream.consumer_info(STREAM, durable)
        except NotFoundError:
            await self.stream.add_consumer(STREAM, config)
            return
        if sorted(info.config.filter_subjects or []) != sorted(config.filter_subjects or []):
            config.deliver_policy = info.config.deliver_policy
            await self.stream.add_consumer(STREAM, config)

    async def _pull(self, subscription: Any, handler: Handler) -> None:
        """Fetch and hand out until cancelled; what was fetched and not handed out is given back."""
        messages: list[Any] = []
        try:
            while True:
                with suppress(TimeoutError):
                    messages = await subscription.fetch(BATCH, timeout=FETCH_WAIT_S)
                while messages:
                    await self._hand(messages[0], handler)
                    messages.pop(0)
        finally:
            with suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()
                for message in messages:
                    await message.nak()

    async def _hand(self, message: Any, handler: Handler) -> None:
        delivered = message.metadata.num_delivered
        sequence = message.metadata.sequence.stream
        try:
            event = Event.from_json(json.loads(message.data), sequence=sequence)
        except (ValueError, InvalidRequest, RecursionError):
            log.warning("bus_message_dropped", subject=message.subject, sequence=sequence)
            await message.term()
            return
        try:
            await handler(event)
        except Exception as error:
            log.warning("event_handler_failed", event_id=event.id, type=event.type, exc_info=error)
            await message.nak(delay=min(30.0, 0.2 * 2 ** min(delivered, 8)))
        else:
            await message.ack()


def _pattern(kind: str) -> str:
    pattern = kind.removeprefix(OWN)
    return pattern.removesuffix("*") + ">" if pattern.endswith("*") else pattern


async def _note_error(error: Exception) -> None:
    log.debug("bus_connection_error", error=repr(error))


def outbox_table(metadata: MetaData) -> Table:
    """Declare the outbox of a service beside its other tables."""
    return Table(
        "outbox",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=True),
        Column("event", JSON, nullable=False),
    )


class Outbox:
    """Events that became true with a transaction, on their way to the bus, in order."""

    def __init__(self, database: Database, table: Table, bus: Bus) -> None:
        self._database, self._bus = database, bus
        self._news = asyncio.Event()
        self._insert = insert(table)
        self._first = select(table).order_by(table.c.id).limit(OUTBOX_BATCH)
        self._sent = delete(table).where(table.c.id.in_(bindparam("some", expanding=True)))

    async def add(self, connection: Connection, *events: Event) -> None:
        """Note `events` within the caller's unit of work."""
        if events:
            rows = [{"event": event.to_json()} for event in events]
            await connection.execute(self._insert, rows)
            self._news.set()

    def wake(self) -> None:
        """Let the pump look at once."""
        self._news.set()

    async def run(self) -> None:
        """Publish what stands in the outbox, for ever; runs until cancelled."""
        while True:
            self._news.clear()
            try:
                sent = await self._pump()
            except Unavailable:
                log.warning("outbox_waiting_for_bus")
                await asyncio.sleep(OUTBOX_RETRY_S)
                continue
            if sent < OUTBOX_BATCH:
                with suppress(TimeoutError):
                    async with asyncio.timeout(FETCH_WAIT_S):
                        await self._news.wait()

    async def _pump(self) -> int:
        async with self._database.read() as connection:
            rows = (await connection.execute(self._first)).all()
        for row in rows:
            try:
                await self._bus.publish(Event.from_json(row.event))
            except InvalidRequest as error:
                # it will never be taken, and the events behind it must not wait for ever
                log.exception("outbox_event_dropped", detail=error.detail)
        if rows:
            async with self._database.begin() as connection:
                await connection.execute(self._sent, {"some": [row.id for row in rows]})
        return len(rows)
