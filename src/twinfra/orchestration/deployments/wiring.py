"""Builds the deployments service: the only room here that knows all others."""

import asyncio
from dataclasses import dataclass

from twinfra.access.authenticator import Authenticator
from twinfra.access.tokens import TokenClient
from twinfra.core.bus import Bus, Outbox
from twinfra.core.database import Database
from twinfra.core.errors import Unavailable
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.core.service import Context, Listener, Service
from twinfra.core.workflow import Engine
from twinfra.data.datasets.client import DatasetsClient
from twinfra.data.notifications.client import NotificationsClient
from twinfra.orchestration.catalogue.client import CatalogueClient
from twinfra.orchestration.deployments.api.app import Doors, build_app
from twinfra.orchestration.deployments.api.proxy import ServiceProxy
from twinfra.orchestration.deployments.callbacks import SignedCallbacks, make_key
from twinfra.orchestration.deployments.model.happenings import RULES, SITES
from twinfra.orchestration.deployments.neighbours import (
    IssuerPermits,
    PersonsData,
    PersonsWebhooks,
    SiteRanking,
)
from twinfra.orchestration.deployments.news import News
from twinfra.orchestration.deployments.service.deployments import Deployments
from twinfra.orchestration.deployments.service.kit import Kit
from twinfra.orchestration.deployments.service.reactions import Reactions
from twinfra.orchestration.deployments.service.work import workflows
from twinfra.orchestration.deployments.settings import DeploymentsSettings
from twinfra.orchestration.deployments.store import OUTBOX, WORKFLOW, Store
from twinfra.orchestration.deployments.traffic import ServiceTraffic
from twinfra.orchestration.deployments.watching import SiteWatch
from twinfra.orchestration.infrastructure.batch import BatchDriver
from twinfra.orchestration.ranking.client import RankingClient

NAME = "deployments"
MIGRATIONS = "twinfra.orchestration.deployments.migrations"
WORKERS = 32
ALL_EVENTS = ("*",)
NEIGHBOURS = ("datasets", "notifications", "catalogue", "ranking")


@dataclass(frozen=True)
class _Parts:
    """What is made first and closed last."""

    database: Database
    bus: Bus
    outbox: Outbox
    tokens: TokenClient
    clients: dict[str, HttpClient]
    driver: BatchDriver
    traffic: ServiceTraffic
    watch: SiteWatch
    callbacks: SignedCallbacks
    news: News


def build(ctx: Context) -> Service:
    """Return the deployments service of the federation at ``ctx.home``."""
    settings = ctx.settings(DeploymentsSettings)
    parts = _parts(ctx, settings)
    store = Store(parts.database, parts.outbox)
    store.tell(parts.news.tell)
    parts.traffic.use(store)
    kit = _kit(ctx, settings, parts, store)
    engine = Engine(parts.database, WORKFLOW, ctx.clock, workflows(kit), workers=WORKERS)
    store.use(engine)
    deployments, reactions = Deployments(kit), Reactions(kit)
    authenticator = Authenticator.from_context(ctx, NAME)
    api = build_app(
        kit, deployments, authenticator, parts.news,
        endpoints=_endpoints(ctx), jwks=parts.callbacks.jwks,
    )  # fmt: skip
    proxy = ServiceProxy(parts.traffic, authenticator, timeout_s=settings.proxy_timeout_s)
    doors = Doors(api, proxy, body_limit_bytes=settings.proxy_body_limit_bytes)

    async def look_around() -> None:
        """Follow again the sites that something of ours is at."""
        async with store.view() as view:
            for attempt in await view.open_attempts():
                parts.watch.ensure(attempt.target)

    return Service(
        NAME,
        listeners=[Listener(doors, ctx.home.port(NAME))],
        start=[lambda: parts.database.migrate(MIGRATIONS), look_around],
        background=[
            engine.run,
            lambda: parts.watch.run(reactions.changed),
            lambda: _listen(parts.bus, parts.outbox, reactions),
            deployments.sweep,
        ],
        stop=[
            parts.traffic.close, parts.driver.close, parts.callbacks.close,
            *(client.close for client in parts.clients.values()),
            parts.tokens.close, parts.bus.close, parts.database.close,
        ],
    )  # fmt: skip


def _parts(ctx: Context, settings: DeploymentsSettings) -> _Parts:
    database, bus = ctx.database(NAME), ctx.bus(NAME)
    tokens = TokenClient.from_context(ctx, NAME)
    driver = BatchDriver(ctx.tls_client(), tokens.service, clock=ctx.clock)
    clients = {
        name: HttpClient(
            ctx.url(name), tls=ctx.tls_client(), token=tokens.for_service(ctx.url(name))
        )
        for name in NEIGHBOURS
    }
    named = settings.callback_key_file
    key = named.read_text() if named else ctx.home.secret("callbacks.pem", make_key)
    return _Parts(
        database=database,
        bus=bus,
        outbox=Outbox(database, OUTBOX, bus),
        tokens=tokens,
        clients=clients,
        driver=driver,
        traffic=ServiceTraffic(driver, ctx.clock, most=settings.proxy_requests),
        watch=SiteWatch(driver, ctx.clock),
        callbacks=SignedCallbacks(
            key,
            private_addresses=settings.callback_private_addresses,
            timeout_s=settings.callback_timeout_s,
            tls=ctx.tls_client(),
        ),
        news=News(),
    )


def _kit(ctx: Context, settings: DeploymentsSettings, parts: _Parts, store: Store) -> Kit:
    clients, permits = parts.clients, IssuerPermits(parts.tokens)
    datasets = DatasetsClient(clients["datasets"])
    notifications = NotificationsClient(clients["notifications"])
    return Kit(
        store=store,
        driver=parts.driver,
        permits=permits,
        ranking=SiteRanking(
            RankingClient(clients["ranking"]), CatalogueClient(clients["catalogue"])
        ),
        data=PersonsData(datasets, parts.tokens, permits, url=ctx.url("datasets")),
        webhooks=PersonsWebhooks(notifications, permits, url=ctx.url("notifications")),
        traffic=parts.traffic,
        callbacks=parts.callbacks,
        watching=parts.watch,
        settings=settings,
        clock=ctx.clock,
        new_id=new_uuid,
        base_url=ctx.url(NAME),
    )


def _endpoints(ctx: Context) -> dict[str, str]:
    """Return what ``/configuration`` shows: INDIGO's words where it has one, then ours."""
    return {
        "cpr_url": ctx.url("ranking"),
        "cmdb_url": ctx.url("catalogue"),
        "monitoring_url": ctx.url("monitoring"),
        "rucio_url": ctx.url("datasets"),
        "iam_url": ctx.url("issuer"),
        "notifications_url": ctx.url("notifications"),
    }


async def _listen(bus: Bus, outbox: Outbox, reactions: Reactions) -> None:
    """Publish and hear, once the bus is there; all other work goes on without it meanwhile."""
    while not bus.connected:
        try:
            await bus.connect()
        except Unavailable:
            continue
    async with asyncio.TaskGroup() as group:
        group.create_task(outbox.run())
        group.create_task(bus.consume(f"{NAME}-rules", (RULES,), reactions.rule))
        group.create_task(bus.consume(f"{NAME}-sites", (SITES,), reactions.site))
        group.create_task(bus.consume(f"{NAME}-policies", ALL_EVENTS, reactions.happened))
