"""The bus on a real NATS server."""

import asyncio
import json
from contextlib import asynccontextmanager, suppress

import nats as plain_nats
import pytest
from sqlalchemy import MetaData

from twinfra.core.bus import Bus, Event, Outbox, outbox_table
from twinfra.core.errors import InvalidRequest
from twinfra.testkit import servers
from twinfra.testkit.ports import free_port
from twinfra.testkit.waiting import wait_for


@asynccontextmanager
async def running(work):
    task = asyncio.create_task(work)
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def made(n, kind="org.twinfra.storage.created"):
    return Event(kind, "urn:test", f"/f{n}", {"n": n}, site="edge-c", id=f"event-{n}")


async def test_a_plain_client_reads_cloudevents_under_the_published_subject(bus, nats_url):
    await bus.publish(made(1))
    client = await plain_nats.connect(nats_url)
    subscription = await client.jetstream().subscribe("twinfra.event.edge-c.storage.created")
    message = await subscription.next_msg(timeout=5)
    body = json.loads(message.data)
    assert (body["specversion"], body["id"], body["data"]) == ("1.0", "event-1", {"n": 1})
    assert message.headers["Nats-Msg-Id"] == "event-1"
    await client.close()


async def test_an_event_sent_twice_is_stored_once(bus):
    assert await bus.publish(made(1)) == await bus.publish(made(1))


async def test_a_failing_handler_gets_the_event_again(bus):
    seen = []

    async def handler(event):
        seen.append(event.id)
        if len(seen) == 1:
            raise InvalidRequest("not now")

    await bus.publish(made(1))
    async with running(bus.consume("d", ["org.twinfra.storage.*"], handler, from_now=False)):
        await wait_for(lambda: len(seen) == 2)
    assert seen == ["event-1", "event-1"]


async def test_a_durable_goes_on_where_it_stood_and_cursors_are_apart(bus):
    seen, other = [], []

    async def handler(event):
        seen.append(event.data["n"])

    async def elsewhere(event):
        other.append(event.data["n"])

    for n in range(3):
        await bus.publish(made(n))
    async with running(bus.consume("d", ["org.twinfra.storage.created"], handler, from_now=False)):
        await wait_for(lambda: len(seen) == 3)
    for n in range(3, 6):
        await bus.publish(made(n))
    async with running(bus.consume("d", ["org.twinfra.storage.created"], handler)):
        await wait_for(lambda: len(seen) == 6)
    async with running(bus.consume("e", ["org.twinfra.*"], elsewhere, from_now=False)):
        await wait_for(lambda: len(other) == 6)
    assert sorted(seen) == list(range(6))


async def test_only_the_asked_types_and_sites_come(bus):
    seen = []

    async def handler(event):
        seen.append(event.id)

    await bus.publish(made(1, "org.twinfra.rule.ok"))
    await bus.publish(made(2, "org.climate.prediction"))
    await bus.publish(made(3))
    types = ["org.climate.prediction"]
    work = bus.consume("d", types, handler, sites=["edge-c"], from_now=False)
    async with running(work):
        await wait_for(lambda: seen)
    assert seen == ["event-2"]


async def test_nothing_is_lost_when_the_server_is_killed(tmp_path, sqlite):
    metadata = MetaData()
    table = outbox_table(metadata)
    async with sqlite.begin() as connection:
        await connection.run_sync(metadata.create_all)
    folder, port = tmp_path / "n", free_port()
    folder.mkdir()
    bus, seen = Bus(f"nats://127.0.0.1:{port}"), set()
    outbox = Outbox(sqlite, table, bus)

    async def handler(event):
        seen.add(event.data["n"])

    def hearing():  # from the beginning: it may be sent before anybody hears
        return bus.consume("d", ["org.twinfra.*"], handler, from_now=False)

    with servers.nats(folder, port=port):
        await bus.connect()
        async with running(outbox.run()), running(hearing()):
            async with sqlite.begin() as connection:
                await outbox.add(connection, *(made(n) for n in range(5)))
            await wait_for(lambda: len(seen) == 5)
    async with running(outbox.run()), running(hearing()):
        async with sqlite.begin() as connection:
            await outbox.add(connection, *(made(n) for n in range(5, 10)))
        with servers.nats(folder, port=port):
            await wait_for(lambda: len(seen) == 10, timeout_s=30)
    await bus.close()


async def test_the_outbox_goes_on_when_an_event_is_larger_than_the_stream_takes(bus, sqlite):
    metadata, seen = MetaData(), []
    table = outbox_table(metadata)
    async with sqlite.begin() as connection:
        await connection.run_sync(metadata.create_all)
    outbox = Outbox(sqlite, table, bus)
    huge = Event("org.twinfra.huge", "urn:test", data="x" * 1024 * 1024)
    with pytest.raises(InvalidRequest, match="bytes"):
        await bus.publish(huge)

    async def handler(event):
        seen.append(event.id)

    hearing = bus.consume("d", ["org.twinfra.*"], handler, from_now=False)
    async with running(outbox.run()), running(hearing):
        async with sqlite.begin() as connection:
            await outbox.add(connection, huge, made(1))
        await wait_for(lambda: seen)
    assert seen == ["event-1"]


async def test_a_consumer_goes_on_when_a_message_is_nonsense(bus, nats_url):
    seen = []

    async def handler(event):
        seen.append(event.id)

    client = await plain_nats.connect(nats_url)
    for nonsense in (b"", b"\xff", b"{}", b"[" * 200_000, b'{"specversion": "1.0"}'):
        await client.jetstream().publish("twinfra.event.edge-c.storage.created", nonsense)
    await client.close()
    await bus.publish(made(1))
    async with running(bus.consume("d", ["org.twinfra.storage.*"], handler, from_now=False)):
        await wait_for(lambda: seen)
    assert seen == ["event-1"]


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"specversion": "0.3"},
        {"specversion": "1.0", "id": "1", "source": "x", "type": "a b"},
        {"specversion": "1.0", "id": "1", "source": "x", "type": "a", "site": "b.>"},
    ],
)
def test_what_is_no_cloudevent_is_refused(body):
    with pytest.raises(InvalidRequest):
        Event.from_json(body)
