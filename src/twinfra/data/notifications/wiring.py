"""Builds the notification service: the only room here that knows all others."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from twinfra.access.authenticator import Authenticator
from twinfra.access.model import SERVICE_SCOPE, Delegation, Principal
from twinfra.access.tokens import TokenClient
from twinfra.core.bus import Outbox
from twinfra.core.errors import TwinfraError, Unavailable
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.core.service import Context, Listener, Service
from twinfra.data.datasets.client import DatasetsClient
from twinfra.data.edge.client import EdgeClient
from twinfra.data.notifications.api import build_app
from twinfra.data.notifications.directory import Directory
from twinfra.data.notifications.feed import Feed
from twinfra.data.notifications.fleet import Fleet
from twinfra.data.notifications.loops import DeliveryLoop, TriggerLoop
from twinfra.data.notifications.readers import SiteReader
from twinfra.data.notifications.registrar import DatasetsRegistrar
from twinfra.data.notifications.service import NotificationService, Tools
from twinfra.data.notifications.settings import NotificationSettings
from twinfra.data.notifications.signing import secret_of
from twinfra.data.notifications.store import OUTBOX, Followed, NotificationStore
from twinfra.data.notifications.webhook import WebhookSink
from twinfra.orchestration.catalogue.client import CatalogueClient

NAME = "notifications"
MIGRATIONS = "twinfra.data.notifications.migrations"
READ_ALL = f"{SERVICE_SCOPE} storage.read:/"
SINK_SERVICES = ("deployments",)
"""Services of the federation that may be sinks, and are then called on behalf of the creator."""


class _Delegations:
    """Lasting permissions as the store keeps them."""

    def __init__(self, tokens: TokenClient) -> None:
        self._tokens = tokens

    async def grant(self, principal: Principal) -> Mapping[str, Any] | None:
        """Return the permission of a person; services act for themselves."""
        if principal.is_service:
            return None
        return (await self._tokens.delegate(principal.token)).to_dict()

    async def revoke(self, grant: Mapping[str, Any] | None) -> None:
        """End a permission; one that cannot be ended now ends by itself."""
        if grant is not None:
            with suppress(TwinfraError):
                await self._tokens.revoke(Delegation.from_dict(grant))

    async def token(self, grant: Mapping[str, Any] | None, audience: str, scope: str = "") -> str:
        """Return a token for `audience` on behalf of a grant, or our own where there is none."""
        if grant is None:
            return await self._tokens.service(audience)
        return await self._tokens.on_behalf(Delegation.from_dict(grant), audience, scope)


def build(ctx: Context) -> Service:
    """Return the notification service of the federation at ``ctx.home``."""
    settings = ctx.settings(NotificationSettings)
    database, bus = ctx.database(NAME), ctx.bus(NAME)
    outbox = Outbox(database, OUTBOX, bus)
    store = NotificationStore(database, outbox)
    tokens = TokenClient.from_context(ctx, NAME)
    delegations = _Delegations(tokens)
    catalogue = CatalogueClient(_client(ctx, tokens, ctx.url("catalogue")))
    directory = Directory(catalogue, settings.edges)
    outside = HttpClient("", tls=ctx.tls_client())
    datasets = DatasetsClient(_client(ctx, tokens, ctx.url("datasets")))
    signing_key = ctx.home.secret("notifications-webhooks")
    own_sinks = tuple(ctx.url(name) for name in SINK_SERVICES)
    sink = WebhookSink(
        outside,
        own_sinks,
        delegations.token,
        ctx.clock,
        limit_s=settings.sink_limit_s,
        answer_limit_bytes=settings.answer_limit_bytes,
    )
    registrar = DatasetsRegistrar(
        datasets, ctx.url("datasets"), outside, directory, delegations.token
    )

    def reader(site: str, url: str) -> SiteReader:
        return SiteReader(
            site,
            lambda: EdgeClient(_client(ctx, tokens, url, READ_ALL)),
            store,
            ctx.clock,
            pause_s=settings.reader_pause_s,
            pause_max_s=settings.reader_pause_max_s,
        )

    def delivery(followed: Followed) -> DeliveryLoop:
        secret = secret_of(signing_key, followed.thing.id)
        return DeliveryLoop(followed, secret, sink, store, settings, ctx.clock)

    def trigger(followed: Followed) -> TriggerLoop:
        return TriggerLoop(followed, registrar, store, settings, ctx.clock)

    fleet = Fleet(
        store, directory, bus, settings, reader=reader, delivery=delivery, trigger=trigger
    )
    tools = Tools(
        loops=fleet,
        granting=delegations,
        publish=bus.publish,
        clock=ctx.clock,
        new_id=new_uuid,
        signing_key=signing_key,
        sinks=frozenset((*settings.allowed_sinks, *map(_address, own_sinks))),
    )
    feed = Feed(bus, most=settings.streams, keepalive_s=settings.stream_keepalive_s)
    app = build_app(
        NotificationService(store, tools, settings),
        feed,
        Authenticator.from_context(ctx, NAME),
        ready=lambda: bus.connected,
    )

    async def publish() -> None:
        while not bus.connected:
            with suppress(Unavailable):
                await bus.connect()
        await outbox.run()

    return Service(
        NAME,
        listeners=[Listener(app, ctx.home.port(NAME))],
        start=[lambda: database.migrate(MIGRATIONS)],
        background=[publish, fleet.run, feed.until_cancelled],
        stop=[
            bus.close,
            outside.close,
            datasets.aclose,
            catalogue.close,
            tokens.close,
            database.close,
        ],
    )


def _client(ctx: Context, tokens: TokenClient, url: str, scope: str = SERVICE_SCOPE) -> HttpClient:
    return HttpClient(url, tls=ctx.tls_client(), token=tokens.for_service(url, scope))


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 443}"
