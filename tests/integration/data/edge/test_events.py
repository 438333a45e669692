"""The events API over the wire: dCache's words, exactly once, in order, also after a restart."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from twinfra.core.http.client import HttpClient
from twinfra.data.edge.client import EdgeClient
from twinfra.testkit.waiting import wait_for


@pytest.fixture
async def client(edge):
    async def token() -> str:
        return edge.issuer.service_token("notifications", aud=edge.url)

    made = EdgeClient(HttpClient(edge.url, tls=edge.client_tls(), token=token))
    yield made
    await made.close()


@asynccontextmanager
async def reading(client: EdgeClient, channel: str, last_event_id: str | None = None):
    """Collect frames in the background."""
    frames = []

    async def read() -> None:
        async for frame in client.frames(channel, last_event_id=last_event_id):
            frames.append(frame)  # noqa: PERF401 - they are looked at while more come

    task = asyncio.create_task(read())
    await asyncio.sleep(0.1)
    try:
        yield frames
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


def told(frames) -> list[tuple[str, str]]:
    """Return the changes of files that frames told, in order."""
    return [
        (frame.storage.change, frame.storage.path) for frame in frames if frame.storage is not None
    ]


async def test_each_change_is_told_once_whoever_made_it(edge, http, client):
    channel = await client.channel("n")
    await client.subscribe(channel)
    async with reading(client, channel) as frames:
        await http("PUT", "/in/a", data=b"a")
        (edge.root / "in/b").write_bytes(b"b")
        await wait_for(lambda: len(told(frames)) == 2, timeout_s=10, what="both")
        await http("PUT", "/in/a", data=b"aa")
        await http("MOVE", "/in/b", Destination=f"{edge.dav}/in/c")
        await http("DELETE", "/in/a")
        await wait_for(lambda: len(told(frames)) >= 6, timeout_s=10, what="all")
        await edge.settle()
    assert told(frames) == [
        ("created", "/in/a"),
        ("created", "/in/b"),
        ("modified", "/in/a"),
        ("deleted", "/in/b"),
        ("created", "/in/c"),
        ("deleted", "/in/a"),
    ]
    numbers = [int(frame.id) for frame in frames if frame.id]
    assert numbers == sorted(set(numbers))
    first = next(frame for frame in frames if frame.storage).storage
    assert (first.site, first.rse, first.size_bytes) == ("left", "LEFT", 1)
    assert first.checksums.adler32 == "00620062"
    assert first.id.endswith(f"-{first.sequence}")
    moved = [frame.data["event"] for frame in frames if "cookie" in frame.data.get("event", {})]
    assert [event["mask"] for event in moved] == [["IN_MOVED_FROM"], ["IN_MOVED_TO"]]
    assert moved[0]["cookie"] == moved[1]["cookie"]


async def test_reader_gets_exactly_what_it_missed(edge, client):
    channel = await client.channel("n")
    await client.subscribe(channel)
    async with reading(client, channel) as frames:
        (edge.root / "seen").write_text("x")
        await wait_for(lambda: told(frames), timeout_s=10, what="the first")
    last = frames[-1].id
    for number in range(500):
        (edge.root / f"f{number:03}").write_text("x")
    await edge.settle()
    await edge.shut()
    (edge.root / "made-while-away").write_text("x")
    (edge.root / "seen").unlink()
    await edge.open()
    await edge.settle()
    async with reading(client, channel, last) as frames:
        await wait_for(lambda: len(told(frames)) >= 502, timeout_s=20, what="what was missed")
        (edge.root / "after").write_text("x")
        await wait_for(lambda: len(told(frames)) >= 503, timeout_s=10, what="what comes")
    changes = told(frames)
    assert sorted(changes[:500]) == [("created", f"/f{number:03}") for number in range(500)]
    assert sorted(changes[500:502]) == [("created", "/made-while-away"), ("deleted", "/seen")]
    assert changes[502:] == [("created", "/after")]
    numbers = [int(frame.id) for frame in frames if frame.id]
    assert numbers == sorted(set(numbers))
    middle = frames[250].id
    async with reading(client, channel, middle) as again:
        await wait_for(lambda: len(again) >= len(frames) - 251, timeout_s=10, what="the rest")
    assert [frame.id for frame in again] == [frame.id for frame in frames[251:]]


async def test_loss_is_told_first_when_the_last_event_is_too_old(edge, client):
    channel = await client.channel("n")
    await client.subscribe(channel)
    async with reading(client, channel) as frames:
        (edge.root / "a").write_text("x")
        await wait_for(lambda: told(frames), timeout_s=10, what="the first")
    for name in ("b", "c", "d"):
        (edge.root / name).write_text("x")
    await edge.settle()
    await edge.running.inventory._store.prune(edge.running._clock.now(), keep=1)
    for position in (frames[-1].id, "99999999999", "nonsense"):
        async with reading(client, channel, position) as later:
            (edge.root / "live").write_text(position)
            await wait_for(lambda: told(later), timeout_s=10, what="the live event")
        assert later[0].lost
        assert [path for _, path in told(later)] == ["/live"]


async def test_files_in_new_folders_are_told_when_made_at_the_same_moment(edge, client):
    channel = await client.channel("n")
    await client.subscribe(channel)
    process = await asyncio.create_subprocess_shell(
        "for i in $(seq 200); do mkdir -p t$i/b/c; echo $i > t$i/b/c/f; done",
        cwd=edge.root,
        stdin=asyncio.subprocess.DEVNULL,
    )
    await process.wait()
    await edge.settle()
    changes = await edge.changes()
    assert len(changes) == 200
    assert {path for _, path in changes} == {f"/t{number}/b/c/f" for number in range(1, 201)}


async def test_growing_file_is_told_once_it_is_closed(edge):
    with (edge.root / "slow").open("w") as file:
        file.write("half")
        file.flush()
        await asyncio.sleep(0.4)
        assert await edge.changes() == []
        file.write(" and half")
    await edge.settle()
    await wait_for(lambda: edge.running.inventory.newest >= 1, timeout_s=5, what="the event")
    rows = await edge.running.inventory.events(0, 10)
    assert [(row["change"], row["size_bytes"]) for row in rows] == [("created", 13)]


async def test_script_written_for_dcache_works_unchanged(edge, http):
    """Channel, time-out, subscription, folders on the way, statuses: as dCache's guide has them."""
    api = f"{edge.url}/api/v1/events"
    (edge.root / "data").mkdir()
    await edge.settle()
    limits = json.loads((await http("GET", "", url=api)).body)
    assert limits["channels"]["maximumPerUser"] == 128
    assert json.loads((await http("GET", "", url=f"{api}/eventTypes")).body) == ["inotify"]
    for part in ("", "/selector", "/event"):
        got = await http("GET", "", url=f"{api}/eventTypes/inotify{part}")
        assert (got.status, bool(json.loads(got.body))) == (200, True)
    made = await http("POST", "", url=f"{api}/channels", data=b'{"client-id": "test-1"}')
    assert made.status == 201
    channel = made.headers["Location"]
    found = await http("GET", "", url=f"{api}/channels?client-id=test-1")
    assert json.loads(found.body) == [channel]
    assert json.loads((await http("GET", "", url=f"{api}/channels?client-id=")).body) == []
    got = await http("GET", "", url=channel, Accept="application/json")
    assert json.loads(got.body) == {"timeout": 300}
    assert (await http("PATCH", "", url=channel, data=b'{"timeout": 3600}')).status == 204
    assert (await http("PATCH", "", url=channel, data=b'{"timeout": 0}')).status == 400
    subscriptions = f"{channel}/subscriptions"
    wish = json.dumps({"path": "/data", "flags": ["IN_CREATE", "IN_CLOSE_WRITE", "IN_DELETE"]})
    made = await http("POST", "", url=f"{subscriptions}/inotify", data=wish.encode())
    assert made.status == 201
    subscription = made.headers["Location"]
    again = await http("POST", "", url=f"{subscriptions}/inotify", data=wish.encode())
    assert (again.status, again.headers["Location"]) == (303, subscription)
    assert json.loads((await http("GET", "", url=subscriptions)).body) == [subscription]
    assert json.loads((await http("GET", "", url=subscription)).body) == json.loads(wish)
    for bad in ('{"path": "/none"}', '{"path": "data"}', '{"path":"/","flags":["IN_X"]}', "[]"):
        got = await http("POST", "", url=f"{subscriptions}/inotify", data=bad.encode())
        assert got.status == 400, bad
        assert json.loads(got.body)["errors"][0]["status"] == "400"
    collected = []

    async def read() -> None:
        async with http.session.get(
            channel,
            headers={"Authorization": f"Bearer {http.token}", "Accept": "text/event-stream"},
        ) as stream:
            async for line in stream.content:
                collected.append(line.decode().rstrip("\n"))  # noqa: PERF401 - as above

    task = asyncio.create_task(read())
    await wait_for(lambda: collected, timeout_s=5, what="the stream to begin")
    await http("PUT", "/data/f", data=b"x")
    await http("PUT", "/data/deeper/g", data=b"x")
    await http("DELETE", "/data/f")
    await wait_for(
        lambda: sum(line.startswith("data:") for line in collected) >= 4, timeout_s=5, what="four"
    )
    task.cancel()
    await asyncio.wait([task])
    events = [json.loads(line[6:]) for line in collected if line.startswith("data:")]
    assert [event["event"] for event in events] == [
        {"name": "f", "mask": ["IN_CREATE"]},
        {"name": "f", "mask": ["IN_CLOSE_WRITE"]},
        {"name": "deeper", "mask": ["IN_CREATE", "IN_ISDIR"]},
        {"name": "f", "mask": ["IN_DELETE"]},
    ]
    assert {event["subscription"] for event in events} == {subscription}
    assert (await http("DELETE", "", url=subscription)).status == 204
    assert (await http("GET", "", url=subscription)).status == 404
    assert (await http("DELETE", "", url=channel)).status == 204
    assert (await http("GET", "", url=channel, Accept="application/json")).status == 404


