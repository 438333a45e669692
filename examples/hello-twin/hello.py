"""A twin of a poem: it knows how many words the poem has. Needs `twinfra up` and a login."""

import asyncio
import sys
from pathlib import Path

from twinfra.cli.session import Session
from twinfra.data.datasets.client import Did
from twinfra.data.storage.client import storage_at

HERE = Path(__file__).parent
POEM = b"a twin is a model\nthat listens\n"


async def main(home: Path, image: str) -> None:
    """Put a poem at the edge, have its words counted, read the answer."""
    async with Session.of(home) as session:
        edge = session.context.url("edge@edge-c") + "/dav/poems/one.txt"
        await session.notifications.create_trigger(
            "edge-c", "/poems", "climate:poems", name="poems", existing=True
        )
        events = session.notifications.events(since="beginning")
        async with storage_at(edge, session.storage(edge)) as (storage, path):
            await storage.write(path, POEM)
        async for event in events:
            if event.type == "org.twinfra.dataset.file-added":
                break
        body = {"template": (HERE / "hello.yaml").read_text(), "parameters": {"image": image}}
        door = session.http("deployments")
        made = await door.request("POST", "/deployments", json={**body, "userGroup": "climate"})
        async for event in events:
            if event.type == "org.twinfra.dataset.version-added":
                break
        words = await session.datasets.resolve(Did.parse("climate:words"))
        replica = (await session.datasets.list_replicas([words]))[0]
        url = next(url for urls in replica.pfns.values() for url in urls)
        async with storage_at(url, session.storage(url)) as (storage, path):
            counted = b"".join([block async for block in storage.read(path)])
        print(f"{made.json()['uuid']}: {int(counted)} words")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
