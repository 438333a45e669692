"""The door over a real TLS socket: who is let in, and what breaks nothing."""

import asyncio
import ssl

import aiohttp
import pytest

from twinfra.compute.kubelet.door.certificates import Shown, own_certificate, server_context
from twinfra.compute.kubelet.door.ports import DoorContainer, DoorPod
from twinfra.compute.kubelet.door.server import Behind, KubeletDoor
from twinfra.compute.kubelet.door.settings import DoorSettings
from twinfra.compute.kubelet.kube.model import UserInfo
from twinfra.core.tls import server_tls
from twinfra.testkit.certificates import Authority

POD = DoorPod(
    "default",
    "train-0",
    "0f8fad5b-d9cb-469f-a165-70867728950e",
    phase="Running",
    containers=(DoorContainer("main", state="running"), DoorContainer("broken", state="running")),
)
EXEC = "/exec/default/train-0/main"


class Pods:
    async def find(self, namespace, name):
        return POD if (namespace, name) == ("default", "train-0") else None

    async def running(self):
        return [POD]

    async def objects(self, *, running):
        yield b'{"metadata":{"name":"train-0"}}'


class Reviews:
    """Knows one token, and lets everybody do what is listed."""

    def __init__(self):
        self.allowed, self.asked, self.tokens = {"alice": {"proxy", "stats"}}, [], 0

    async def token_review(self, token, audiences=()):
        self.tokens += 1
        return UserInfo(username="robot", groups=["bots"]) if token == "good" else None

    async def access_review(self, user, attributes):
        self.asked.append((user.username, attributes["verb"], attributes["subresource"]))
        return attributes["subresource"] in self.allowed.get(user.username, ())


class House:
    def __init__(self, door, reviews, ca, authority):
        self.door, self.reviews, self.ca, self.authority = door, reviews, ca, authority

    def tls(self, pair=None):
        context = ssl.create_default_context(cafile=self.ca)
        if pair is not None:
            context.load_cert_chain(pair.certfile, pair.keyfile)
        return context

    async def get(self, path, *, pair=None, token=None, method="GET", **more):
        headers = {**more.pop("headers", {})}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method,
                f"https://127.0.0.1:{self.door.port}{path}",
                ssl=self.tls(pair),
                headers=headers,
                **more,
            ) as answer,
        ):
            return answer.status, await answer.text()


@pytest.fixture
async def house(tmp_path, site_here):
    reviews = Reviews()
    for name in ("clients", "home"):
        (tmp_path / name).mkdir()
    authority = Authority.below(tmp_path / "clients")
    home = server_tls(tmp_path / "home")
    shown = own_certificate(tmp_path / "door", home, "hpc-a", ("127.0.0.1", "node.example"))
    assert isinstance(shown, Shown)
    assert shown.renew_at < shown.ends_at
    settings = DoorSettings(max_command_words=3, max_line_bytes=4096)
    door = KubeletDoor(
        Behind("hpc-a", Pods(), site_here.client, reviews),
        server_context(shown, authority.cafile.read_text()),
        settings,
        host="127.0.0.1",
    )
    assert door.port == 0
    await door.start()
    yield House(door, reviews, home.cafile, authority)
    await door.close()


@pytest.mark.story(
    "Kubelet HTTPS API with client authentication and authorization (CA and webhook)"
)
async def test_nobody_is_401_and_a_stranger_403(house):
    assert (await house.get("/stats/summary"))[0] == 401
    assert (await house.get("/stats/summary", token="bad"))[0] == 401
    status, text = await house.get("/stats/summary", token="good")
    assert status == 403
    assert "user=robot, verb=get, resource=nodes, subresource(s)=[stats]" in text
    alice = house.authority.issue("alice", organisations=("ops",))
    assert (await house.get("/stats/summary", pair=alice))[0] == 200
    assert (await house.get("/metrics/resource", pair=alice))[0] == 403
    assert (await house.get("/no/such/path", token="good"))[0] == 403


async def test_a_certificate_of_another_authority_is_not_taken(house, tmp_path):
    (tmp_path / "others").mkdir()
    other = Authority.below(tmp_path / "others").issue("alice")
    with pytest.raises((aiohttp.ClientError, OSError)):
        await house.get("/stats/summary", pair=other)


async def test_the_clusters_answers_are_remembered(house):
    for _ in range(3):
        await house.get("/stats/summary", token="good")
    assert house.reviews.tokens == 1
    assert house.reviews.asked == [("robot", "get", "stats")]