async def test_channels_are_their_makers_and_counted(edge, http):
    await edge.shut()
    await edge.open(max_channels_per_user=3)
    api = f"{edge.url}/api/v1/events/channels"
    made = [await http("POST", "", url=api) for _ in range(4)]
    assert [answer.status for answer in made] == [201, 201, 201, 429]
    url = made[0].headers["Location"]
    other = edge.token(sub="bob")
    assert (await http("GET", "", url=url, token=other)).status == 403
    assert (await http("GET", "", url=url, token="")).status == 401
    assert json.loads((await http("GET", "", url=api, token=other)).body) == []
    assert (await http("POST", "", url=api, token=other)).status == 201


async def test_two_readers_of_one_channel_both_get_all(edge, client):
    channel = await client.channel("n")
    await client.subscribe(channel)
    async with reading(client, channel) as one, reading(client, channel) as two:
        for name in "abc":
            (edge.root / name).write_text("x")
        await wait_for(
            lambda: len(told(one)) == len(told(two)) == 3, timeout_s=10, what="both readers"
        )
    assert told(one) == told(two)


async def test_reader_sees_only_what_its_token_may_read(edge, http):
    (edge.root / "mine").mkdir()
    (edge.root / "other").mkdir()
    await edge.settle()
    token = edge.token("storage.read:/mine")

    async def source() -> str:
        return token

    client = EdgeClient(HttpClient(edge.url, tls=edge.client_tls(), token=source))
    try:
        channel = await client.channel("n")
        subscribe = f"{channel}/subscriptions/inotify"
        got = await http("POST", "", url=subscribe, token=token, data=b'{"path": "/other"}')
        assert got.status == 400
        await client.subscribe(channel, "/mine")
        async with reading(client, channel) as frames:
            (edge.root / "other/f").write_text("x")
            (edge.root / "mine/f").write_text("x")
            await wait_for(lambda: told(frames), timeout_s=10, what="the event")
        assert told(frames) == [("created", "/mine/f")]
    finally:
        await client.close()


