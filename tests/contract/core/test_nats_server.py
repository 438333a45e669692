"""What each nkey may do on the federation's own NATS server."""

import stat
from contextlib import asynccontextmanager
from pathlib import Path

import nats
import pytest
from nats.js.api import ConsumerConfig, DeliverPolicy, StreamConfig

from twinfra.core.bus import Bus, Event
from twinfra.core.errors import Unavailable
from twinfra.core.nats_server import OBSERVER, nats_server_argv, nats_server_program, nkey_file
from twinfra.core.service import Context
from twinfra.testkit.ports import listening
from twinfra.testkit.processes import running
from twinfra.testkit.waiting import wait_for

SITES = ["cloud-a", "edge-c"]


@pytest.fixture
def server(home):
    argv = nats_server_argv(home, ["datasets", "monitoring"], SITES)
    with running(argv, log=home.logs / "nats.log", ready=lambda: listening(home.port("nats"))):
        yield home


@asynccontextmanager
async def bus_of(home, name):
    nkey_file(home, name)
    bus = Context(home).bus(name)
    await bus.connect()
    yield bus
    await bus.close()


@asynccontextmanager
async def plain(home, name):
    """A client of somebody else that knows the nkey of `name`; its errors are noted."""
    errors = []

    async def note(error):
        errors.append(str(error))

    seed = str(nkey_file(home, name))
    client = await nats.connect(Context(home).bus_url, nkeys_seed=seed, error_cb=note)
    client.noted = errors
    yield client
    await client.close()


def event(site, kind="org.twinfra.storage.created"):
    return Event(kind, "urn:test", site=site)


async def test_a_service_publishes_for_every_site_when_it_is_central(server):
    async with bus_of(server, "datasets") as bus:
        for site in ("hub", *SITES):
            assert await bus.publish(event(site))


@pytest.mark.parametrize("kind", ["edge", "plugin", "interlink"])
async def test_a_site_publishes_for_itself_when_it_runs(server, kind):
    async with bus_of(server, "datasets"), bus_of(server, f"{kind}@edge-c") as bus:
        assert await bus.publish(event("edge-c"))


@pytest.mark.parametrize("site", ["cloud-a", "hub", "edge"])
async def test_a_site_is_refused_when_it_publishes_for_another(server, site):
    async with bus_of(server, "datasets") as reader, plain(server, "edge@edge-c") as client:
        await client.publish(f"twinfra.event.{site}.storage.created", b"{}")
        await wait_for(lambda: client.noted)
        assert "permissions violation" in client.noted[0].lower()
        info = await reader.stream.stream_info("EVENTS")
        assert info.state.messages == 0


async def test_a_site_is_told_when_it_publishes_for_another_by_our_own_client(server, monkeypatch):
    async with bus_of(server, "datasets"), bus_of(server, "plugin@edge-c") as bus:
        with pytest.raises(Unavailable):
            await bus.publish(event("cloud-a"))


async def test_a_site_follows_the_stream_when_it_needs_news(server):
    import asyncio

    seen = []

    async def handler(found):
        seen.append(found.id)

    async with bus_of(server, "datasets") as central, bus_of(server, "plugin@edge-c") as bus:
        told = event("hub", "org.twinfra.replica.available")
        task = asyncio.create_task(
            bus.consume("plugin-edge-c", [told.type], handler, from_now=False)
        )
        await central.publish(told)
        await wait_for(lambda: seen == [told.id])
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("name", ["edge@edge-c", OBSERVER])
@pytest.mark.parametrize("deed", ["purge", "delete", "update", "delete message"])
async def test_the_stream_is_safe_when_somebody_small_would_destroy_it(server, name, deed):
    async with bus_of(server, "datasets") as central, plain(server, name) as client:
        await central.publish(event("hub"))
        stream = client.jetstream(timeout=1)
        attempts = {
            "purge": lambda: stream.purge_stream("EVENTS"),
            "delete": lambda: stream.delete_stream("EVENTS"),
            "update": lambda: stream.update_stream(StreamConfig("EVENTS", subjects=["x.>"])),
            "delete message": lambda: stream.delete_msg("EVENTS", 1),
        }
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await attempts[deed]()
        assert (await central.stream.stream_info("EVENTS")).state.messages == 1


async def test_an_observer_reads_when_it_asks(server):
    async with bus_of(server, "datasets") as central, plain(server, OBSERVER) as client:
        await central.publish(event("hub"))
        config = ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
        found = await client.jetstream().subscribe("twinfra.event.>", config=config)
        message = await found.next_msg(timeout=10)
        assert message.subject == "twinfra.event.hub.storage.created"
        core = await client.subscribe("twinfra.event.>")
        await client.flush()
        await central.publish(event("cloud-a"))
        assert (await core.next_msg(timeout=10)).subject == "twinfra.event.cloud-a.storage.created"
        assert client.noted == []


@pytest.mark.parametrize("subject", ["twinfra.event.hub.x", "_INBOX.abc", "$SYS.x"])
async def test_an_observer_is_refused_when_it_publishes(server, subject):
    async with bus_of(server, "datasets"), plain(server, OBSERVER) as client:
        await client.publish(subject, b"{}")
        await wait_for(lambda: client.noted)
        assert "permissions violation" in client.noted[0].lower()


@pytest.mark.story("services and people as the design says")
async def test_nobody_comes_in_when_they_have_no_key_of_ours(server, tmp_path):
    stranger = nkey_file(type(server)(tmp_path / "other"), "datasets")
    for seed in (None, str(stranger)):
        bus = Bus(Context(server).bus_url, nkey_file=seed)
        with pytest.raises(Unavailable, match="no NATS server"):
            await bus.connect(timeout_s=0)
        assert not bus.connected


def test_seeds_are_ours_alone_when_made(home):
    path = nkey_file(home, "datasets")
    assert path.read_text().startswith("SU")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    text = Path(nats_server_argv(home, ["datasets"], SITES)[-1]).read_text()
    assert path.read_text() == before
    assert before.strip() not in text
    assert "127.0.0.1" in text


@pytest.mark.story(
    "The test kit: fixtures that start a real server in its own folder, the contract"
    " suites, a virtual clock"
)
def test_the_server_is_found_when_it_came_with_the_wheel():
    assert nats_server_program().endswith("nats-server")
