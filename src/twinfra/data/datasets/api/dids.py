"""Routes of data identifiers: ``/dids``. Names may hold slashes; longer routes come first."""

import ast
import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from twinfra.data.datasets.api.door import CallerOf, Services
from twinfra.data.datasets.api.shapes import (
    did_shape,
    file_shape,
    found_shape,
    member_shape,
    rule_shape,
)
from twinfra.data.datasets.api.wire import (
    Body,
    accepts,
    body,
    created,
    done,
    each,
    reply,
    stream,
)
from twinfra.data.datasets.errors import FilterSyntax, InvalidObject, InvalidType, NotOffered
from twinfra.data.datasets.model import Did, DidType, NewCollection
from twinfra.data.datasets.ports import DidRow
from twinfra.data.datasets.service.dids import Attachment
from twinfra.data.datasets.service.rights import Caller

TYPES: Mapping[str, tuple[DidType, ...]] = {
    "all": tuple(DidType),
    "collection": (DidType.DATASET, DidType.CONTAINER),
    "dataset": (DidType.DATASET,),
    "container": (DidType.CONTAINER,),
    "file": (DidType.FILE,),
}
CODES = {"D": DidType.DATASET, "C": DidType.CONTAINER, "F": DidType.FILE}


class Pair(Body):
    """What names data."""

    scope: str
    name: str


class NewDid(Body):
    """A collection to be made, perhaps with what stands in it."""

    type: str
    scope: str = ""
    name: str = ""
    statuses: dict[str, Any] | None = None
    meta: dict[str, Any] | None = None
    lifetime: float | None = None
    dids: list[Pair] | None = None
    rules: list[dict[str, Any]] | None = None


class Dids(Body):
    """Data identifiers."""

    dids: list[Pair] = Field(default_factory=list)


class OneAttachment(Body):
    """What joins which collection."""

    scope: str
    name: str
    dids: list[Pair]


class Attachments(Body):
    """What joins which collections."""

    attachments: list[OneAttachment]
    ignore_duplicate: bool = False


class Status(Body):
    """Whether a collection is open."""

    open: bool | None = None


def routes(services: Services, caller_of: CallerOf) -> APIRouter:
    """Return the routes below ``/dids``."""
    router = APIRouter(prefix="/dids", tags=["data identifiers"], dependencies=[Depends(caller_of)])
    _bulk(router, services, caller_of)
    _search(router, services)
    _content(router, services, caller_of)
    _single(router, services, caller_of)
    return router


