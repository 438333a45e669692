"""Monitoring over sockets: it finds sites in the catalogue, asks their doors, says how they are."""

import asyncio

import pytest

from twinfra.core.bus import Bus, Event
from twinfra.core.errors import NotFound
from twinfra.orchestration.catalogue.client import CatalogueClient, Provider
from twinfra.orchestration.monitoring.client import MonitoringClient
from twinfra.testkit import servers
from twinfra.testkit.waiting import wait_for


@pytest.fixture
async def world(federation, tmp_path):
    text = "[monitoring]\nprobe_interval_s = 0.1\ncatalogue_interval_s = 0.1\n"
    folder = tmp_path / "nats"
    folder.mkdir()
    with servers.nats(folder, port=federation.home.port("nats")):
        federation.home.settings_file.parent.mkdir(parents=True, exist_ok=True)
        federation.home.settings_file.write_text(text)
        async with federation.running("catalogue", "monitoring"):
            yield federation


@pytest.fixture
def alice(world):
    return MonitoringClient(world.client("monitoring", world.person("monitoring")))


async def register(world, provider):
    token = world.service("catalogue", f"plugin@{provider.name}")
    await CatalogueClient(world.client("catalogue", token)).register(provider)


async def until(alice, name, up):
    async def so():
        try:
            status = await alice.status(name)
        except NotFound:
            return None
        return status if status.up is up else None

    return await wait_for(so, timeout_s=10, what=f"{name} is {'up' if up else 'down'}")


async def test_every_route_wants_a_token(world, guarded):
    for method, path in (
        ("GET", "/status"),
        ("GET", "/status/hpc-b"),
        ("POST", "/probe/hpc-b"),
        ("GET", "/metrics"),
    ):
        await guarded("monitoring", method, path)


async def test_unknown_site_is_404_with_problem_details(world):
    client = world.client("monitoring", world.person("monitoring"))
    for method, path in (("GET", "/status/nowhere"), ("POST", "/probe/nowhere")):
        reply = await client.request(method, path, expect=(404,))
        assert reply.json()["code"] == "not-found"
        assert reply.headers["Content-Type"] == "application/problem+json"


async def test_site_is_followed_when_it_comes_goes_and_comes_back(
    world, alice, bus_events, make_doors
):
    site = make_doors()
    async with site.open(world, "hpc-b") as url:
        await register(world, Provider("hpc-b", "hpc", interlink_url=url, edge_url=url))
        status = await until(alice, "hpc-b", up=True)
        assert (status.free.cpu, status.free.slots, status.free.gpus) == (5.5, 7, 2)
        assert (status.queue.length, status.queue.wait_s) == (2, 30)
        assert {check.name for check in status.checks} == {"interlink", "edge"}
        assert site.tokens[0].startswith("Bearer ")
        assert [each.site for each in await alice.statuses()] == ["hpc-b"]
        site.status = 500
        status = await until(alice, "hpc-b", up=False)
        assert "interlink" in status.reason
        site.status = 200
        await until(alice, "hpc-b", up=True)
        metrics = await world.client("monitoring", world.person("monitoring")).request(
            "GET", "/metrics"
        )
        assert 'twinfra_site_up{site="hpc-b"} 1.0' in metrics.text()
        assert 'twinfra_site_free_slots{site="hpc-b"} 7.0' in metrics.text()
    status = await alice.probe("hpc-b")
    assert status.up is False
    assert status.failure_rate > 0
    await wait_for(lambda: len(bus_events) >= 4, what="four turns are on the bus")
    assert bus_events[:4] == ["site.up", "site.down", "site.up", "site.down"]


async def test_job_events_from_the_bus_count_when_the_site_failed_them(
    world, alice, raw_bus, make_doors
):

    site = make_doors()
    async with site.open(world, "hpc-b") as url:
        await register(world, Provider("hpc-b", "hpc", interlink_url=url))
        await until(alice, "hpc-b", up=True)
        data = {"site": "hpc-b", "uid": "u", "phase": "Failed", "reason": "KeeperLost"}

        async def counted():
            await raw_bus.publish(Event("org.twinfra.job.state", "/t", data=data, site="hpc-b"))
            return (await alice.status("hpc-b")).job_failure_rate > 0

        await wait_for(counted, what="the failed job counts")


async def test_ping_of_a_foreign_plugin_is_enough_when_it_says_only_ok(world, alice, make_doors):
    site = make_doors()
    site.body = "ok"
    async with site.open(world, "old-grid") as url:
        token = world.person("catalogue", "olga", ("operators",))
        client = CatalogueClient(world.client("catalogue", token))
        await client.register(Provider("old-grid", "hpc", interlink_url=url))
        status = await until(alice, "old-grid", up=True)
        assert (status.free.cpu, status.queue.wait_s) == (None, None)


@pytest.fixture
async def raw_bus(world):
    made = Bus(world.context.bus_url)
    await made.connect()
    yield made
    await made.close()


@pytest.fixture
async def bus_events(raw_bus):
    found = []

    async def handler(event):
        found.append(event.type.removeprefix("org.twinfra."))

    task = asyncio.create_task(
        raw_bus.consume("test", ["org.twinfra.site.*"], handler, from_now=False)
    )
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
