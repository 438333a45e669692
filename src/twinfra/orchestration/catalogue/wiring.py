"""Builds the catalogue: the only room here that knows all others."""

from twinfra.access.authenticator import Authenticator
from twinfra.core.service import Context, Listener, Service
from twinfra.orchestration.catalogue.api import build_app
from twinfra.orchestration.catalogue.service import Catalogue
from twinfra.orchestration.catalogue.settings import CatalogueSettings
from twinfra.orchestration.catalogue.store import SqlProviderStore

NAME = "catalogue"
MIGRATIONS = "twinfra.orchestration.catalogue.migrations"


def build(ctx: Context) -> Service:
    """Return the catalogue of the federation at ``ctx.home``."""
    settings = ctx.settings(CatalogueSettings)
    database = ctx.database(NAME)
    store = SqlProviderStore(database, history_lines=settings.history_lines)
    catalogue = Catalogue(store, settings, ctx.clock)
    app = build_app(catalogue, Authenticator.from_context(ctx, NAME), ctx.clock)

    async def migrate() -> None:
        await database.migrate(MIGRATIONS)

    return Service(
        NAME,
        listeners=[Listener(app, ctx.home.port(NAME))],
        start=[migrate],
        background=[catalogue.watch],
        stop=[database.close],
    )
