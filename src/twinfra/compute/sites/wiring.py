"""Builds a site: storage edge, plug-in, interLink API and registration, in one process."""

import ssl

from twinfra.access.tokens import TokenClient
from twinfra.compute.containers.images.names import Names
from twinfra.compute.containers.images.pulling import PullingStore, site_accounts
from twinfra.compute.containers.images.store import ImageStore
from twinfra.compute.interlink.wiring import SiteFoundation, build_api, build_plugin
from twinfra.compute.sites.backends import build_site
from twinfra.compute.sites.registration import Registration, SiteFacts
from twinfra.compute.sites.runtime import choose_ground
from twinfra.compute.sites.settings import ComputeSettings, ProviderSettings
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Context, Service
from twinfra.data.datasets.client import DatasetsClient
from twinfra.data.edge.wiring import build as build_edge
from twinfra.orchestration.catalogue.client import CatalogueClient


def build(ctx: Context, site: str) -> list[Service]:
    """Return the services of `site`: the content of ``twinfra site run``."""
    compute = ctx.settings(ComputeSettings, site)
    home = ctx.home.site(site)
    if compute.shared_folder is not None:
        home.share(compute.shared_folder)
    ground, isolation = choose_ground(compute, home.jobs)
    layouts = compute.images or (ctx.home.images,)
    pulled = home.images / "pulled"
    images = PullingStore(
        ImageStore((*layouts, pulled), home.images, sealed=not ground.isolated),
        pulled,
        Names(compute.image_names, frozenset(compute.registries)),
        plain=frozenset(compute.plain_registries),
        tls=None
        if compute.registry_cafile is None
        else ssl.create_default_context(cafile=str(compute.registry_cafile)),
        accounts=site_accounts(compute.registry_accounts_file),
    )
    facts = SiteFacts(
        name=site,
        compute=compute,
        provider=ctx.settings(ProviderSettings, site),
        isolation=isolation,
        edge_url=ctx.url(f"edge@{site}"),
        interlink_url=ctx.url(f"interlink@{site}"),
    )
    foundation = SiteFoundation(build_site(ctx, site), ground, images, isolation)
    return [
        build_edge(ctx, site),
        build_plugin(ctx, site, foundation),
        build_api(ctx, site),
        build_registration(ctx, facts),
    ]


def build_registration(ctx: Context, facts: SiteFacts) -> Service:
    """Return the loop by which a site says that it is there."""
    tokens = TokenClient.from_context(ctx, f"plugin@{facts.name}")
    clients = {
        service: HttpClient(
            ctx.url(service), tls=ctx.tls_client(), token=tokens.for_service(ctx.url(service))
        )
        for service in ("catalogue", "datasets")
    }
    registration = Registration(
        facts,
        CatalogueClient(clients["catalogue"]),
        DatasetsClient(clients["datasets"]),
        ctx.clock,
    )
    return Service(
        name=f"registration@{facts.name}",
        background=[registration.run],
        stop=[*(client.close for client in clients.values()), tokens.close],
    )
