"""Commands in containers through both hops, over the fake site: Kubernetes' own messages."""

import asyncio
import json

import aiohttp
import pytest

from twinfra.compute.interlink.client import PodCreateRequest
from twinfra.core.errors import InvalidRequest, NotFound, UpstreamFault
from twinfra.testkit.waiting import wait_for


async def running(house, pod):
    """Have a pod run and return its UID."""
    body = pod()
    uid = body["metadata"]["uid"]
    await house.client().create(PodCreateRequest(body))
    await wait_for(lambda: uid in house.site.submissions, what="the job")
    house.site.start(uid)
    return uid


async def hear(socket):
    """Return all messages by channel, and how the WebSocket closed."""
    told = []
    async with asyncio.timeout(30):
        while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
            told.append(message.data)
    await socket.close()
    by_channel = {}
    for piece in told:
        by_channel[piece[0]] = by_channel.get(piece[0], b"") + piece[1:]
    return told, by_channel


@pytest.mark.story("exec, attach and port-forward into the running job")
async def test_a_command_has_three_streams_and_its_exit_code(house, pod):
    uid = await running(house, pod)
    command = ["sh", "-c", 'cat; printf "%s" "$1" >&2; exit 3', "sh", "$(id) & a=b;\n"]
    socket = await house.client().exec(uid, "main", command, stdin=True)
    assert socket.protocol == "v5.channel.k8s.io"
    await socket.send_bytes(b"\x00in\x00\xff")
    await socket.send_bytes(b"\xff\x00")
    told, heard = await hear(socket)
    assert told[0] == b"\x01"  # as a kubelet says that the streams are there
    assert (heard[1], heard[2]) == (b"in\x00\xff", b"$(id) & a=b;\n")
    status = json.loads(heard[3])
    assert status["metadata"] == {}
    assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
    assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
    assert told[-1][0] == 3


async def test_a_command_that_ends_well_says_success_and_closes(house, pod):
    uid = await running(house, pod)
    socket = await house.client().exec(uid, "main", ["true"])
    _, heard = await hear(socket)
    assert json.loads(heard[3]) == {"metadata": {}, "status": "Success"}
    assert socket.close_code == 1000


async def test_a_command_ends_when_its_client_goes_away(house, pod):
    uid = await running(house, pod)
    socket = await house.client().exec(uid, "main", ["sleep", "1000"])
    process = house.site.sessions[-1]._process
    await socket.close()
    await asyncio.wait_for(process.wait(), 30)
    assert process.returncode != 0


async def test_a_container_is_joined_from_now_on(house, pod):
    uid = await running(house, pod)
    house.site.write(uid, b"before\n")
    socket = await house.client().attach(uid, "main")
    await wait_for(lambda: house.site.sessions, what="the session")
    house.site.write(uid, b"after\n")
    house.site.finish(uid, 0)
    _, heard = await hear(socket)
    assert heard[1] == b"after\n"
    assert json.loads(heard[3])["status"] == "Success"


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("container=main", 400),
        ("container=main&command=", 400),
        ("container=main&command=a%00b&stdout=true", 400),
        ("container=main&command=true&stdout=perhaps", 400),
        ("container=main&command=true", 400),
        ("container=other&command=true&stdout=true", 404),
        ("uid=nobody&command=true&stdout=true", 404),
    ],
)
async def test_13_bad_requests_are_refused_before_the_websocket(house, pod, query, status):
    uid = await running(house, pod)
    query = query if query.startswith("uid") else f"uid={uid}&{query}"
    pairs = [tuple(word.replace("%00", "\0").split("=", 1)) for word in query.split("&")]
    for base in (house.api, house.plugin):
        with pytest.raises((InvalidRequest, NotFound)) as caught:
            await house.http(base).websocket(
                "/ext/exec", query=pairs, protocols=("v5.channel.k8s.io",)
            )
        assert caught.value.status == status


async def test_the_subprotocol_is_refused_when_it_is_another(house, pod):
    uid = await running(house, pod)
    query = [("uid", uid), ("container", "main"), ("command", "true"), ("stdout", "true")]
    for base in (house.api, house.plugin):
        for protocols in ((), ("v4.channel.k8s.io",)):
            with pytest.raises((InvalidRequest, UpstreamFault)):
                await house.http(base).websocket("/ext/exec", query=query, protocols=protocols)


async def test_a_command_is_refused_when_the_pod_is_anothers(house, pod):
    uid = await running(house, pod)
    client = house.client(house.token("mallory"))
    with pytest.raises(NotFound):
        await client.exec(uid, "main", ["true"])
    with pytest.raises(NotFound):
        await client.attach(uid, "main")
    weak = house.client(house.token("alice", scope="compute.read"))
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its status is the point
        await weak.exec(uid, "main", ["true"])
    assert caught.value.status == 403


async def test_the_ping_names_what_both_sides_have(house):
    ping = await house.client().ping()
    assert {"exec", "attach", "files"} <= set(ping.extensions)
