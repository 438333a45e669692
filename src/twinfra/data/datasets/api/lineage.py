"""The one route that is ours and not Rucio's: ``/lineage``; errors are problem details."""

from fastapi import APIRouter, Depends, Response

from twinfra.data.datasets.api.door import CallerOf, Services
from twinfra.data.datasets.api.wire import reply
from twinfra.data.datasets.model import Did

PREFIX = "/lineage"


def routes(services: Services, caller_of: CallerOf) -> APIRouter:
    """Return the routes below ``/lineage``."""
    router = APIRouter(prefix=PREFIX, tags=["lineage"], dependencies=[Depends(caller_of)])

    @router.get("/{scope}/{name:path}", summary="Where data comes from and what came of it")
    async def lineage(scope: str, name: str) -> Response:
        did = Did(scope, name).checked()
        return reply((await services.lineage.graph(did)).to_json(did))

    return router
