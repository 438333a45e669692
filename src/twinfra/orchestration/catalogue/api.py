"""The catalogue's HTTP interface: ``/providers`` and ``/peers``.

Conditional requests follow RFC 9110 §13. Rights are the business of ``service``.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import authenticated
from twinfra.access.model import Principal
from twinfra.core.errors import InvalidRequest
from twinfra.core.http.app import create_app
from twinfra.core.time import Clock
from twinfra.orchestration.catalogue.documents import (
    NAME,
    ProviderBody,
    change_document,
    registration_document,
)
from twinfra.orchestration.catalogue.model import Condition, ProviderFilter, ProviderState
from twinfra.orchestration.catalogue.service import Catalogue

BODY_LIMIT_BYTES = 256 * 1024
SiteName = Annotated[str, Path(pattern=NAME)]


class ProviderQuery(BaseModel):
    """Filters of the list; those that are given must all hold."""

    model_config = ConfigDict(extra="forbid")

    state: ProviderState | None = None
    kind: str | None = None
    capability: str | None = None
    group: str | None = None
    country: str | None = None


def conditions(
    if_match: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Condition:
    """Return the conditions of a request."""
    return Condition(if_match, if_none_match)


def build_app(
    catalogue: Catalogue,
    authenticator: Authenticator,
    clock: Clock,
    *,
    ready: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """Return the application.

    Args:
        catalogue: behind the routes.
        authenticator: tells who calls.
        clock: tells the state of a provider.
        ready: says whether ``/readyz`` answers 200.
    """
    principal = authenticated(authenticator)
    app = create_app(
        "catalogue",
        title="twinfra catalogue",
        authenticate=principal,
        ready=ready,
        body_limit_bytes=BODY_LIMIT_BYTES,
    )
    app.include_router(_reading(catalogue, principal, clock))
    app.include_router(_writing(catalogue, principal, clock))
    return app


def _reading(catalogue: Catalogue, principal: Any, clock: Clock) -> APIRouter:
    router = APIRouter(tags=["providers"], dependencies=[Depends(principal)])

    @router.get("/providers", summary="Providers by name, those that the filters admit")
    async def listing(query: Annotated[ProviderQuery, Query()]) -> list[dict[str, Any]]:
        found = await catalogue.find(ProviderFilter(**query.model_dump()))
        return [registration_document(each, clock.now()) for each in found]

    @router.get("/providers/{name}", summary="One provider, with its entity tag")
    async def show(name: SiteName, response: Response) -> dict[str, Any]:
        found = await catalogue.get(name)
        response.headers["ETag"] = found.provider.etag
        return registration_document(found, clock.now())

    @router.get("/providers/{name}/history", summary="What happened to it, the newest first")
    async def history(name: SiteName) -> list[dict[str, Any]]:
        return [change_document(each) for each in await catalogue.history(name)]

    @router.get("/peers", summary="Registered storage edges, as host:port")
    async def peers() -> dict[str, Any]:
        sites = await catalogue.peers()
        return {"peers": sorted(sites), "sites": sites}

    return router


def _writing(catalogue: Catalogue, principal: Any, clock: Clock) -> APIRouter:
    router = APIRouter(tags=["providers"])
    caller = Annotated[Principal, Depends(principal)]
    condition = Annotated[Condition, Depends(conditions)]

    @router.put("/providers/{name}", summary="Register, change, or say: still here")
    async def register(
        name: SiteName, body: ProviderBody, who: caller, asked: condition, response: Response
    ) -> dict[str, Any]:
        if body.name not in {None, name}:
            raise InvalidRequest(f"the document names {body.name}, the path {name}")
        registration, is_new = await catalogue.register(
            who, body.provider(name), ttl_s=body.ttl_s, condition=asked
        )
        response.status_code = 201 if is_new else 200
        response.headers["ETag"] = registration.provider.etag
        return registration_document(registration, clock.now())

    @router.delete("/providers/{name}", status_code=204, summary="Forget it (operators)")
    async def remove(name: SiteName, who: caller, asked: condition) -> None:
        await catalogue.remove(who, name, condition=asked)

    return router
