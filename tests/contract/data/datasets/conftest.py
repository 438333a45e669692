"""The service without its doors, on each database, with neighbours that do as they are told."""

import asyncio
from dataclasses import dataclass, field

import pytest
from sqlalchemy import select

from twinfra.access.model import Principal
from twinfra.core.bus import Bus
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.data.datasets.fakes import FakeAccounting, FakeTokens, FakeTransfers
from twinfra.data.datasets.model import Did, FileSpec, NewCollection, NewRule
from twinfra.data.datasets.model.rses import Protocol
from twinfra.data.datasets.service.dids import Attachment
from twinfra.data.datasets.service.rights import Caller
from twinfra.data.datasets.settings import DatasetsSettings
from twinfra.data.datasets.store.tables import outbox as outbox_rows
from twinfra.data.datasets.store.tables import workflow as work_rows
from twinfra.data.datasets.wiring import MIGRATIONS, Core, Neighbours, build_core
from twinfra.testkit.clock import VirtualClock
from twinfra.testkit.waiting import wait_for

DOORS = {
    domain: dict.fromkeys(
        ("read", "write", "delete", "third_party_copy_read", "third_party_copy_write"), 1
    )
    for domain in ("lan", "wan")
}


def make_principal(sub, groups=(), *, service=False):
    return Principal(
        issuer="https://issuer",
        sub=sub,
        client_id=None,
        groups=frozenset(groups),
        scopes=(),
        actor=None,
        token=sub,
        is_service=service,
        primary_group=next(iter(groups), None),
    )


@dataclass
class World:
    core: Core
    clock: object
    transfers: FakeTransfers
    tokens: FakeTokens
    accounting: FakeAccounting
    callers: dict[str, Caller] = field(default_factory=dict)

    @property
    def services(self):
        return self.core.services

    async def caller(self, sub, groups=(), *, service=False):
        if sub not in self.callers:
            who = make_principal(sub, groups, service=service)
            self.callers[sub] = await self.services.accounts.caller(who)
        return self.callers[sub]

    async def alice(self):
        return await self.caller("alice", ["climate"])

    async def bob(self):
        return await self.caller("bob", ["hydrology"])

    async def robot(self):
        return await self.caller("service:edge", service=True)

    async def rse(self, name, **attributes):
        robot = await self.robot()
        await self.services.rses.add(robot, name, {})
        for key, value in {"site": name.lower(), "oidc_base_path": "/dav", **attributes}.items():
            await self.services.rses.add_attribute(robot, name, key, value)
        door = Protocol("https", f"{name.lower()}.test", 443, "/dav/datasets/", "", DOORS)
        await self.services.rses.add_protocol(robot, name, door)

    async def dataset(self, name="climate:scenarios", files=("a", "b"), rses=("EDGE-C",)):
        """Make a dataset whose files stand at `rses`; returns the files."""
        alice, did = await self.alice(), Did.parse(name)
        specs = [
            FileSpec(Did(did.scope, f"{did.name}/{f}"), 10, f"{i:08x}", None)
            for i, f in enumerate(files)
        ]
        await self.services.dids.add(alice, [NewCollection(did)])
        for rse in rses:
            await self.services.replicas.add(alice, rse, specs)
        if specs:
            await self.attach(did, *(spec.did for spec in specs))
        return specs

    async def attach(self, parent, *children):
        parent = parent if isinstance(parent, Did) else Did.parse(parent)
        await self.services.dids.attach(await self.alice(), [Attachment(parent, list(children))])

    async def rule(self, did, expression, copies=1, **more):
        wanted = NewRule(Did.parse(did), copies, expression, **more)
        (rule_id,) = await self.services.rules.add(await self.alice(), [wanted])
        return rule_id

    async def state(self, rule_id):
        return (await self.services.rules.get(rule_id)).state.value

    async def becomes(self, rule_id, state, timeout_s=10):
        async def so():
            rule = await self.services.rules.get(rule_id)
            return rule if rule.state.value == state else None

        return await wait_for(so, timeout_s=timeout_s, what=f"rule {state}")

    async def gone(self, rule_id):
        async def so():
            async with self.core.work.read() as tx:
                return await tx.rules.get(rule_id) is None

        await wait_for(so, what="the rule is gone")

    async def events(self, type_=None):
        async with self.core.work.database.read() as connection:
            rows = await connection.execute(select(outbox_rows.c.event).order_by(outbox_rows.c.id))
            found = [row.event for row in rows]
        return [e for e in found if type_ is None or e["type"] == f"org.twinfra.{type_}"]

    async def advance(self, seconds):
        """Move the clock once nothing is under way: a step's pause counts from its end."""
        await wait_for(self._idle, what="the engine to be idle")
        await self.clock.advance(seconds)
        self.core.engine.look()

    async def _idle(self):
        if self.core.engine._busy or self.transfers.news:
            return False
        due = select(work_rows.c.key).where(
            work_rows.c.state.in_(["RUNNING", "UNDOING"]),
            work_rows.c.next_run_at <= self.clock.now(),
        )
        async with self.core.work.database.read() as connection:
            return (await connection.execute(due)).first() is None

    async def replicas(self, did):
        from twinfra.data.datasets.service.replicas import Listing

        rses = await self.services.replicas.check(Listing([Did.parse(did)]))
        found = {}
        async for row in self.services.replicas.each(Listing([Did.parse(did)], all_states=True)):
            there = found.setdefault(str(row.file.did), {})
            if row.rse_id is not None:
                there[rses[row.rse_id].name] = row.state.value
        return found


async def make(database, clock, **settings):
    transfers, tokens, accounting = FakeTransfers(), FakeTokens(), FakeAccounting()
    core, _ = build_core(
        database,
        Bus("nats://127.0.0.1:1"),
        clock,
        DatasetsSettings(**{"retry_first_s": 0.05, **settings}),
        Neighbours(transfers, tokens, accounting),
        source="https://datasets",
    )
    world = World(core, clock, transfers, tokens, accounting)
    from twinfra.core.bus import Event

    async def ended(job_id):
        await core.on_transfer(Event("org.twinfra.transfer.finished", "t", data={"job_id": job_id}))

    transfers.ended = ended
    return world


@pytest.fixture
def principal():
    return make_principal


@pytest.fixture
async def still(database):
    """The service with its engine at rest: nothing happens but what a test does."""
    await database.migrate(MIGRATIONS)
    return await make(database, SYSTEM_CLOCK)


@pytest.fixture
async def world(database):
    """The service at work."""
    await database.migrate(MIGRATIONS)
    made = await make(database, SYSTEM_CLOCK, usage_settle_s=0.05)
    async for one in _running(made):
        yield one


@pytest.fixture
async def slow_world(database):
    """The service at work, its clock in the test's hands."""
    await database.migrate(MIGRATIONS)
    made = await make(database, VirtualClock(), retry_first_s=10.0)
    async for one in _running(made):
        yield one


async def _running(world):
    await world.core.start()
    task = asyncio.create_task(world.core.engine.run())
    yield world
    task.cancel()
    await asyncio.gather(task, *world.transfers.news, return_exceptions=True)
