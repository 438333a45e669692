"""Builds the web page: the only room here that knows all others."""

from twinfra.access.authenticator import Authenticator
from twinfra.access.login import IssuerClient
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Context, Listener, Service
from twinfra.dashboard.api import Pages, build_app
from twinfra.dashboard.pages import Federation
from twinfra.dashboard.settings import DashboardSettings
from twinfra.dashboard.visits import Visits

NAME = "dashboard"
ASKED = ("deployments", "catalogue", "monitoring", "datasets", "notifications")


def build(ctx: Context) -> Service:
    """Return the web page of the federation at ``ctx.home``."""
    settings = ctx.settings(DashboardSettings)
    clients = {name: HttpClient(ctx.url(name), tls=ctx.tls_client()) for name in ASKED}
    pages = Pages(
        Federation(clients),
        Visits(ctx.clock, visit_s=settings.visit_s, most=settings.max_visits),
        lambda: IssuerClient.from_context(ctx, NAME),
        base_url=ctx.url(NAME),
        max_streams=settings.max_streams,
    )
    app = build_app(pages, Authenticator.from_context(ctx, NAME))
    return Service(
        NAME,
        listeners=[Listener(app, ctx.home.port(NAME))],
        stop=[client.close for client in clients.values()],
    )
