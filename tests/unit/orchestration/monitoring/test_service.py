"""Watching sites, on both databases, with sites in memory and a clock that stands still."""

import asyncio
from dataclasses import dataclass, field, replace

import pytest

from twinfra.core.bus import Event, Outbox
from twinfra.core.errors import NotFound, Unavailable
from twinfra.orchestration.catalogue.client import Provider
from twinfra.orchestration.monitoring.model import Check, Free, Probe
from twinfra.orchestration.monitoring.service import Monitor
from twinfra.orchestration.monitoring.settings import MonitoringSettings
from twinfra.orchestration.monitoring.store import OUTBOX, SqlStatusStore
from twinfra.orchestration.monitoring.wiring import MIGRATIONS
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.waiting import wait_for

SETTINGS = MonitoringSettings()


class Bus:
    """Keeps what is published."""

    def __init__(self):
        self.events = []

    async def publish(self, event):
        self.events.append((event.type.rsplit(".", 1)[-1], event.data["site"]))


@dataclass
class Sites:
    """Sites in memory: directory and probe at once."""

    clock: VirtualClock
    known: dict[str, Provider] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    hold: dict[str, asyncio.Event] = field(default_factory=dict)
    looks: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    away: bool = False
    tokenless: bool = False

    def add(self, *names):
        for name in names:
            self.known[name] = Provider(name, "hpc", interlink_url=f"https://{name}")

    async def providers(self):
        if self.away:
            raise Unavailable("the catalogue is away")
        return list(self.known.values())

    async def look(self, provider):
        if self.tokenless:
            raise Unavailable("no token")
        self.looks.append(provider.name)
        if provider.name in self.hold:
            await self.hold[provider.name].wait()
        reason = self.bad.get(provider.name)
        check = Check("interlink", ok=reason is None, reason=reason or "")
        return Probe(self.clock.now(), (check,), Free(cpu=4))

    async def forget(self, provider):
        self.forgotten.append(provider.name)


class World:
    """A monitor that runs on a database."""

    def __init__(self, database):
        self.database, self.clock, self.bus = database, VirtualClock(), Bus()
        self.sites = Sites(self.clock)
        self.shown, self.hidden = {}, []
        self.tasks = []
        self.begin()

    def begin(self):
        outbox = Outbox(self.database, OUTBOX, self.bus)
        self.store = SqlStatusStore(self.database, outbox)
        self.monitor = Monitor(
            self.sites,
            self.sites,
            self.store,
            SETTINGS,
            self.clock,
            show=lambda status: self.shown.update({status.site: status}),
            hide=self.hidden.append,
        )
        self.tasks = [asyncio.create_task(loop()) for loop in (self.monitor.run, outbox.run)]

    async def end(self):
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def up(self, name, up=True):
        def so():
            return any(s.site == name and s.up is up for s in self.monitor.statuses())

        await self.until(so, f"{name} is {'up' if up else 'down'}")

    async def until(self, predicate, what=""):
        async def moved():
            await self.clock.advance(0.5)
            return predicate()

        await wait_for(moved, what=what)


@pytest.fixture
async def world(database):
    await database.migrate(MIGRATIONS)
    made = World(database)
    yield made
    await made.end()


async def test_sites_are_taken_up_and_announced_when_the_catalogue_has_them(world):
    world.sites.add("hpc-b", "edge-c")
    await world.up("hpc-b")
    await world.up("edge-c")
    assert [status.site for status in world.monitor.statuses()] == ["edge-c", "hpc-b"]
    await world.until(lambda: len(world.bus.events) == 2)
    assert sorted(world.bus.events) == [("up", "edge-c"), ("up", "hpc-b")]
    assert world.shown["hpc-b"].free.cpu == 4


async def test_each_turn_is_announced_once_when_a_site_goes_and_comes(world):
    world.sites.add("hpc-b")
    await world.up("hpc-b")
    world.sites.bad["hpc-b"] = "connection refused"
    await world.up("hpc-b", up=False)
    assert world.monitor.status("hpc-b").reason == "interlink: connection refused"
    del world.sites.bad["hpc-b"]
    await world.up("hpc-b")
    await world.until(lambda: len(world.bus.events) == 3)
    assert [kind for kind, _ in world.bus.events] == ["up", "down", "up"]


