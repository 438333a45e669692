"""Routes of metadata: built-in columns and free JSON, one data identifier or many."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from twinfra.data.datasets.api.door import CallerOf, Services
from twinfra.data.datasets.api.shapes import columns_shape
from twinfra.data.datasets.api.wire import Body, accepts, body, created, done, each, reply, stream
from twinfra.data.datasets.errors import InvalidMetadata, InvalidObject
from twinfra.data.datasets.model import Did
from twinfra.data.datasets.ports import DidRow
from twinfra.data.datasets.service.rights import Caller

COLUMNS, FREE, ALL = "DID_COLUMN", "JSON", "ALL"


class Value(Body):
    """The value of one key."""

    value: Any = None


class Keys(Body):
    """Keys and their values."""

    meta: dict[str, Any]


class DidMeta(Body):
    """A data identifier and metadata of it."""

    scope: str
    name: str
    meta: dict[str, Any] = Field(default_factory=dict)


class DidsMeta(Body):
    """Data identifiers and metadata of them."""

    dids: list[DidMeta]
    plugin: str = COLUMNS
    inherit: bool = False


def routes(services: Services, caller_of: CallerOf) -> APIRouter:
    """Return the routes of metadata below ``/dids``; they stand before those of ``dids``."""
    router = APIRouter(prefix="/dids", tags=["metadata"], dependencies=[Depends(caller_of)])
    _single(router, services, caller_of)
    _bulk(router, services, caller_of)
    return router


def _single(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/{scope}/{name:path}/meta", summary="Metadata of a data identifier")
    async def get(scope: str, name: str, plugin: str = COLUMNS) -> Response:
        await services.dids.exists(Did(scope, name))
        (row,) = await services.metadata.get([Did(scope, name)])
        return reply(_shape(row, plugin))

    @router.post(
        "/{scope}/{name:path}/meta/{key}", openapi_extra=accepts(Value), summary="Set a key"
    )
    async def set_one(scope: str, name: str, key: str, request: Request, who: caller) -> Response:
        value = (await body(request, Value)).value
        await services.metadata.set(who, [(Did(scope, name), {key: value})])
        return created()

    @router.post("/{scope}/{name:path}/meta", openapi_extra=accepts(Keys), summary="Set keys")
    async def set_many(scope: str, name: str, request: Request, who: caller) -> Response:
        meta = (await body(request, Keys)).meta
        await services.metadata.set(who, [(Did(scope, name), meta)])
        return created()

    @router.delete("/{scope}/{name:path}/meta", summary="Remove a key")
    async def remove(scope: str, name: str, who: caller, key: str | None = None) -> Response:
        if key is None:
            raise InvalidObject("which key is to be removed is said by ?key=")
        await services.metadata.remove(who, Did(scope, name), key)
        return done()


def _bulk(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.post("/bulkmeta", openapi_extra=accepts(DidsMeta), summary="Metadata of many")
    async def get_many(request: Request) -> Response:
        wanted = await body(request, DidsMeta)
        if wanted.inherit:
            raise InvalidMetadata("inherited metadata is not offered here")
        rows = await services.metadata.get([Did(one.scope, one.name) for one in wanted.dids])
        return await stream(
            each(rows),
            lambda row: {
                "scope": row.did.scope,
                "name": row.did.name,
                **_shape(row, wanted.plugin),
            },
        )

    @router.post("/bulkdidsmeta", openapi_extra=accepts(DidsMeta), summary="Set keys of many")
    async def set_many(request: Request, who: caller) -> Response:
        wanted = await body(request, DidsMeta)
        await services.metadata.set(
            who, [(Did(one.scope, one.name), one.meta) for one in wanted.dids]
        )
        return created()


def _shape(row: DidRow, plugin: str) -> dict[str, Any]:
    if plugin.upper() == COLUMNS:
        return columns_shape(row)
    if plugin.upper() == FREE:
        return dict(row.meta)
    if plugin.upper() == ALL:
        return {**row.meta, **columns_shape(row)}
    raise InvalidMetadata(f"metadata plug-in {plugin!r} is none of DID_COLUMN, JSON, ALL")
