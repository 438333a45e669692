"""COPY between two edges: pulled, pushed, refused, broken off, spoilt and slowed down."""

import asyncio
import os
import re
import time
import zlib

import aiohttp
from aiohttp import web

from twinfra.testkit.waiting import wait_for

BODY = os.urandom(3_000_000)


def done(answer) -> list[int]:
    """Return the numbers of bytes that the markers told, in order."""
    return [int(n) for n in re.findall(r"Stripe Bytes Transferred: (\d+)", answer.text)]


def last(answer) -> str:
    return answer.text.rstrip().splitlines()[-1]


async def test_pull_brings_the_file_with_markers(pair, pair_http):
    left, right = pair
    to_left, to_right = pair_http
    await to_left("PUT", "/in/f", data=BODY)
    got = await to_right(
        "COPY",
        "/deep/er/f",
        Source=f"{left.dav}/in/f",
        TransferHeaderAuthorization=f"Bearer {left.token('storage.read:/in')}",
        Credential="none",
        X_Number_Of_Streams="4",
        token=right.token("storage.modify:/deep"),
    )
    assert got.status == 202
    assert last(got) == "success: Created"
    assert done(got)[0] == 0
    assert done(got)[-1] == len(BODY)
    assert "RemoteConnections: tcp:" in got.text
    assert (right.root / "deep/er/f").read_bytes() == BODY
    await right.settle()
    assert await right.changes() == [("created", "/deep/er/f")]


async def test_push_brings_the_file_with_markers(pair, pair_http):
    left, right = pair
    to_left, _ = pair_http
    await to_left("PUT", "/in/f", data=BODY)
    got = await to_left(
        "COPY",
        "/in/f",
        Destination=f"{right.dav.replace('https', 'davs')}/out/f",
        TransferHeaderAuthorization=f"Bearer {right.token('storage.create:/out')}",
        token=left.token("storage.read:/in"),
    )
    assert (got.status, last(got)) == (202, "success: Created")
    assert done(got)[-1] == len(BODY)
    assert (right.root / "out/f").read_bytes() == BODY


async def test_copy_is_refused_when_rights_are_missing(pair, pair_http):
    left, right = pair
    to_left, to_right = pair_http
    await to_left("PUT", "/in/f", data=BODY)
    source = {"Source": f"{left.dav}/in/f"}
    good = {"TransferHeaderAuthorization": f"Bearer {left.token('storage.read:/')}"}
    assert (await to_right("COPY", "/f", token="", **source, **good)).status == 401
    weak = right.token("storage.read:/")
    assert (await to_right("COPY", "/f", token=weak, **source, **good)).status == 403
    got = await to_right("COPY", "/f", **source)
    assert last(got).startswith("failure: the source answered 401")
    bad = {"TransferHeaderAuthorization": f"Bearer {left.token('storage.read:/other')}"}
    got = await to_right("COPY", "/f", **source, **bad)
    assert last(got).startswith("failure: the source answered 403")
    create = right.token("storage.create:/")
    assert last(await to_right("COPY", "/f", token=create, **source, **good)).startswith("success")
    assert (await to_right("COPY", "/f", token=create, **source, **good)).status == 403
    assert (await to_right("COPY", "/f", Overwrite="F", **source, **good)).status == 412
    assert (right.root / "f").read_bytes() == BODY