async def test_others_are_watched_on_when_one_site_hangs(world):
    world.sites.hold["hpc-b"] = asyncio.Event()
    world.sites.add("hpc-b", "edge-c")
    await world.up("edge-c")
    before = len(world.sites.looks)
    await world.until(lambda: world.sites.looks.count("edge-c") > before + 3)
    assert world.sites.looks.count("hpc-b") == 1


async def test_site_is_looked_at_until_sure_when_asked_now(world):
    world.sites.add("hpc-b")
    await world.up("hpc-b")
    world.sites.bad["hpc-b"] = "gone"
    assert (await world.monitor.probe_now("hpc-b")).up is False
    del world.sites.bad["hpc-b"]
    answers = await asyncio.gather(*(world.monitor.probe_now("hpc-b") for _ in range(5)))
    assert {answer.up for answer in answers} == {True}


async def test_new_site_is_found_when_asked_now_before_the_catalogue_was_read(world):
    await world.clock.advance(0.1)
    world.sites.add("hpc-b")
    assert (await world.monitor.probe_now("hpc-b")).up
    with pytest.raises(NotFound):
        await world.monitor.probe_now("nowhere")
    with pytest.raises(NotFound):
        world.monitor.status("nowhere")


async def test_site_is_dropped_and_announced_when_the_catalogue_forgets_it(world):
    world.sites.add("hpc-b")
    await world.up("hpc-b")
    del world.sites.known["hpc-b"]
    await world.until(lambda: not world.monitor.statuses(), "hpc-b is dropped")
    await world.until(lambda: world.bus.events[-1:] == [("down", "hpc-b")])
    assert (world.hidden, world.sites.forgotten) == (["hpc-b"], ["hpc-b"])
    assert await world.store.statuses() == {}


async def test_sites_are_watched_on_when_the_catalogue_is_away(world):
    world.sites.add("hpc-b")
    await world.up("hpc-b")
    world.sites.away = True
    count = len(world.sites.looks)
    await world.until(lambda: len(world.sites.looks) > count + 2)
    assert world.monitor.status("hpc-b").up


async def test_site_stays_as_it_was_when_it_is_us_who_cannot_look(world):
    world.sites.add("hpc-b")
    await world.up("hpc-b")
    world.sites.tokenless = True
    for _ in range(20):
        await world.clock.advance(1)
    assert world.monitor.status("hpc-b").up


async def test_connections_are_closed_when_a_site_moves(world):
    world.sites.add("hpc-b")
    await world.up("hpc-b")
    world.sites.known["hpc-b"] = replace(world.sites.known["hpc-b"], edge_url="https://new")
    await world.until(lambda: world.sites.forgotten == ["hpc-b"])


async def test_status_outlives_the_process_when_it_restarts(world):
    world.sites.add("hpc-b", "edge-c")
    await world.up("hpc-b")
    await world.up("edge-c")
    await world.until(lambda: len(world.bus.events) == 2)
    since = world.monitor.status("hpc-b").since
    await world.end()
    del world.sites.known["edge-c"]
    world.begin()
    await world.up("hpc-b")
    assert world.monitor.status("hpc-b").since == since
    # a stop between telling and noting that it was told tells "up" once more
    await world.until(lambda: world.bus.events[-1] == ("down", "edge-c"))


async def test_job_failures_count_once_when_an_event_is_told_again(world):
    world.sites.add("hpc-b")
    await world.up("hpc-b")
    lost = {"site": "hpc-b", "uid": "u1", "attempt": 1, "phase": "Failed", "reason": "KeeperLost"}
    event = Event("org.twinfra.job.state", "/t", data=lost, time=world.clock.now())
    for _ in range(3):
        await world.monitor.count(event)
    rate = world.monitor.status("hpc-b").job_failure_rate
    assert rate == pytest.approx(1 / 3, abs=0.01)
    fine = replace(event, data={**lost, "uid": "u2", "phase": "Succeeded"})
    await world.monitor.count(fine)
    assert world.monitor.status("hpc-b").job_failure_rate < rate
    await world.monitor.count(replace(event, data="nonsense"))
