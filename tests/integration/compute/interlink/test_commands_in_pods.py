"""Commands in real containers through both hops: keeper, plug-in and API server are processes."""

import asyncio
import json

import aiohttp
import pytest

from twinfra.compute.interlink.client import PodCreateRequest, PodPhase

SERVICE = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


async def hear(socket):
    """Return what came by channel, to the end."""
    heard = {}
    async with asyncio.timeout(60):
        while (message := await socket.receive()).type is aiohttp.WSMsgType.BINARY:
            heard[message.data[0]] = heard.get(message.data[0], b"") + message.data[1:]
    await socket.close()
    return heard


async def until(socket, wanted):
    """Read until the text has come."""
    text = b""
    async with asyncio.timeout(60):
        while wanted not in text:
            text += (await socket.receive_bytes())[1:]
    return text


async def running(site, pod):
    await site.client().create(PodCreateRequest(pod))
    await site.until(pod, PodPhase.RUNNING)
    return pod["metadata"]["uid"]


@pytest.mark.story("exec, attach and port-forward into the running job")
async def test_a_command_reaches_the_container_and_its_code_comes_back(site, make_pod):
    uid = await running(site, make_pod(SERVICE))
    command = ["sh", "-c", 'cat; echo "$1" >&2; exit 3', "sh", "$(id)"]
    socket = await site.client().exec(uid, "main", command, stdin=True)
    await socket.send_bytes(b"\0" + b"x" * 200_000)
    await socket.send_bytes(b"\xff\0")
    heard = await hear(socket)
    assert (heard[1], heard[2]) == (b"x" * 200_000, b"$(id)\n")
    assert json.loads(heard[3])["details"]["causes"][0]["message"] == "3"


async def test_a_terminal_reaches_the_container(site, make_pod):
    uid = await running(site, make_pod(SERVICE))
    socket = await site.client().exec(uid, "main", ["sh", "-i"], stdin=True, tty=True)
    await socket.send_bytes(b'\x04{"Width":91,"Height":17}')
    await socket.send_bytes(b"\0stty size\n")
    await until(socket, b"17 91\r\n")
    await socket.send_bytes(b"\0exit 4\n")
    heard = await hear(socket)
    assert json.loads(heard[3])["details"]["causes"][0]["message"] == "4"


async def test_a_container_with_input_is_joined_and_runs_on_it(site, make_pod):
    fields = {"stdin": True, "stdinOnce": True, "tty": True}
    pod = make_pod("read a; echo got $a; read b || echo over", container=fields)
    uid = await running(site, pod)
    socket = await site.client().attach(uid, "main", stdin=True, tty=True)
    await socket.send_bytes(b"\0word\n")
    await until(socket, b"got word\r\n")
    await socket.send_bytes(b"\xff\0")
    heard = await hear(socket)
    assert json.loads(heard[3])["status"] == "Success"
    await site.until(pod, PodPhase.SUCCEEDED)
    assert b"over" in site.output(uid)


async def test_the_keeper_killed_under_a_command_is_told(site, make_pod):
    uid = await running(site, make_pod(SERVICE))
    socket = await site.client().exec(uid, "main", ["sleep", "100"])
    site.kill_keeper(uid)
    heard = await hear(socket)
    status = json.loads(heard[3])
    assert (status["status"], status["reason"]) == ("Failure", "InternalError")


@pytest.mark.story("renewed into the running job")
async def test_files_of_a_running_pod_change_at_once_and_keep_their_modes(site, make_pod):
    token = {"metadata": {"name": "tok"}, "data": {"token": "old", "ca.crt": "a\nb\n"}}
    secret = {"metadata": {"name": "keys"}, "data": {"k": "b2xk", "unseen": "eA=="}}
    volumes = [
        {"name": "tok", "projected": {"defaultMode": 0o440, "sources": []}},
        {"name": "keys", "secret": {"secretName": "keys", "defaultMode": 0o400,
                                    "items": [{"key": "k", "path": "deep/er/k", "mode": 0o600}]}},
    ]  # fmt: skip
    mounts = [{"name": "tok", "mountPath": "/tok"}, {"name": "keys", "mountPath": "/keys"}]
    script = (
        "while grep -q old /tok/token || grep -q old /keys/deep/er/k; do sleep 0.05; done;"
        "cat /tok/token /keys/deep/er/k; stat -Lc %a /tok/token /keys/deep/er/k; ls /keys /tok"
    )
    pod = make_pod(script, container={"volumeMounts": mounts}, volumes=volumes)
    uid = pod["metadata"]["uid"]
    client = site.client()
    await client.create(PodCreateRequest(pod, secrets=(secret,), projected_maps=(token,)))
    await site.until(pod, PodPhase.RUNNING)
    new_token = {"metadata": {"name": "tok"}, "data": {"token": "new\n", "ca.crt": "a\nb\n"}}
    new_secret = {"metadata": {"name": "keys"}, "data": {"k": "bmV3ZXIK"}}
    await client.files(uid, projected=[new_token])
    await client.files(uid, secrets=[new_secret])
    await site.until(pod, PodPhase.SUCCEEDED)
    lines = [line.split(b" ", 3)[3] for line in site.output(uid).splitlines()]
    assert lines[:4] == [b"new", b"newer", b"440", b"600"]
    assert lines[4:] == [b"/keys:", b"deep", b"", b"/tok:", b"ca.crt", b"token"]