async def test_only_registered_storages_are_connected_to(pair, pair_http, peers):
    left, _ = pair
    _, to_right = pair_http
    knocks = []

    async def knock(reader, writer):
        knocks.append(1)
        writer.close()

    server = await asyncio.start_server(knock, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    for url in (
        f"https://localhost:{port}/dav/f",
        f"https://127.0.0.1:{port}/dav/f",
        f"http://localhost:{left.port}/dav/f",
        "http://169.254.169.254/latest/meta-data",
        "https://[::1]/f",
        "https://2130706433/f",
    ):
        assert (await to_right("COPY", "/f", Source=url)).status == 403, url
        await to_right("PUT", "/s", data=b"x")
        assert (await to_right("COPY", "/s", Destination=url)).status == 403, url
    for url in ("file:///etc/passwd", "https://u:p@localhost/f", "ftp://x/f", "nonsense"):
        assert (await to_right("COPY", "/f", Source=url)).status == 400, url
    assert f"localhost:{port}" in peers.refused
    assert knocks == []
    server.close()
    await server.wait_closed()


async def test_redirect_is_followed_without_the_token_when_it_leads_elsewhere(
    pair, pair_http, peers, tls
):
    left, right = pair
    _, to_right = pair_http
    seen = []
    target = {"url": f"{left.dav}/f"}

    async def door(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        if request.path == "/dav/f":
            raise web.HTTPTemporaryRedirect(target["url"])
        return web.Response(body=BODY, headers={"Digest": f"adler32={zlib.adler32(BODY):08x}"})

    async with foreign(door, tls) as port:
        peers.sites["localhost", port] = "foreign"
        url = f"https://localhost:{port}"
        order = {"Source": f"{url}/dav/f", "TransferHeaderAuthorization": "Bearer secret"}
        got = await to_right("COPY", "/f", **order)
        assert last(got).startswith("failure: the source answered 401")  # the token stayed behind
        target["url"] = f"{url}/pool/f"
        assert last(await to_right("COPY", "/f", **order)) == "success: Created"
        assert seen == ["Bearer secret"] * 3
        target["url"] = "http://169.254.169.254/latest"
        got = await to_right("COPY", "/f", **order)
        assert last(got).startswith("failure: redirected to where it must not go")
    assert (right.root / "f").read_bytes() == BODY


async def test_copy_fails_when_checksums_differ(pair, pair_http, peers, tls):
    _, right = pair
    _, to_right = pair_http
    headers = {"Digest": "adler32=00000001"}

    async def door(request: web.Request) -> web.Response:
        return web.Response(body=BODY, headers=headers)

    async with foreign(door, tls) as port:
        peers.sites["localhost", port] = "foreign"
        order = {"Source": f"https://localhost:{port}/f"}
        got = await to_right("COPY", "/d/f", **order)
        assert last(got).startswith("failure: Checksum mismatch: adler32 is")
        headers.clear()
        got = await to_right("COPY", "/d/f", **order)
        assert last(got).startswith("failure: the source tells no checksum")
        got = await to_right("COPY", "/d/f", Digest="adler32=00000001", **order)
        assert last(got).startswith("failure: Checksum mismatch")
        assert not (right.root / "d").exists()
        got = await to_right("COPY", "/d/f", RequireChecksumVerification="false", **order)
        assert last(got) == "success: Created"


async def test_push_takes_back_what_arrived_wrong(pair_http, peers, tls):
    to_left, _ = pair_http
    await to_left("PUT", "/f", data=BODY)
    seen = []

    async def door(request: web.Request) -> web.Response:
        seen.append(request.method)
        await request.read()
        return web.Response(status=201, headers={"Digest": "adler32=00000001"})

    async with foreign(door, tls) as port:
        peers.sites["localhost", port] = "foreign"
        got = await to_left("COPY", "/f", Destination=f"https://localhost:{port}/f")
    assert last(got).startswith("failure: Checksum mismatch")
    assert seen == ["PUT", "DELETE"]


async def test_nothing_is_seen_when_the_source_dies_half_way(pair, pair_http):
    left, right = pair
    to_left, _ = pair_http
    await right.shut()
    await right.open(rate_limit_bytes_per_s=256 * 1024, marker_interval_s=0.1)
    await to_left("PUT", "/f", data=BODY)
    connector = aiohttp.TCPConnector(ssl=right.client_tls())
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.request(
            "COPY",
            f"{right.dav}/d/f",
            headers={
                "Authorization": f"Bearer {right.token()}",
                "Source": f"{left.dav}/f",
                "TransferHeaderAuthorization": f"Bearer {left.token()}",
            },
        ) as answer,
    ):
        text = ""
        while not re.search(r"Transferred: [1-9]", text):
            text += (await answer.content.readany()).decode()
        assert not (right.root / "d").exists()
        for connection in list(left.running._door._connections):
            connection.cut()
        rest = (await answer.read()).decode()
    assert rest.rstrip().splitlines()[-1].startswith("failure: ")
    assert not (right.root / "d").exists()
    assert not list((right.root / ".twinfra/incoming").iterdir())


async def test_copy_is_given_up_when_its_orderer_leaves(pair, pair_http):
    left, right = pair
    to_left, _ = pair_http
    await right.shut()
    await right.open(rate_limit_bytes_per_s=64 * 1024)
    await to_left("PUT", "/f", data=BODY)
    headers = {
        "Source": f"{left.dav}/f",
        "TransferHeaderAuthorization": f"Bearer {left.token()}",
        "Authorization": f"Bearer {right.token()}",
    }
    connector = aiohttp.TCPConnector(ssl=right.client_tls())
    async with aiohttp.ClientSession(connector=connector) as session:
        answer = await session.request("COPY", f"{right.dav}/f", headers=headers)
        await answer.content.readany()
        answer.close()
    incoming = right.root / ".twinfra/incoming"
    await wait_for(lambda: not list(incoming.iterdir()), timeout_s=10, what="the draft to go")
    assert not (right.root / "f").exists()


async def test_copy_keeps_to_the_rate_of_its_link(pair, pair_http):
    left, right = pair
    to_left, to_right = pair_http
    await to_left("PUT", "/f", data=BODY[:1_000_000])
    source = {
        "Source": f"{left.dav}/f",
        "TransferHeaderAuthorization": f"Bearer {left.token()}",
    }
    await right.shut()
    await right.open(rate_limit_bytes_per_s_by_link={"left": 500_000}, marker_interval_s=0.2)
    started = time.monotonic()
    got = await to_right("COPY", "/f", **source)
    took = time.monotonic() - started
    assert last(got) == "success: Created"
    assert took > 1.5
    assert len(done(got)) >= 5
    assert done(got) == sorted(done(got))


async def test_order_is_refused_when_it_makes_no_sense(pair, pair_http):
    left, _ = pair
    _, to_right = pair_http
    source = {"Source": f"{left.dav}/f"}
    both = {"Destination": f"{left.dav}/g"}
    assert (await to_right("COPY", "/f", **source, **both)).status == 400
    assert (await to_right("COPY", "/f", **source, Credential="gridsite")).status == 400
    assert (await to_right("COPY", "/f", **source, TransferHeaderHost="x")).status == 400
    assert (await to_right("COPY", "/f")).status == 400
    assert (await to_right("COPY", "", **source)).status == 405
    await to_right("MKCOL", "/d")
    assert (await to_right("COPY", "/d", **source)).status == 405


class foreign:  # noqa: N801 - reads as a verb where it is used
    """A storage of somebody else's on a free port."""

    def __init__(self, handler, tls):
        self._handler, self._tls = handler, tls

    async def __aenter__(self) -> int:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handler)
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls.context())
        await site.start()
        return self._runner.addresses[0][1]

    async def __aexit__(self, *_):
        await self._runner.cleanup()
