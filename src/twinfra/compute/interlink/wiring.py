"""Builds a site's two interLink services: the API server and the plug-in."""

from twinfra.access.authenticator import Authenticator
from twinfra.access.tokens import TokenClient
from twinfra.compute.interlink.plugin.wiring import SiteFoundation, build_plugin
from twinfra.compute.interlink.server.api import InterlinkApi
from twinfra.compute.interlink.server.plugin import PluginLink
from twinfra.compute.interlink.server.service import ApiService
from twinfra.compute.interlink.server.store import MIGRATIONS, StatusCache
from twinfra.compute.interlink.settings import ApiSettings
from twinfra.core.http.client import HttpClient
from twinfra.core.service import Callback, Context, Listener, Service

__all__ = ["SiteFoundation", "build_api", "build_plugin"]

UNIX = "unix://"


def build_api(ctx: Context, name: str) -> Service:
    """Return the interLink API server of site `name`."""
    service = f"interlink@{name}"
    settings = ctx.settings(ApiSettings, name)
    url = settings.plugin or ctx.url(f"plugin@{name}")
    uds = url.removeprefix(UNIX) if url.startswith(UNIX) else None
    tls = ctx.tls_client(certificate_file=settings.certificate_file, key_file=settings.key_file)
    http = HttpClient(
        "http://localhost" if uds else url,
        tls=tls if url.startswith("https://") else None,
        timeout_s=settings.plugin_timeout_s,
        uds=uds,
    )
    tokens = TokenClient.from_context(ctx, service) if settings.plugin_token else None
    link = PluginLink(
        http,
        tokens,
        url,
        legacy_list=settings.legacy_list,
        answer_s=settings.plugin_timeout_s,
    )
    database = ctx.database("interlink", folder=ctx.home.site(name).db)
    use_cases = ApiService(link, StatusCache(database), ctx.clock, kept_s=settings.cache_kept_s)
    api = InterlinkApi(
        service,
        use_cases,
        link,
        Authenticator.from_context(ctx, service),
        max_body_bytes=settings.max_body_bytes,
    )
    stop: list[Callback] = [link.close, database.close]
    if tokens is not None:
        stop.insert(0, tokens.close)
    return Service(
        name=service,
        listeners=[
            Listener(
                api.app(),
                ctx.home.port(service),
                client_ca=settings.client_ca_file,
                client_required=settings.client_certificates == "required",
            )
        ],
        background=[use_cases.prune],
        start=[lambda: database.migrate(MIGRATIONS)],
        stop=stop,
    )
