"""A pod's life through both hops, driven by the typed client."""

import asyncio

import pytest

from twinfra.compute.interlink.client import LogRequest, PodCreateRequest, PodPhase
from twinfra.core.errors import TwinfraError
from twinfra.testkit.waiting import wait_for


async def until(client, pod, *phases):
    async def reached():
        found = await client.status([pod])
        return found if found and found[0].phase in phases else []

    return (await wait_for(reached, what=f"phase {phases}"))[0]


async def test_runs_and_succeeds_when_the_job_exits_zero(house, pod):
    client, made = house.client(), pod()
    uid = made["metadata"]["uid"]
    answer = await client.create(PodCreateRequest(made))
    assert answer.uid == uid
    assert answer.native_id
    await wait_for(lambda: house.site.jobs, what="the job")
    queued = await until(client, made, PodPhase.PENDING)
    assert queued.containers[0].reason in {"ContainerCreating", "Priority"}
    house.site.start(uid)
    assert (await until(client, made, PodPhase.RUNNING)).containers[0].ready
    house.site.finish(uid)
    ended = await until(client, made, PodPhase.SUCCEEDED)
    assert ended.containers[0].exit_code == 0


async def test_fails_with_its_code_when_the_job_exits_three(house, pod):
    client, made = house.client(), pod()
    uid = made["metadata"]["uid"]
    await client.create(PodCreateRequest(made))
    await wait_for(lambda: house.site.jobs, what="the job")
    house.site.start(uid)
    house.site.finish(uid, 3)
    ended = await until(client, made, PodPhase.FAILED)
    assert (ended.containers[0].exit_code, ended.containers[0].reason) == (3, "Error")


async def test_tells_each_change_by_event_when_someone_listens(house, pod):
    client, made = house.client(), pod()
    uid = made["metadata"]["uid"]
    seen = []

    async def listen():
        async for event in client.events():
            seen.append(event)  # noqa: PERF401 - read while it grows

    listening = asyncio.create_task(listen())
    await wait_for(lambda: seen, what="the first event")
    assert seen[0].report is None
    assert (await client.ping()).extensions
    await client.create(PodCreateRequest(made))
    await wait_for(lambda: house.site.jobs, what="the job")
    house.site.start(uid)
    house.site.finish(uid)
    await wait_for(
        lambda: any(e.report and e.report.phase is PodPhase.SUCCEEDED for e in seen), what="the end"
    )
    listening.cancel()
    ids = [int(event.id) for event in seen if event.id]
    assert ids == sorted(ids)
    assert {event.report.uid for event in seen if event.report} == {uid}


async def test_no_change_is_missed_when_the_api_server_restarts(house, pod):
    client, made = house.client(), pod()
    uid = made["metadata"]["uid"]
    seen = []

    async def listen():
        async for event in client.events():
            seen.append(event)  # noqa: PERF401 - read while it grows

    listening = asyncio.create_task(listen())
    await wait_for(lambda: seen, what="the first event")
    await client.ping()
    await client.create(PodCreateRequest(made))
    await wait_for(lambda: any(event.report for event in seen), what="the creation")
    await house.end_api()
    await wait_for(lambda: house.site.jobs, what="the job")
    house.site.start(uid)
    house.site.finish(uid)
    await house.start_api()
    await wait_for(
        lambda: any(e.report and e.report.phase is PodPhase.SUCCEEDED for e in seen), what="the end"
    )
    listening.cancel()
    ids = [int(event.id) for event in seen if event.id]
    assert ids == sorted(set(ids))


async def test_gives_the_log_when_asked(house, pod):
    client, made = house.client(), pod()
    uid = made["metadata"]["uid"]
    await client.create(PodCreateRequest(made))
    await wait_for(lambda: house.site.jobs, what="the job")
    house.site.write(uid, b"one\ntwo\n")
    assert await client.logs(LogRequest("ml", uid, "train-0", "main")) == b"one\ntwo\n"


async def test_carries_bytes_when_a_port_is_forwarded(house, pod):
    async def echo(reader, writer):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    client, made = house.client(), pod()
    uid = made["metadata"]["uid"]
    await client.create(PodCreateRequest(made))
    await wait_for(lambda: house.site.jobs, what="the job")
    next(iter(house.site.jobs.values())).port = server.sockets[0].getsockname()[1]
    house.site.start(uid)
    forward = await client.port_forward(uid, 8080)
    for _ in range(2):
        reader, writer = await asyncio.open_unix_connection(str(forward.path))
        payload = bytes(range(256)) * 4096
        writer.write(payload)
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(-1), 10) == payload
        writer.close()
    await forward.close()
    server.close()


async def test_forgets_the_pod_when_it_is_deleted(house, pod):
    client, made = house.client(), pod()
    uid = made["metadata"]["uid"]
    await client.create(PodCreateRequest(made))
    await wait_for(lambda: house.site.jobs, what="the job")
    house.site.start(uid)
    await client.delete(made)

    async def gone():
        return await client.status([made]) == []

    await wait_for(gone, what="the pod gone")
    assert house.site.jobs["1000"].cancels == 1
    await client.delete(made)


async def test_is_refused_by_name_when_a_field_cannot_be_honoured(house, pod):
    client = house.client()
    with pytest.raises(TwinfraError, match=r"spec\.hostNetwork"):
        await client.create(PodCreateRequest(pod(hostNetwork=True)))
    broken = pod()
    broken["spec"]["containers"][0]["image"] = "missing:1"
    with pytest.raises(TwinfraError, match=r"spec\.containers\[0\]\.image"):
        await client.create(PodCreateRequest(broken))
