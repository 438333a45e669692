"""Builds monitoring: the only room here that knows all others."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from twinfra.access.authenticator import Authenticator
from twinfra.access.tokens import TokenClient
from twinfra.core.bus import Bus, Outbox
from twinfra.core.errors import Unavailable
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Context, Listener, Service
from twinfra.orchestration.catalogue.client import CatalogueClient, Provider
from twinfra.orchestration.monitoring import metrics
from twinfra.orchestration.monitoring.api import build_app
from twinfra.orchestration.monitoring.model import JOB_STATE
from twinfra.orchestration.monitoring.probing import HttpSiteProbe
from twinfra.orchestration.monitoring.service import Monitor
from twinfra.orchestration.monitoring.settings import MonitoringSettings
from twinfra.orchestration.monitoring.store import OUTBOX, SqlStatusStore

NAME = "monitoring"
MIGRATIONS = "twinfra.orchestration.monitoring.migrations"
DURABLE = "monitoring-jobs"


class CatalogueDirectory:
    """The sites of the catalogue."""

    def __init__(self, client: CatalogueClient) -> None:
        self._client = client

    async def providers(self) -> Sequence[Provider]:
        """Return all providers, stale ones too."""
        return [each.provider for each in await self._client.providers()]


def build(ctx: Context) -> Service:
    """Return the monitoring of the federation at ``ctx.home``."""
    settings = ctx.settings(MonitoringSettings)
    database, bus = ctx.database(NAME), ctx.bus(NAME)
    outbox = Outbox(database, OUTBOX, bus)
    tokens = TokenClient.from_context(ctx, NAME)
    url = ctx.url("catalogue")
    catalogue = CatalogueClient(
        HttpClient(url, tls=ctx.tls_client(), token=tokens.for_service(url))
    )
    probe = HttpSiteProbe(
        tokens, tls=ctx.tls_client(), clock=ctx.clock, timeout_s=settings.probe_timeout_s
    )
    monitor = Monitor(
        CatalogueDirectory(catalogue),
        probe,
        SqlStatusStore(database, outbox),
        settings,
        ctx.clock,
        show=metrics.show,
        hide=metrics.hide,
    )
    app = build_app(monitor, Authenticator.from_context(ctx, NAME))
    door = BusDoor(bus)

    async def migrate() -> None:
        await database.migrate(MIGRATIONS)

    async def publish() -> None:
        await door.open()
        await outbox.run()

    async def listen() -> None:
        await door.open()
        await bus.consume(DURABLE, [JOB_STATE], monitor.count)

    return Service(
        NAME,
        listeners=[Listener(app, ctx.home.port(NAME))],
        start=[migrate],
        background=[monitor.run, publish, listen],
        stop=[probe.close, catalogue.close, tokens.close, bus.close, database.close],
    )


class BusDoor:
    """Connects the bus once, whichever loop needs it first; waits for its server for ever."""

    def __init__(self, bus: Bus) -> None:
        self._bus, self._lock, self._done = bus, asyncio.Lock(), False

    async def open(self) -> None:
        """Return once the bus has been connected."""
        async with self._lock:
            while not self._done:
                with suppress(Unavailable):
                    await self._bus.connect()
                    self._done = True
