"""Subscriptions: signed, in order, at least once, whatever goes away."""

import asyncio
import base64
import hashlib
import hmac
import json

import pytest
from aiohttp import web

from twinfra.core.errors import (
    Conflict,
    InsufficientScope,
    InvalidRequest,
    NotFound,
)
from twinfra.data.notifications.client import EventFilter
from twinfra.testkit.waiting import wait_for


@pytest.mark.story("a subscription delivers a CloudEvent for each")
async def test_an_event_arrives_signed_in_its_structured_form(federation):
    made = await federation.subscribe()
    await federation.publish(1)
    await wait_for(lambda: federation.sink.got)
    path, headers, body, event = federation.sink.got[0]
    assert path == "/events"
    assert headers["content-type"].startswith("application/cloudevents+json")
    assert (event["specversion"], event["id"], event["type"]) == (
        "1.0", "event-1", "org.twinfra.storage.created",
    )  # fmt: skip
    key = base64.b64decode(made.secret.removeprefix("whsec_"))
    signed = b".".join(
        [headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body]
    )
    wanted = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    assert headers["webhook-id"] == "event-1"
    assert "authorization" not in headers


@pytest.mark.story("Prediction service killed: it comes back, no event is lost")
async def test_a_sink_that_was_down_gets_all_in_order_with_the_same_ids(federation):
    made = await federation.subscribe()
    federation.sink.status = 503
    for number in range(12):
        await federation.publish(number)
    await wait_for(lambda: len(federation.sink.tries) > 3)
    assert set(federation.sink.tries) == {"event-0"}
    shown = await federation.client.subscription(made.id, token=federation.token())
    assert "503" in shown.delivered.last_error
    federation.sink.status = 200
    await wait_for(lambda: len(federation.sink.got) == 12)
    assert federation.sink.ids() == [f"event-{number}" for number in range(12)]
    assert federation.sink.genuine(made.secret)

    async def noted():
        found = await federation.client.subscription(made.id, token=federation.token())
        return found.delivered if found.delivered.count == 12 else None

    delivered = await wait_for(noted)
    assert (delivered.event_id, delivered.failures, delivered.last_error) == ("event-11", 0, None)


async def test_two_subscriptions_have_cursors_of_their_own(federation):
    await federation.subscribe(path="/one")
    await federation.subscribe(path="/two", filter=EventFilter(path_prefix="/incoming/scenarios"))
    federation.sink.down = {"/one"}
    for number in range(3):
        await federation.publish(number)
    await wait_for(lambda: federation.sink.ids("/two") == ["event-0", "event-1", "event-2"])
    assert federation.sink.ids("/one") == []
    federation.sink.down = set()
    await wait_for(lambda: federation.sink.ids("/one") == ["event-0", "event-1", "event-2"])


async def test_only_what_is_wished_for_arrives(federation):
    wanted = EventFilter(site="edge-c", path_prefix="/incoming/scenarios")
    await federation.subscribe("org.twinfra.storage.created", filter=wanted)
    await federation.publish(1, site="hpc-b")
    await federation.publish(2, data={"path": "/incoming/scenarios2/x"})
    await federation.publish(3, kind="org.twinfra.storage.deleted")
    await federation.publish(4)
    await wait_for(lambda: federation.sink.got)
    assert federation.sink.ids() == ["event-4"]


async def test_events_of_another_group_do_not_arrive(federation):
    await federation.subscribe("org.climate.prediction")
    await federation.publish(1, kind="org.climate.prediction", group="hydrology")
    await federation.publish(2, kind="org.climate.prediction", group="climate")
    await wait_for(lambda: federation.sink.got)
    assert federation.sink.ids() == ["event-2"]


async def test_an_overlapping_wish_is_taken_once(federation):
    made = await federation.subscribe("org.twinfra.storage.*", "org.twinfra.storage.created")
    assert made.types == ("org.twinfra.storage.*",)
    await federation.publish(1)
    await federation.publish(2)
    await wait_for(lambda: len(federation.sink.got) == 2)


@pytest.mark.story(
    "`kill -9` of every twinfra and NATS process, at each of the steps 3 to 6, then"
    " `twinfra up` again: the twin finishes, keepers are adopted, nothing is lost"
)
async def test_nothing_is_lost_when_the_broker_is_killed_in_the_middle(federation):
    await federation.subscribe()
    for number in range(5):
        await federation.publish(number)
    await wait_for(lambda: len(federation.sink.got) >= 2)
    federation.nats.kill()
    await asyncio.sleep(0.2)  # the broker is away for a while: this is the fault, not a wait
    federation.nats.start()
    for number in range(5, 10):
        await federation.publish_surely(number)
    await wait_for(lambda: len(set(federation.sink.ids())) == 10, timeout_s=60)
    seen = list(dict.fromkeys(federation.sink.ids()))
    assert seen == [f"event-{number}" for number in range(10)]


