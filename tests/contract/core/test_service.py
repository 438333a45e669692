"""The runner: what starts, what ends, in which order, and what is never lost."""

import asyncio

import pytest
from starlette.responses import StreamingResponse

from twinfra.core.errors import Unavailable
from twinfra.core.http.app import create_app
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Listener, Service, Stop, run_services
from twinfra.testkit.ports import free_port, listening
from twinfra.testkit.serving import serving
from twinfra.testkit.waiting import wait_for


def note(seen, word):
    async def callback():
        seen.append(word)

    return callback


async def forever():
    await asyncio.Event().wait()


def running(context, *services, stop=None):
    stop = stop or Stop()
    return asyncio.create_task(run_services(context, services, stop=stop)), stop


async def test_services_start_and_stop_in_order_when_all_is_well(context):
    seen = []

    async def loop():
        seen.append("loop")
        try:
            await forever()
        finally:
            seen.append("loop ended")

    one = Service("one", background=[loop])
    one.start += [note(seen, "start 1a"), note(seen, "start 1b")]
    one.stop += [note(seen, "stop 1a"), note(seen, "stop 1b")]
    two = Service("two", start=[note(seen, "start 2")], stop=[note(seen, "stop 2")])
    task, stop = running(context, one, two)
    await wait_for(lambda: "loop" in seen)
    stop.now.set()
    await task
    assert seen == ["start 1a", "start 1b", "start 2", "loop", "loop ended", "stop 2", "stop 1a",
                    "stop 1b"]  # fmt: skip


def slow_app(begun, go_on):
    app = create_app("slow", title="Slow")

    @app.get("/slow")
    async def slow():
        begun.set()
        await go_on.wait()
        return {"done": True}

    return app


@pytest.mark.story("graceful shutdown that loses nothing accepted")
async def test_a_request_in_flight_is_answered_when_the_process_is_asked_to_end(
    context, monkeypatch
):
    monkeypatch.setattr("twinfra.core.service.LOOPS_GO_ON_S", 60)
    monkeypatch.setattr("twinfra.core.doors.GRACE_S", 60)  # as long as a busy machine needs
    begun, go_on, port = asyncio.Event(), asyncio.Event(), free_port()
    alive = []

    async def loop():
        try:
            await forever()
        finally:
            alive.append(asyncio.get_running_loop().time())

    closed = []
    service = Service("slow", [Listener(slow_app(begun, go_on), port)], background=[loop],
                      stop=[note(closed, "closed")])  # fmt: skip
    task, stop = running(context, service)
    await wait_for(lambda: listening(port))
    client = HttpClient(f"https://localhost:{port}", tls=context.tls_client())
    answer = asyncio.create_task(client.request("GET", "/slow"))
    await begun.wait()
    stop.now.set()
    await wait_for(lambda: not listening(port), what="the door is shut for others")
    assert not answer.done()
    assert not closed
    assert not alive
    go_on.set()
    assert (await answer).json() == {"done": True}
    await client.close()
    await task
    assert closed == ["closed"]
    assert alive


def endless_app():
    app = create_app("feed", title="Feed")

    async def events():
        yield b"data: {}\n\n"
        await forever()

    @app.get("/events")
    async def feed():
        return StreamingResponse(events(), media_type="text/event-stream")

    return app


async def test_a_stream_of_events_ends_at_once_when_the_process_is_asked_to_end(
    context, monkeypatch
):
    monkeypatch.setattr("twinfra.core.doors.GRACE_S", 600)
    port = free_port()
    task, stop = running(context, Service("feed", [Listener(endless_app(), port)]))
    await wait_for(lambda: listening(port))
    client = HttpClient(f"https://localhost:{port}", tls=context.tls_client())
    async with client.stream("GET", "/events") as answer:
        assert await answer.content.readline() == b"data: {}\n"
        stop.now.set()
        rest = await answer.read()  # raises where the answer is cut and not ended
    assert rest == b"\n"
    async with asyncio.timeout(10):
        await task
    await client.close()


