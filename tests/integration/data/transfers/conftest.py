"""A transfer service on a real database, with storages in memory that fail on demand."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from zlib import adler32

import pytest

from twinfra.access.model import Principal
from twinfra.core.bus import Outbox
from twinfra.core.ids import new_uuid
from twinfra.core.time import SYSTEM_CLOCK
from twinfra.core.workflow import Engine
from twinfra.data.transfers.model import NewTransfer, Submission, TransferParams
from twinfra.data.transfers.model.faults import Scope, TransferFault, fault, fault_of_text
from twinfra.data.transfers.ports import FileFacts
from twinfra.data.transfers.service import Copying, JobService, Ledger, Queue
from twinfra.data.transfers.settings import TransferSettings
from twinfra.data.transfers.store import OUTBOX, WORK, TransferStore
from twinfra.testkit.waiting import wait_for

SOURCE = "https://localhost:7001/dav/in"
OTHER = "https://localhost:7003/dav/in"
DEST = "https://localhost:7002/dav/out"


class FakeBus:
    """Keeps what is published, as the stream would: each id once, in order."""

    connected = True

    def __init__(self):
        self.events = {}

    async def publish(self, event):
        self.events.setdefault(event.id, event)
        return len(self.events)

    def of(self, kind):
        return [e for e in self.events.values() if e.type == f"org.twinfra.transfer.{kind}"]


class FakePeers:
    """Every storage but evil.test is registered."""

    async def allowed(self, url):
        return "evil.test" not in url

    def site_of(self, url):
        return {"7001": "edge-c", "7002": "hpc-b"}.get(url.split(":")[2][:4])


@dataclass
class FakeStorage:
    """Storages by URL; copies take as many steps as `pace` says and can be made to fail."""

    files: dict[str, bytes] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    copies: list[str] = field(default_factory=list)
    running: dict[str, int] = field(default_factory=dict)
    at_once: int = 0
    most_at_once: int = 0
    hold: asyncio.Event | None = None
    started: asyncio.Event = field(default_factory=asyncio.Event)
    spoil: set[str] = field(default_factory=set)
    deleted: list[str] = field(default_factory=list)

    async def stat(self, url, token, algorithm, *, scope):
        if url not in self.files:
            return None
        body = self.files[url]
        digest = self.told.get(url, f"{adler32(body):08x}")
        return FileFacts(len(body), {"adler32": digest})

    async def copy(self, order, progress):
        assert not self.running.get(order.dest_url), "two copies to one destination at once"
        self.running[order.dest_url] = 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.copies.append(order.source_url)
        try:
            if self.failures:
                raise TransferFault(fault_of_text(Scope.TRANSFER, "COPY", self.failures.pop(0)))
            body = self.files[order.source_url]
            await progress(len(body) // 2)
            self.started.set()
            if self.hold is not None:
                await self.hold.wait()
            await progress(len(body))
            if order.source_url in self.spoil:
                body = b"\0" + body[1:]
            self.files[order.dest_url] = body
        finally:
            self.at_once -= 1
            self.running.pop(order.dest_url)

    async def delete(self, url, token):
        self.deleted.append(url)
        if url.endswith("undeletable"):
            raise TransferFault(fault(Scope.DESTINATION, 13, "CLEANUP"))
        self.files.pop(url, None)


def person(sub="alice", groups=("climate",), **more):
    facts = {
        "issuer": "https://issuer.test", "sub": sub, "client_id": "cli",
        "groups": frozenset(groups), "scopes": (), "actor": None, "token": "t",
        "is_service": False, "primary_group": groups[0] if groups else None,
    }  # fmt: skip
    return Principal(**{**facts, **more})


@dataclass
class World:
    """All parts of a service, and what runs them."""

    database: object
    storage: FakeStorage
    settings: TransferSettings
    clock: object = SYSTEM_CLOCK
    bus: FakeBus = field(default_factory=FakeBus)

    def __post_init__(self):
        self.outbox = Outbox(self.database, OUTBOX, self.bus)
        self.store = TransferStore(self.database, self.outbox)
        self.peers = FakePeers()
        self.ledger = Ledger(self.store, self.peers, self.settings, self.clock)
        self.queue = Queue(self.store, self.ledger, self.settings, self.clock)
        copying = Copying(self.ledger, self.storage, self.settings, self.clock, self.queue.settled)
        self.engine = Engine(self.database, WORK, self.clock, [copying.workflow()], lease_s=1.0)
        self.queue.attach(self.engine)
        self.jobs = JobService(
            store=self.store, ledger=self.ledger, queue=self.queue, peers=self.peers,
            settings=self.settings, clock=self.clock, new_id=new_uuid,
        )  # fmt: skip

    @asynccontextmanager
    async def running(self):
        """Run the loops of the service; leaving the block ends them as a crash would."""
        loops = (self.engine.run, self.queue.run, self.outbox.run)
        tasks = [asyncio.create_task(loop()) for loop in loops]
        try:
            yield self
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError, BaseExceptionGroup):
                    await task

    def again(self):
        """Return the same service started anew on the same database and storages."""
        return World(self.database, self.storage, self.settings, self.clock, self.bus)

    person = staticmethod(person)

    async def submit(self, *names, who=None, sources=(SOURCE,), **params):
        """Submit one file a name; returns the job's id."""
        extra = {"checksum": params.pop("checksum", None), "metadata": params.pop("metadata", None)}
        tokens = params.pop("tokens", True)
        files = tuple(
            NewTransfer(
                sources=tuple(f"{base}/{name}" for base in sources),
                destination=f"{DEST}/{name}",
                source_tokens=tuple("s" for _ in sources) if tokens else (),
                destination_token="d" if tokens else None,
                **extra,
            )
            for name in names
        )
        return await self.jobs.submit(who or person(), Submission(files, TransferParams(**params)))

    async def job(self, job_id):
        """Return a job with its files."""
        async with self.store.read() as unit:
            return (await unit.jobs([job_id]))[0], await unit.files([job_id])

    async def ended(self, job_id, timeout_s=20):
        """Wait until a job ended and return it with its files."""

        async def over():
            job, files = await self.job(job_id)
            return (job, files) if job.state.final else None

        return await wait_for(over, timeout_s=timeout_s, what=f"job {job_id} ends")


@pytest.fixture
def storage():
    return FakeStorage(files={f"{SOURCE}/a": b"climate" * 1000, f"{SOURCE}/b": b"b" * 500})


@pytest.fixture
async def world(database, storage):
    await database.migrate("twinfra.data.transfers.migrations")
    settings = TransferSettings(retry_pause_s=0.01, progress_every_s=0.01)
    return World(database, storage, settings)