@pytest.mark.story("Every malformed body on every path: 4xx, server up.")
async def test_what_is_wrong_is_4xx_and_the_door_stands(house):
    alice = house.authority.issue("alice")
    logs = "/containerLogs/default/train-0"
    for path, status in [
        ("/containerLogs/default/other/main", 404),
        (f"{logs}/other", 404),
        (f"{logs}/main?tailLines=x", 400),
        (f"{logs}/main?limitBytes=0", 422),
        (f"{logs}/broken", 502),
        (f"{EXEC}?command=ls", 400),
        (f"{EXEC}?stdout=true", 400),
        (f"{EXEC}?stdout=true&command=ls", 400),
        (f"{EXEC}?stdout=true&command=a&command=b&command=c&command=d", 400),
        ("/exec/default/train-0/other?stdout=true&command=ls", 404),
        ("/exec/default/train-0/not-its-uid/main?stdout=true&command=ls", 404),
        ("/portForward/default/train-0", 400),
        ("/portForward/default/other", 404),
        ("/" + "x" * 9000, 400),
        ("/run/default/train-0/main", 404),
    ]:
        assert (await house.get(path, pair=alice))[0] == status, path
    upgrade = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}
    path = f"{EXEC}?stdout=true&command=ls"
    assert (await house.get(path, pair=alice, method="POST", headers=upgrade))[0] == 400
    upgrade["X-Stream-Protocol-Version"] = "v9.channel.k8s.io"
    assert (await house.get(path, pair=alice, method="POST", headers=upgrade))[0] == 403
    assert (await house.get(f"{logs}/main", pair=alice))[0] == 200


async def test_garbage_after_an_upgrade_ends_that_connection_alone(house):
    alice = house.authority.issue("alice")
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", house.door.port, ssl=house.tls(alice)
    )
    writer.write(
        f"POST {EXEC}?stdout=true&command=cat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n"
        "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n".encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    assert b"101 Switching Protocols" in head
    assert b"X-Stream-Protocol-Version: v4.channel.k8s.io" in head
    writer.write(b"\x80\x02garbage-garbage-garbage")
    await asyncio.wait_for(reader.read(), 30)
    writer.close()
    assert (await house.get("/stats/summary", pair=alice))[0] == 200


@pytest.mark.parametrize("protocol", ["v4.base64.channel.k8s.io", "v4.channel.k8s.io", None])
async def test_older_websocket_clients_are_served(house, protocol):
    alice = house.authority.issue("alice")
    url = f"https://127.0.0.1:{house.door.port}{EXEC}?stdout=true&command=echo&command=hi"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(
            url, ssl=house.tls(alice), protocols=(protocol,) if protocol else ()
        ) as socket,
    ):
        assert socket.protocol == protocol
        messages = [message.data async for message in socket]
    if protocol == "v4.base64.channel.k8s.io":
        assert messages[:2] == ["1", "1aGkK"]
    else:
        assert messages[:2] == [b"\x01", b"\x01hi\n"]
    assert (b"Success" in bytes(str(messages[-1]), "utf-8")) == (protocol == "v4.channel.k8s.io")


@pytest.mark.parametrize("text", [False, True])
async def test_input_is_taken_as_bytes_and_as_text(house, text):
    alice = house.authority.issue("alice")
    url = f"https://127.0.0.1:{house.door.port}{EXEC}?stdin=true&stdout=true&command=cat"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=house.tls(alice), protocols=("v5.channel.k8s.io",)) as socket,
    ):
        send = socket.send_str if text else socket.send_bytes
        await send("\0hi\n" if text else b"\0hi\n")
        await socket.send_bytes(b"\xff\0")  # the end of the input
        messages = [message.data async for message in socket]
    assert b"".join(each[1:] for each in messages if each[:1] == b"\x01") == b"hi\n"


async def test_a_bare_websocket_forwards_a_port(house, web_server):
    alice = house.authority.issue("alice")
    url = f"https://127.0.0.1:{house.door.port}/portForward/default/train-0?port={web_server}"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, ssl=house.tls(alice), protocols=("v4.channel.k8s.io",)) as socket,
    ):
        mark = web_server.to_bytes(2, "little")
        assert await socket.receive_bytes() == b"\x00" + mark
        assert await socket.receive_bytes() == b"\x01" + mark
        await socket.send_bytes(b"\x00GET /there HTTP/1.0\r\n\r\n")
        text = b""
        while not text.endswith(b"x\n"):
            piece = await socket.receive_bytes(timeout=30)
            assert piece[:1] == b"\x00"
            text += piece[1:]
    assert b"hello /there" in text
