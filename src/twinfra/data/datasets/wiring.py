"""Builds the datasets service: the only room here that knows all others."""

import asyncio
from dataclasses import dataclass

from twinfra.access.authenticator import Authenticator
from twinfra.access.tokens import TokenClient
from twinfra.accounting.client import AccountingClient
from twinfra.core.bus import Bus, Event, Outbox
from twinfra.core.database import Database
from twinfra.core.errors import Unavailable
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.core.service import Context, Listener, Service
from twinfra.core.time import Clock
from twinfra.core.workflow import Engine, Outcome, Run, Step, Workflow
from twinfra.core.workflow.model import Do
from twinfra.data.datasets.api import Services, build_app
from twinfra.data.datasets.model.verdicts import Retries
from twinfra.data.datasets.neighbours import AccountingLink, FtsTransfers, IssuerTokens
from twinfra.data.datasets.ports import Accounting, Tokens, Transfers
from twinfra.data.datasets.service.accounts import AccountService
from twinfra.data.datasets.service.dids import DidService
from twinfra.data.datasets.service.jobs import JobMaker
from twinfra.data.datasets.service.keeping import (
    EXPIRY,
    RULE,
    TRANSFER,
    USAGE,
    USAGE_KEY,
    Keeping,
    Repair,
)
from twinfra.data.datasets.service.lineage import LineageService
from twinfra.data.datasets.service.metadata import MetadataService
from twinfra.data.datasets.service.planning import Batching, Planning
from twinfra.data.datasets.service.replicas import ReplicaService
from twinfra.data.datasets.service.rses import RseService
from twinfra.data.datasets.service.rules import RuleService
from twinfra.data.datasets.service.submissions import Submissions
from twinfra.data.datasets.service.usage import UsagePace, UsageReporter
from twinfra.data.datasets.settings import DatasetsSettings
from twinfra.data.datasets.store.tables import outbox as outbox_rows
from twinfra.data.datasets.store.tables import workflow as work_rows
from twinfra.data.datasets.store.work import SqlWork
from twinfra.data.transfers.client import TransfersClient

NAME = "datasets"
MIGRATIONS = "twinfra.data.datasets.migrations"
TRANSFER_ENDED = ("org.twinfra.transfer.finished", "org.twinfra.transfer.failed")
PATIENT = 1_000_000


@dataclass(frozen=True)
class Core:
    """The service without its doors: what tests drive too."""

    services: Services
    work: SqlWork
    engine: Engine

    async def start(self) -> None:
        """Begin the work that is always there."""
        async with self.work.begin() as tx:
            await tx.start(USAGE, USAGE_KEY, {})
            await tx.wake(USAGE, USAGE_KEY)

    async def on_transfer(self, event: Event) -> None:
        """Let the submission look at its job, since one of its files has ended."""
        job_id = (event.data or {}).get("job_id")
        if not isinstance(job_id, str):
            return
        async with self.work.begin() as tx:
            transfer_id = await tx.transfers.by_job(job_id)
            if transfer_id is not None:
                await tx.wake(TRANSFER, transfer_id)


@dataclass(frozen=True)
class Neighbours:
    """Who the service speaks to."""

    transfers: Transfers
    tokens: Tokens
    accounting: Accounting


def build_core(
    database: Database,
    bus: Bus,
    clock: Clock,
    settings: DatasetsSettings,
    neighbours: Neighbours,
    *,
    source: str,
) -> tuple[Core, Outbox]:
    """Return the service without its doors, and the outbox that its events leave by."""
    outbox = Outbox(database, outbox_rows, bus)
    work = SqlWork(database, outbox, clock, source)
    repair = Repair(settings.repair_first_s, settings.repair_longest_s, settings.repair_give_up_s)
    keeping = Keeping(clock, repair)
    batching = Batching(settings.files_a_job, settings.requests_a_pass, settings.multi_source_jobs)
    planning = Planning(clock, keeping, batching, new_uuid)
    metadata = MetadataService(work, clock, keeping)
    rules = RuleService(
        work=work,
        clock=clock,
        keeping=keeping,
        planning=planning,
        tokens=neighbours.tokens,
        new_id=new_uuid,
    )
    submissions = Submissions(
        work=work,
        clock=clock,
        keeping=keeping,
        planning=planning,
        transfers=neighbours.transfers,
        maker=JobMaker(neighbours.tokens),
        retries=Retries(
            settings.retry_most, settings.retry_first_s, settings.retry_longest_s, settings.poll_s
        ),
    )
    pace = UsagePace(settings.usage_settle_s, settings.usage_interval_s)
    usage = UsageReporter(work, clock, neighbours.accounting, pace, new_uuid)
    workflows = [
        _lasting(RULE, reconcile=rules.reconcile),
        _lasting(TRANSFER, submit=submissions.submit, watch=submissions.watch),
        _lasting(USAGE, report=usage.report),
        _lasting(EXPIRY, expire=metadata.expire),
    ]
    engine = Engine(database, work_rows, clock, workflows, workers=settings.workers)
    work.set_engine(engine)
    services = Services(
        accounts=AccountService(work, clock),
        dids=DidService(work, clock, keeping),
        metadata=metadata,
        replicas=ReplicaService(work, clock, keeping),
        rses=RseService(work, clock, new_uuid),
        rules=rules,
        lineage=LineageService(work),
    )
    return Core(services, work, engine), outbox


def build(ctx: Context) -> Service:
    """Return the datasets service of the federation at ``ctx.home``."""
    settings = ctx.settings(DatasetsSettings)
    database, bus = ctx.database(NAME), ctx.bus(NAME)
    tokens = TokenClient.from_context(ctx, NAME)

    def client(service: str) -> HttpClient:
        url = ctx.url(service)
        return HttpClient(url, tls=ctx.tls_client(), token=tokens.for_service(url))

    transfers, accounting = client("transfers"), AccountingClient(client("accounting"))
    neighbours = Neighbours(
        FtsTransfers(TransfersClient(transfers)),
        IssuerTokens(tokens),
        AccountingLink(accounting),
    )
    core, outbox = build_core(database, bus, ctx.clock, settings, neighbours, source=ctx.url(NAME))
    authenticator = Authenticator.from_context(ctx, NAME)
    app = build_app(core.services, authenticator)

    async def on_the_bus() -> None:
        await connect(bus)
        async with asyncio.TaskGroup() as group:
            group.create_task(outbox.run())
            group.create_task(bus.consume("datasets-transfers", TRANSFER_ENDED, core.on_transfer))

    return Service(
        NAME,
        listeners=[Listener(app, ctx.home.port(NAME))],
        start=[lambda: database.migrate(MIGRATIONS), core.start],
        background=[on_the_bus, core.engine.run],
        stop=[bus.close, transfers.close, accounting.close, tokens.close, database.close],
    )


def _lasting(kind: str, **steps: Do) -> Workflow:
    """Return a kind of work that never gives up: a rule outlives what goes wrong around it."""
    return Workflow(
        kind, [Step(name, _patient(do)) for name, do in steps.items()], max_attempts=PATIENT
    )


def _patient(do: Do) -> Do:
    async def step(run: Run) -> Outcome:
        try:
            return await do(run)
        except Exception as error:  # the edge of a task: the engine logs the cause and comes again
            raise Unavailable(f"{type(error).__name__} in {run.kind} {run.step}") from error

    return step


async def connect(bus: Bus) -> None:
    """Connect to the event stream, however long it is away."""
    while not bus.connected:
        try:
            await bus.connect()
        except Unavailable:
            continue