def _bulk(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.post("", openapi_extra=accepts(list[NewDid]), summary="Make collections")
    @router.post("/", include_in_schema=False)
    async def add_many(request: Request, who: caller) -> Response:
        entries = await body(request, list[NewDid])
        new = [_collection(entry, Did(entry.scope, entry.name)) for entry in entries]
        await services.dids.add(who, new)
        for entry in entries:
            await _fill(services, who, entry, Did(entry.scope, entry.name))
        return created()

    @router.post("/attachments", openapi_extra=accepts(Attachments), summary="Fill collections")
    async def attach_many(request: Request, who: caller) -> Response:
        wanted = await body(request, Attachments)
        await services.dids.attach(
            who,
            [
                Attachment(Did(one.scope, one.name), [_did(child) for child in one.dids])
                for one in wanted.attachments
            ],
            ignore_duplicates=wanted.ignore_duplicate,
        )
        return created()

    @router.post("/bulkfiles", openapi_extra=accepts(Dids), summary="Files of collections")
    async def bulk_files(request: Request) -> Response:
        dids = [_did(one) for one in (await body(request, Dids)).dids]

        async def lines() -> Any:
            for did in dids:
                async for file in services.dids.files([did]):
                    yield did, file

        return await stream(
            lines(),
            lambda pair: {
                "parent_scope": pair[0].scope,
                "parent_name": pair[0].name,
                **file_shape(pair[1]),
            },
        )


def _search(router: APIRouter, services: Services) -> None:
    @router.get("/{scope}/dids/search", summary="Search by name and metadata")
    async def search(scope: str, request: Request, limit: int | None = None) -> Response:
        query = request.query_params
        if query.get("recursive", "").lower() in {"true", "1"}:
            raise NotOffered("a recursive search is not offered here; list the content instead")
        filters = _filters(query.get("filters"), query.get("name"))
        named = [one.pop("type") for one in filters if str(one.get("type")).lower() in TYPES]
        wanted = str(named[0] if named else query.get("type", "collection")).lower()
        types = TYPES.get(wanted)
        if types is None:
            raise InvalidType(f"type {wanted!r} is none of {', '.join(TYPES)}")
        rows = services.dids.search(scope, filters, types, limit)
        if query.get("long", "").lower() in {"true", "1"}:
            return await stream(rows, found_shape)
        return await stream(rows, lambda row: row.did.name)

    @router.get("/{scope}/", summary="List a scope")
    async def scope_list(scope: str, request: Request) -> Response:
        await services.dids.scope_exists(scope)
        name = request.query_params.get("name")
        if name is not None:
            return await stream(services.dids.content(Did(scope, name)), _listed)
        return await stream(services.dids.search(scope, [], TYPES["all"]), _listed)


def _content(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/{scope}/{name:path}/dids", summary="What stands in a collection")
    async def content(scope: str, name: str) -> Response:
        return await stream(services.dids.content(Did(scope, name)), member_shape)

    @router.post("/{scope}/{name:path}/dids", openapi_extra=accepts(Dids), summary="Attach")
    async def attach(scope: str, name: str, request: Request, who: caller) -> Response:
        children = [_did(one) for one in (await body(request, Dids)).dids]
        await services.dids.attach(who, [Attachment(Did(scope, name), children)])
        return created()

    @router.delete("/{scope}/{name:path}/dids", openapi_extra=accepts(Dids), summary="Detach")
    async def detach(scope: str, name: str, request: Request, who: caller) -> Response:
        children = [_did(one) for one in (await body(request, Dids)).dids]
        await services.dids.detach(who, Did(scope, name), children)
        return done()

    @router.get("/{scope}/{name:path}/files", summary="All files below")
    async def files(scope: str, name: str) -> Response:
        return await stream(services.dids.files([Did(scope, name)]), file_shape)

    @router.get("/{scope}/{name:path}/parents", summary="Collections that hold it")
    async def parents(scope: str, name: str) -> Response:
        return await stream(each(await services.dids.parents(Did(scope, name))), _parent)

    @router.get("/{scope}/{name:path}/rules", summary="Rules on it")
    async def rules(scope: str, name: str) -> Response:
        return await stream(each(await services.rules.on(Did(scope, name))), rule_shape)

    @router.get("/{scope}/{name:path}/associated_rules", summary="Rules that concern a file")
    async def associated(scope: str, name: str) -> Response:
        return await stream(each(await services.rules.over(Did(scope, name))), rule_shape)

    @router.put("/{scope}/{name:path}/status", openapi_extra=accepts(Status), summary="Close")
    async def status(scope: str, name: str, request: Request, who: caller) -> Response:
        wanted = await body(request, Status)
        if wanted.open is None:
            raise InvalidObject("only the status 'open' can be changed")
        await services.dids.set_open(who, Did(scope, name), is_open=wanted.open)
        return done()


def _single(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/{scope}/{name:path}", summary="One data identifier")
    async def get(scope: str, name: str, request: Request) -> Response:
        dynamic = "dynamic_depth" in request.query_params or "dynamic" in request.query_params
        row, length, size = await services.dids.get(Did(scope, name), dynamic=dynamic)
        return reply(did_shape(row, length, size))

    @router.post("/{scope}/{name:path}", openapi_extra=accepts(NewDid), summary="Make one")
    async def add(scope: str, name: str, request: Request, who: caller) -> Response:
        entry, did = await body(request, NewDid), Did(scope, name)
        await services.dids.add(who, [_collection(entry, did)])
        await _fill(services, who, entry, did)
        return created()


async def _fill(services: Services, who: Caller, entry: NewDid, did: Did) -> None:
    if entry.rules:
        raise NotOffered("make the rules with POST /rules/")
    if entry.dids:
        await services.dids.attach(who, [Attachment(did, [_did(one) for one in entry.dids])])


def _collection(entry: NewDid, did: Did) -> NewCollection:
    kind = CODES.get(entry.type.upper()) or next(
        (one for one in DidType if one.value == entry.type.upper()), None
    )
    if kind is None:
        raise InvalidType(f"type {entry.type!r} is neither DATASET nor CONTAINER")
    if entry.rules:
        raise NotOffered("make the rules with POST /rules/")
    return NewCollection(
        did.checked(),
        kind,
        entry.meta or {},
        monotonic=bool((entry.statuses or {}).get("monotonic")),
        lifetime_s=entry.lifetime,
    )


def _did(pair: Pair) -> Did:
    return Did(pair.scope, pair.name).checked()


def _parent(row: DidRow) -> dict[str, Any]:
    return {"scope": row.did.scope, "name": row.did.name, "type": row.type.value}


def _listed(row: DidRow) -> dict[str, Any]:
    return _parent(row) | {"parent": None, "level": 0, "bytes": row.size_bytes}


def _filters(text: str | None, name: str | None) -> list[dict[str, Any]]:
    """Read filters as JSON, or as the Python literal that Rucio's own client sends."""
    found: Any = []
    if text:
        try:
            found = json.loads(text)
        except ValueError:
            try:
                found = ast.literal_eval(text)
            except (ValueError, SyntaxError) as error:
                raise FilterSyntax(f"filters {text[:80]!r} do not parse") from error
    listed = found if isinstance(found, list) else [found]
    if not all(isinstance(one, Mapping) for one in listed):
        raise FilterSyntax("filters are a list of objects")
    filters = [{k: v for k, v in one.items() if v is not None} for one in listed]
    if name is not None:
        filters = [{"name": name, **one} for one in filters] or [{"name": name}]
    return filters
