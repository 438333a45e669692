"""The stream for people, events of their own, and a stranger's client on the broker itself."""

import asyncio
import itertools
import json

import nats
import pytest

from twinfra.core.bus import Event
from twinfra.core.errors import InsufficientScope, InvalidRequest, RateLimited, Unauthenticated
from twinfra.testkit.waiting import wait_for


class Reader:
    """Reads the feed in the background."""

    def __init__(self, federation, *types, **more):
        token = more.pop("token", None) or federation.token()
        self.seen = []
        self._events = federation.client.events(types, token=token, **more)
        self._task = asyncio.create_task(self._read())

    async def _read(self):
        async for event in self._events:
            self.seen.append(event)

    @property
    def ids(self):
        return [event.id for event in self.seen]

    async def stop(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._events.aclose()


async def test_a_reader_sees_what_happens_from_now_on_with_places(federation):
    await federation.publish(0)
    reader = Reader(federation, "org.twinfra.storage.*")

    numbers = itertools.count(1)

    async def something_came():
        await federation.publish(next(numbers))
        return reader.ids

    await wait_for(something_came)
    assert "event-0" not in reader.ids
    await federation.publish("last")
    await wait_for(lambda: "event-last" in reader.ids)
    assert all(event.sequence for event in reader.seen)
    await reader.stop()


async def test_a_reader_goes_on_after_the_place_that_it_has(federation):
    for number in range(5):
        await federation.publish(number)
    first = Reader(federation, since="beginning")
    await wait_for(lambda: len(first.seen) == 5)
    await first.stop()
    second = Reader(federation, after=first.seen[1].sequence)
    await wait_for(lambda: len(second.seen) == 3)
    assert second.ids == ["event-2", "event-3", "event-4"]
    await second.stop()


async def test_a_reader_sees_the_types_and_the_site_that_it_names(federation):
    await federation.publish(1, kind="org.twinfra.site.down", site="hub")
    await federation.publish(2, site="hpc-b")
    await federation.publish(3)
    reader = Reader(federation, "org.twinfra.storage.created", since="beginning", site="edge-c")
    await wait_for(lambda: reader.seen)
    assert reader.ids == ["event-3"]
    await reader.stop()


async def test_events_of_other_groups_are_not_shown(federation):
    await federation.publish(1, kind="org.climate.prediction", group="climate")
    await federation.publish(2, kind="org.climate.prediction", group="hydrology")
    await federation.publish(3)
    climate = Reader(federation, since="beginning")
    water = Reader(federation, since="beginning", token=federation.token("bob", ("hydrology",)))
    robot = Reader(federation, since="beginning", token=federation.service_token())
    for reader, ids in ((climate, "13"), (water, "23"), (robot, "123")):
        await wait_for(lambda r=reader: "event-3" in r.ids)
        assert reader.ids == [f"event-{number}" for number in ids]
        await reader.stop()


async def test_a_reader_survives_the_broker(federation):
    reader = Reader(federation, since="beginning")
    await federation.publish(1)
    await wait_for(lambda: reader.ids == ["event-1"])
    federation.nats.kill()
    federation.nats.start()
    await federation.publish_surely(2)
    await wait_for(lambda: reader.ids == ["event-1", "event-2"], timeout_s=20)
    await reader.stop()


async def test_readers_end_when_the_service_stops(idle):
    async with idle.serving():
        await wait_for(lambda: idle.bus.connected)
        reader = Reader(idle, since="beginning")
        await idle.publish(1)
        await wait_for(lambda: reader.seen)
    await wait_for(reader._task.done, timeout_s=5)
    await reader.stop()


async def test_too_many_readers_are_asked_to_come_later(idle, home):
    home.settings_file.write_text(home.settings_file.read_text() + "streams = 1\n")
    async with idle.serving():
        await wait_for(lambda: idle.bus.connected)
        reader = Reader(idle, since="beginning")
        await idle.publish(1)
        await wait_for(lambda: reader.seen)
        with pytest.raises(RateLimited):
            await anext(idle.client.events(token=idle.token()))
        await reader.stop()


@pytest.mark.parametrize("query", [{"since": "yesterday"}, {"types": ["*"]}, {"types": ["a b"]}])
async def test_a_wish_that_is_not_understood_is_refused(federation, query):
    with pytest.raises(InvalidRequest):
        await anext(federation.client.events(**query, token=federation.token()))


async def test_nobody_reads_or_subscribes_without_a_good_token(federation):
    for path in ("/events", "/subscriptions", "/triggers"):
        for token in (federation.issuer.expired(aud=federation.url), federation.issuer.token()):
            with pytest.raises(Unauthenticated):
                await federation.client._http.request("GET", path, token=token)


async def test_people_publish_events_of_their_own_type_for_their_group(federation):
    event = Event("org.climate.note", "urn:alice", data={"x": 1}, id="mine", site="edge-c")
    first = await federation.client.publish(event, token=federation.token())
    assert await federation.client.publish(event, token=federation.token()) == first
    other = await federation.client.publish(event, token=federation.token("bob", ("hydrology",)))
    assert other > first
    reader = Reader(federation, since="beginning")
    await wait_for(lambda: reader.seen)
    assert (reader.seen[0].group, reader.seen[0].site) == ("climate", "hub")
    await reader.stop()


@pytest.mark.parametrize("kind", ["org.twinfra.storage.created", "org.twinfra", "storage.x.y"])
async def test_people_cannot_publish_events_that_are_ours(federation, kind):
    with pytest.raises(InsufficientScope):
        await federation.client.publish(Event(kind, "urn:alice"), token=federation.token())


async def test_people_cannot_publish_for_a_group_that_is_not_theirs(federation):
    event = Event("org.climate.note", "urn:alice", group="hydrology")
    with pytest.raises(InsufficientScope):
        await federation.client.publish(event, token=federation.token())


async def test_services_publish_events_that_are_ours_as_they_are(federation):
    event = Event("org.twinfra.site.down", "urn:monitoring", data={"site": "hpc-b"}, id="down-1")
    await federation.client.publish(event, token=federation.service_token("monitoring"))
    reader = Reader(federation, since="beginning")
    await wait_for(lambda: reader.ids == ["down-1"])
    await reader.stop()


@pytest.mark.real("nats-py")
@pytest.mark.story("a plain NATS client reads the stream")
async def test_a_plain_nats_client_reads_the_stream(federation):
    await federation.client.publish(
        Event("org.climate.note", "urn:alice", data={"x": 1}), token=federation.token()
    )
    client = await nats.connect(federation.context.bus_url)
    subscription = await client.jetstream().pull_subscribe(
        "twinfra.event.hub.org.climate.>", durable="stranger", stream="EVENTS"
    )
    (message,) = await subscription.fetch(1, timeout=5)
    await message.ack()
    body = json.loads(message.data)
    assert (body["specversion"], body["type"], body["data"]) == (
        "1.0", "org.climate.note", {"x": 1},
    )  # fmt: skip
    assert message.headers["Nats-Msg-Id"] == body["id"]
    await client.close()