async def test_the_process_ends_when_a_request_never_does(context, monkeypatch):
    monkeypatch.setattr("twinfra.core.doors.GRACE_S", 0)
    begun, port = asyncio.Event(), free_port()
    service = Service("slow", [Listener(slow_app(begun, asyncio.Event()), port)])
    task, stop = running(context, service)
    await wait_for(lambda: listening(port))
    client = HttpClient(f"https://localhost:{port}", tls=context.tls_client())
    answer = asyncio.create_task(client.request("GET", "/slow"))
    await begun.wait()
    stop.now.set()
    async with asyncio.timeout(30):
        await task
    with pytest.raises(Exception, match=r"slow|500"):
        await answer
    await client.close()


@pytest.mark.parametrize("fails", [True, False])
async def test_the_process_stops_when_a_background_loop_ends_by_itself(context, fails):
    seen, port, end = [], free_port(), asyncio.Event()

    async def loop():
        await end.wait()
        if fails:
            raise Unavailable("the bus is gone")

    app = create_app("toy", title="Toy")
    toy = Service("toy", [Listener(app, port)], background=[loop, forever], stop=[note(seen, "s")])
    task, _ = running(context, toy)
    await wait_for(lambda: listening(port))
    end.set()
    with pytest.raises(ExceptionGroup) as caught:
        await task
    words = "the bus is gone" if fails else "a background loop of toy ended by itself"
    assert caught.group_contains(Exception, match=words)
    assert seen == ["s"]
    assert not listening(port)


async def test_what_was_opened_is_closed_when_starting_fails(context):
    seen = []

    async def fail():
        raise Unavailable("no database")

    one = Service("one", start=[note(seen, "start 1")], stop=[note(seen, "stop 1")])
    two = Service("two", start=[fail], stop=[note(seen, "stop 2")])
    with pytest.raises(Unavailable, match="no database"):
        await run_services(context, [one, two], stop=Stop())
    assert seen == ["start 1", "stop 2", "stop 1"]


async def test_all_is_closed_when_closing_one_thing_fails(context):
    seen = []

    async def fail():
        raise Unavailable("stuck")

    one = Service("one", stop=[fail, note(seen, "stop 1")])
    two = Service("two", stop=[note(seen, "stop 2"), fail])
    stop = Stop()
    stop.now.set()
    with pytest.raises(Unavailable, match="stuck"):
        await run_services(context, [one, two], stop=stop)
    assert seen == ["stop 2", "stop 1"]


@pytest.mark.parametrize("drain", [True, False])
async def test_work_ends_first_when_the_process_is_asked_to_end_it_too(context, drain):
    seen, port = [], free_port()

    async def loop():
        try:
            await forever()
        finally:
            seen.append("loop ended")

    async def end_work():
        seen.append(f"drain, door {'open' if listening(port) else 'shut'}")

    app = create_app("toy", title="Toy")
    service = Service("toy", [Listener(app, port)], background=[loop], drain=[end_work],
                      stop=[note(seen, "stop")])  # fmt: skip
    task, stop = running(context, service)
    await wait_for(lambda: listening(port))
    if drain:
        stop.drain.set()
    stop.now.set()
    await task
    assert seen == [*(["drain, door open"] if drain else []), "loop ended", "stop"]


async def test_doors_are_on_loopback_and_on_a_socket_file_when_asked(context, tmp_path):
    app, port, path = create_app("toy", title="Toy"), free_port(), tmp_path / "door"
    async with serving(context, Service("toy", [Listener(app, port), Listener(app, uds=path)])):
        over_tls = HttpClient(f"https://localhost:{port}", tls=context.tls_client())
        by_file = HttpClient("http://localhost", uds=str(path))
        for client in (over_tls, by_file):
            assert (await client.request("GET", "/healthz")).json()["service"] == "toy"
            await client.close()
        plain = HttpClient(f"http://127.0.0.1:{port}")
        with pytest.raises(Unavailable):
            await plain.request("GET", "/healthz")
        await plain.close()