async def test_nothing_is_lost_when_the_service_goes_and_comes_back(idle):
    async with idle.serving():
        await idle.subscribe()
        await idle.publish(0)
        await wait_for(lambda: idle.sink.got)
        idle.sink.status = 500
        for number in range(1, 4):
            await idle.publish(number)
        await wait_for(lambda: len(idle.sink.tries) > 2)
    for number in range(4, 6):
        await idle.publish(number)
    idle.sink.status = 200
    async with idle.serving():
        await wait_for(lambda: len(set(idle.sink.ids())) == 6, timeout_s=45)
    assert list(dict.fromkeys(idle.sink.ids())) == [f"event-{number}" for number in range(6)]


async def test_a_sink_that_is_gone_ends_the_subscription_and_may_begin_again(federation):
    made = await federation.subscribe(name="mine")
    federation.sink.status = 410
    await federation.publish(1)

    async def disabled():
        found = await federation.client.subscription(made.id, token=federation.token())
        return found.status == "disabled"

    await wait_for(disabled)
    await federation.publish(2)
    federation.sink.status = 200
    again = await federation.subscribe(name="mine")
    assert (again.id, again.status, again.secret) == (made.id, "active", made.secret)
    await federation.publish(3)
    await wait_for(lambda: federation.sink.got)
    assert federation.sink.ids() == ["event-3"]


@pytest.mark.story(
    "Each event triggers a prediction against the running model, published as an event on the bus"
)
async def test_an_event_in_the_answer_is_published_for_the_group(federation):
    def answer(event):
        body = {
            "specversion": "1.0", "id": "p", "source": "urn:code", "type": "org.climate.prediction",
            "data": {"warming": 3.1, "of": event["id"]}, "group": "hydrology", "site": "edge-c",
        }  # fmt: skip
        return web.Response(body=json.dumps(body), content_type="application/cloudevents+json")

    federation.sink.answer = answer
    await federation.subscribe()
    seen = []

    async def keep(event):
        seen.append(event)

    task = asyncio.create_task(
        federation.bus.consume("test", ["org.climate.*"], keep, from_now=False)
    )
    await federation.publish(1)
    await wait_for(lambda: seen)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert (seen[0].group, seen[0].site) == ("climate", "hub")
    assert seen[0].data == {"warming": 3.1, "of": "event-1"}
    assert seen[0].id != "p"


@pytest.mark.parametrize(
    ("kind", "data"),
    [("org.twinfra.site.up", {}), ("storage.created.x", {}), ("climate", {}),
     ("org.climate.huge", "x" * 1_000_000)],
)  # fmt: skip
async def test_an_answer_that_may_not_be_published_is_not(federation, kind, data):
    body = {"specversion": "1.0", "id": "p", "source": "urn:code", "type": kind, "data": data}
    federation.sink.answer = lambda _: web.Response(
        body=json.dumps(body), content_type="application/cloudevents+json"
    )
    made = await federation.subscribe()
    await federation.publish(1)

    async def delivered():
        found = await federation.client.subscription(made.id, token=federation.token())
        return found.delivered if found.delivered.count else None

    assert (await wait_for(delivered)).last_error
    info = await federation.bus.stream.stream_info("EVENTS")
    assert info.state.messages == 1


@pytest.mark.parametrize(
    "url",
    ["https://169.254.169.254/latest", "http://{address}/x", "https://{address}@evil.test/",
     "https://evil.test/{address}", "ftp://{address}/"],
)  # fmt: skip
async def test_a_sink_that_is_not_registered_is_refused(federation, url):
    with pytest.raises(InvalidRequest, match=r"sink|https"):
        await federation.client.subscribe(
            ["org.twinfra.storage.*"], url.format(address=federation.sink.address),
            token=federation.token(),
        )  # fmt: skip


async def test_a_redirect_of_a_sink_is_not_followed(federation):
    federation.sink.answer = lambda _: web.Response(
        status=307, headers={"Location": federation.sink.url + "/elsewhere"}
    )
    await federation.subscribe()
    await federation.publish(1)
    await wait_for(lambda: len(federation.sink.got) > 2)
    assert {path for path, *_ in federation.sink.got} == {"/events"}


async def test_the_same_name_gives_the_same_subscription_and_other_wishes_a_conflict(federation):
    first = await federation.subscribe(name="mine")
    again = await federation.subscribe(name="mine")
    assert (again.id, again.secret) == (first.id, first.secret)
    with pytest.raises(Conflict):
        await federation.subscribe("org.twinfra.site.*", name="mine")


async def test_only_owner_and_group_see_a_subscription_and_only_the_owner_ends_it(federation):
    made = await federation.subscribe()
    colleague = federation.token("carol", ("climate",))
    stranger = federation.token("bob", ("hydrology",))
    shown = await federation.client.subscription(made.id, token=colleague)
    assert shown.secret is None
    with pytest.raises(InsufficientScope):
        await federation.client.unsubscribe(made.id, token=colleague)
    with pytest.raises(NotFound):
        await federation.client.subscription(made.id, token=stranger)
    assert await federation.client.subscriptions(token=stranger) == []
    with pytest.raises(InsufficientScope):
        await federation.subscribe(group="climate", token=stranger)
    await federation.client.unsubscribe(made.id, token=federation.token())
    await federation.publish(1)
    assert await federation.client.subscriptions(token=federation.token()) == []
    names = [info.name for info in await federation.bus.stream.consumers_info("EVENTS")]
    assert f"subscription-{made.id}" not in names
