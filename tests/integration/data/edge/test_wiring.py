"""The edge as `wiring.build` makes it, for a home, with the federation's tokens and catalogue."""

import asyncio

import aiohttp

from twinfra.core.service import Stop, run_services
from twinfra.data.edge.wiring import build
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for


async def test_edge_of_a_home_serves_and_tells_and_comes_back(context):
    home, url = context.home, context.url("edge@one")
    port = home.port("edge@one")
    with TestIssuer.for_home(home) as issuer:
        token = issuer.token(aud=url, scope="storage.read:/ storage.modify:/")
        headers = {"Authorization": f"Bearer {token}"}
        for turn in range(2):
            stop = Stop()
            running = asyncio.create_task(run_services(context, [build(context, "one")], stop=stop))
            await wait_for(lambda: listening(port), timeout_s=20, what="the door")
            connector = aiohttp.TCPConnector(ssl=context.tls_client())
            async with aiohttp.ClientSession(connector=connector) as session:
                async with session.put(f"{url}/dav/d/f{turn}", data=b"x", headers=headers) as got:
                    assert got.status == 201
                async with session.get(f"{url}/dav/d", headers=headers) as got:
                    names = (await got.text()).split()
                    assert sorted(names) == [f"f{n}" for n in range(turn + 1)]
                async with session.get(f"{url}/healthz") as got:
                    assert await got.json() == {"status": "ok", "service": "edge@one"}
                order = {**headers, "Source": "https://localhost:1/f"}
                async with session.request("COPY", f"{url}/dav/f", headers=order) as got:
                    assert got.status == 503  # the catalogue is away: nobody knows
            stop.now.set()
            await running
    assert (home.site("one").storage / "d/f1").read_bytes() == b"x"
    assert (home.site("one").db / "edge.sqlite").exists()