async def test_unread_channel_is_deleted_after_its_time(edge, http):
    api = f"{edge.url}/api/v1/events/channels"
    url = (await http("POST", "", url=api)).headers["Location"]
    assert (await http("PATCH", "", url=url, data=b'{"timeout": 1}')).status == 204

    async def gone() -> bool:
        return (await http("GET", "", url=url)).status == 404

    await wait_for(gone, timeout_s=10, what="the channel to expire")


async def test_reader_is_told_when_what_it_watches_is_gone(edge, http, client):
    (edge.root / "d").mkdir()
    await edge.settle()
    channel = await client.channel("n")
    subscription = await client.subscribe(channel, "/d", flags=["IN_DELETE_SELF"], recursive=False)
    async with reading(client, channel) as frames:
        await http("DELETE", "/d")
        await wait_for(lambda: len(frames) >= 3, timeout_s=10, what="the end")
    assert [frame.data.get("event") for frame in frames[:2]] == [
        {"mask": ["IN_DELETE_SELF", "IN_ISDIR"]},
        {"mask": ["IN_IGNORED"]},
    ]
    assert frames[2].data == {"type": "SUBSCRIPTION_CLOSED", "subscription": subscription}


async def test_readers_are_let_go_at_once_when_the_edge_shuts(edge, http, client):
    await edge.shut()
    await edge.open(shutdown_grace_s=600)
    channel = await client.channel("n")
    await client.subscribe(channel)
    async with reading(client, channel) as frames:
        await http("PUT", "/in/a", data=b"a")
        await wait_for(lambda: told(frames), timeout_s=20, what="the upload")
        await asyncio.wait_for(edge.shut(), 60)
    await edge.open()
