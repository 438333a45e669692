"""Builds the transfer service: the only room here that knows all others."""

from collections.abc import Mapping, Sequence
from typing import Any

from twinfra.access.authenticator import Authenticator
from twinfra.access.tokens import TokenClient
from twinfra.accounting.client import AccountingClient, from_json
from twinfra.core.bus import Outbox
from twinfra.core.errors import Unavailable
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.core.service import Context, Listener, Service
from twinfra.core.workflow import Engine
from twinfra.data.transfers.api import build_app
from twinfra.data.transfers.peers import CataloguePeers
from twinfra.data.transfers.service import Copying, JobService, Ledger, Queue
from twinfra.data.transfers.settings import TransferSettings
from twinfra.data.transfers.store import OUTBOX, WORK, TransferStore
from twinfra.data.transfers.usage import UsagePump
from twinfra.data.transfers.webdav import WebdavStorage
from twinfra.orchestration.catalogue.client import CatalogueClient

NAME = "transfers"
MIGRATIONS = "twinfra.data.transfers.migrations"


def build(ctx: Context) -> Service:
    """Return the transfer service of the federation at ``ctx.home``."""
    settings = ctx.settings(TransferSettings)
    database, bus = ctx.database(NAME), ctx.bus(NAME)
    outbox = Outbox(database, OUTBOX, bus)
    store = TransferStore(database, outbox)
    tokens = TokenClient.from_context(ctx, NAME)
    url = ctx.url("catalogue")
    catalogue = CatalogueClient(
        HttpClient(url, tls=ctx.tls_client(), token=tokens.for_service(url))
    )
    url = ctx.url("accounting")
    accounting = AccountingClient(
        HttpClient(url, tls=ctx.tls_client(), token=tokens.for_service(url))
    )
    storages = HttpClient("", tls=ctx.tls_client(), timeout_s=2 * settings.stall_s)
    peers = CataloguePeers(
        lambda: _storages(catalogue),
        settings.peers,
        refresh_s=settings.peers_refresh_s,
        clock=ctx.clock,
    )
    ledger = Ledger(store, peers, settings, ctx.clock)
    queue = Queue(store, ledger, settings, ctx.clock)
    storage = WebdavStorage(
        storages, peers, stat_limit_s=settings.stat_limit_s, stall_s=settings.stall_s
    )
    copying = Copying(ledger, storage, settings, ctx.clock, queue.settled)
    engine = Engine(database, WORK, ctx.clock, [copying.workflow()], workers=settings.max_active)
    queue.attach(engine)
    jobs = JobService(
        store=store,
        ledger=ledger,
        queue=queue,
        peers=peers,
        settings=settings,
        clock=ctx.clock,
        new_id=new_uuid,
    )
    authenticator = Authenticator.from_context(ctx, NAME)
    app = build_app(jobs, authenticator, ctx.clock, max_files=settings.max_files_per_job)

    async def post(records: Sequence[Mapping[str, Any]]) -> None:
        await accounting.post([from_json(record) for record in records])

    async def publish() -> None:
        while not bus.connected:
            try:
                await bus.connect()
            except Unavailable:
                continue
        await outbox.run()

    usage = UsagePump(store, post, ctx.clock)
    return Service(
        NAME,
        listeners=[Listener(app, ctx.home.port(NAME))],
        start=[lambda: database.migrate(MIGRATIONS)],
        background=[publish, engine.run, queue.run, usage.run],
        stop=[
            bus.close,
            storages.close,
            catalogue.close,
            accounting.close,
            tokens.close,
            database.close,
        ],
    )


async def _storages(catalogue: CatalogueClient) -> dict[str, str]:
    """Return the base URL of each site's storage; a site that is silent now keeps its storage."""
    listed = await catalogue.providers()
    return {each.name: each.provider.edge_url for each in listed if each.provider.edge_url}
