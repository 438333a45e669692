"""Builds ranking: the only room here that knows all others."""

from twinfra.access.authenticator import Authenticator
from twinfra.access.tokens import TokenClient
from twinfra.core.http.client import HttpClient
from twinfra.core.ids import new_uuid
from twinfra.core.service import Context, Listener, Service
from twinfra.data.datasets.client import DatasetsClient
from twinfra.orchestration.catalogue.client import CatalogueClient
from twinfra.orchestration.monitoring.client import MonitoringClient
from twinfra.orchestration.ranking.api import build_app
from twinfra.orchestration.ranking.formula import Formula
from twinfra.orchestration.ranking.gathering import NeighbourFacts
from twinfra.orchestration.ranking.service import RankingService
from twinfra.orchestration.ranking.settings import RankingSettings
from twinfra.orchestration.ranking.store import SqlRankingStore

NAME = "ranking"
MIGRATIONS = "twinfra.orchestration.ranking.migrations"


def build(ctx: Context) -> Service:
    """Return the ranking of the federation at ``ctx.home``."""
    settings = ctx.settings(RankingSettings)
    database = ctx.database(NAME)
    tokens = TokenClient.from_context(ctx, NAME)

    def neighbour(name: str) -> HttpClient:
        url = ctx.url(name)
        return HttpClient(url, tls=ctx.tls_client(), token=tokens.for_service(url))

    catalogue = CatalogueClient(neighbour("catalogue"))
    monitoring = MonitoringClient(neighbour("monitoring"))
    datasets = DatasetsClient(neighbour("datasets"))
    service = RankingService(
        source=NeighbourFacts(catalogue, monitoring, datasets),
        scorer=Formula(settings),
        store=SqlRankingStore(database),
        settings=settings,
        clock=ctx.clock,
        new_id=new_uuid,
    )
    app = build_app(service, Authenticator.from_context(ctx, NAME))

    async def migrate() -> None:
        await database.migrate(MIGRATIONS)

    return Service(
        NAME,
        listeners=[Listener(app, ctx.home.port(NAME))],
        start=[migrate],
        background=[service.purge],
        stop=[catalogue.close, monitoring.close, datasets.aclose, tokens.close, database.close],
    )
