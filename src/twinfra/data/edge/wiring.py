"""Builds a site's edge: the only room here that knows all others."""

from twinfra.access.authenticator import Authenticator
from twinfra.access.tokens import TokenClient
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Context, Service
from twinfra.data.edge.authorization import ScopeAuthorizer
from twinfra.data.edge.edge import Edge, Place
from twinfra.data.edge.peers import RegisteredPeers, catalogue_edges
from twinfra.data.edge.settings import EdgeSettings
from twinfra.orchestration.catalogue.client import CatalogueClient


def build(ctx: Context, site: str) -> Service:
    """Return the storage edge of `site`."""
    name = f"edge@{site}"
    settings = ctx.settings(EdgeSettings)
    home = ctx.home.site(site)
    url = ctx.url("catalogue")
    tokens = TokenClient.from_context(ctx, name)
    catalogue = CatalogueClient(
        HttpClient(url, tls=ctx.tls_client(), token=tokens.for_service(url), timeout_s=5.0)
    )
    peers = RegisteredPeers(
        settings.peers,
        catalogue_edges(catalogue) if settings.peers_from_catalogue else None,
        ctx.clock,
        refresh_s=settings.peers_refresh_s,
    )
    edge = Edge(
        Place(
            site=site,
            root=settings.storage or home.storage,
            port=ctx.home.port(name),
            base_url=ctx.url(name),
        ),
        settings,
        ctx.database("edge", home.db),
        authorizer=ScopeAuthorizer(Authenticator.from_context(ctx, name)),
        peers=peers,
        tls=(ctx.tls_server().context(), ctx.tls_client()),
        clock=ctx.clock,
    )
    return Service(
        name,
        start=[edge.open],
        background=[edge.run],
        stop=[edge.shut, catalogue.close, tokens.close],
    )
