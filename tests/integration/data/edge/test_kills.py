"""kill -9 of the edge at any moment: what was confirmed is there, nothing half, each told once."""

import asyncio
import random
import signal
import sys
from collections import Counter

import aiohttp
import pytest

from twinfra.core.http.client import HttpClient
from twinfra.data.edge.client import EdgeClient
from twinfra.testkit.issuer import TestIssuer
from twinfra.testkit.ports import listening
from twinfra.testkit.waiting import wait_for

RUN = """
import asyncio, sys
from pathlib import Path
from twinfra.core.home import Home
from twinfra.core.service import Context, Stop, run_services
from twinfra.data.edge.wiring import build
context = Context(Home(Path(sys.argv[1])))
asyncio.run(run_services(context, [build(context, "one")], stop=Stop()))
"""
KILLS = 3


def body_of(number: int) -> bytes:
    return bytes([number % 256]) * (5_000 + 2_003 * (number % 50))


class Life:
    """An edge that is killed and comes back."""

    def __init__(self, context):
        self.context = context
        self.port = context.home.port("edge@one")
        self.child = None

    async def begin(self) -> None:
        log = (self.context.home.logs / "edge.log").open("ab")
        self.child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", RUN, str(self.context.home.root)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        await wait_for(lambda: listening(self.port), timeout_s=40, what="the edge")

    async def end(self) -> None:
        if self.child is not None and self.child.returncode is None:
            self.child.send_signal(signal.SIGKILL)
            await self.child.wait()


@pytest.mark.slow
@pytest.mark.story(
    "`kill -9` of every twinfra and NATS process, at each of the steps 3 to 6, then"
    " `twinfra up` again: the twin finishes, keepers are adopted, nothing is lost"
)
async def test_nothing_confirmed_is_lost_when_the_edge_is_killed(context):
    life, url = Life(context), context.url("edge@one")
    root = context.home.site("one").storage
    confirmed, sent, count = set(), set(), iter(range(100_000))
    with TestIssuer.for_home(context.home) as issuer:
        token = issuer.token(aud=url, scope="storage.read:/ storage.modify:/")
        headers = {"Authorization": f"Bearer {token}"}
        connector = aiohttp.TCPConnector(ssl=context.tls_client())
        async with aiohttp.ClientSession(connector=connector, headers=headers) as session:

            async def put_many() -> None:
                while True:
                    number = next(count)
                    path = f"d{number % 7}/f{number}"
                    sent.add(path)
                    try:
                        async with session.put(f"{url}/dav/{path}", data=body_of(number)) as got:
                            if got.status == 201:
                                confirmed.add(path)
                    except aiohttp.ClientError:
                        await asyncio.sleep(0.05)

            await life.begin()
            writers = [asyncio.create_task(put_many()) for _ in range(4)]
            try:
                for turn in range(KILLS):
                    before = len(confirmed)
                    await wait_for(
                        lambda: len(confirmed) > before + 5,  # noqa: B023 - awaited in this turn
                        timeout_s=40,
                        what="uploads",
                    )
                    await asyncio.sleep(random.random() * 0.2)
                    await life.end()
                    (root / f"behind{turn}").write_bytes(b"written while it was away")
                    await life.begin()
            finally:
                for writer in writers:
                    writer.cancel()
                await asyncio.gather(*writers, return_exceptions=True)
        there = {
            str(path.relative_to(root))
            for path in root.rglob("*")
            if path.is_file() and ".twinfra" not in path.parts
        }
        behind = {f"behind{turn}" for turn in range(KILLS)}
        assert confirmed <= there
        assert there <= sent | behind
        for path in there - behind:
            assert (root / path).read_bytes() == body_of(int(path.partition("/f")[2]))
        assert not list((root / ".twinfra/incoming").iterdir())
        told = await all_told(url, context, issuer, there)
        assert told == dict.fromkeys(there, 1)
    await life.end()


async def all_told(url, context, issuer, there) -> dict[str, int]:
    """Read every event from the first one on; returns how often each creation was told."""

    async def token() -> str:
        return issuer.service_token("reader", aud=url)

    client = EdgeClient(HttpClient(url, tls=context.tls_client(), token=token))
    told = Counter()

    async def read(channel: str) -> None:
        async for frame in client.frames(channel, last_event_id="0"):
            if frame.storage is not None:
                assert frame.storage.change == "created"
                told[frame.storage.path.lstrip("/")] += 1

    try:
        channel = await client.channel("all")
        await client.subscribe(channel)
        reading = asyncio.create_task(read(channel))
        await wait_for(
            lambda: reading.done() or set(told) >= there, timeout_s=40, what="every event"
        )
        reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            reading.result()
    finally:
        await client.close()
    return dict(told)
