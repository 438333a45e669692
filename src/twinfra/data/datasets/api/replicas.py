"""Routes of replicas: ``/replicas``."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import Field

from twinfra.data.datasets.api.door import CallerOf, Services
from twinfra.data.datasets.api.metalink import METALINK, metalink
from twinfra.data.datasets.api.shapes import replica_shapes, summary_shape
from twinfra.data.datasets.api.wire import (
    Body,
    accepts,
    body,
    created,
    done,
    each,
    moment,
    reply,
    stream,
)
from twinfra.data.datasets.errors import InvalidObject, InvalidType
from twinfra.data.datasets.model import Did, FileSpec, ReplicaState
from twinfra.data.datasets.model.states import REPLICA_CODES
from twinfra.data.datasets.service.replicas import Listing
from twinfra.data.datasets.service.rights import Caller

MAX_FILES = 5000
PARENTS_AT_ONCE = 500
Shapes = AsyncIterator[tuple[int, dict[str, Any]]]


class NewReplica(Body):
    """A file to be registered."""

    scope: str
    name: str
    bytes: int
    adler32: str | None = None
    md5: str | None = None
    pfn: str | None = None
    state: str | None = None
    meta: dict[str, Any] | None = None


class NewReplicas(Body):
    """Files to be registered at a storage."""

    rse: str
    files: list[NewReplica]


class Named(Body):
    """A replica, perhaps with the state that it shall have."""

    scope: str
    name: str
    state: str | None = None
    rse: str | None = None


class AtRse(Body):
    """Replicas at a storage."""

    rse: str
    files: list[Named] = Field(default_factory=list)
    dids: list[Named] = Field(default_factory=list)
    reason: str = ""


class Question(Body):
    """Which replicas are asked for."""

    dids: list[Named]
    schemes: list[str] | str | None = None
    rse_expression: str | None = None
    all_states: bool = False
    domain: str | None = None
    resolve_parents: bool = False


class Broken(Body):
    """Replicas by PFN, or by name and storage, that something speaks against."""

    replicas: list[Named | str] = Field(default_factory=list)
    pfns: list[str] = Field(default_factory=list)
    reason: str = ""
    rse: str | None = None


def routes(services: Services, caller_of: CallerOf) -> APIRouter:
    """Return the routes below ``/replicas``."""
    router = APIRouter(prefix="/replicas", tags=["replicas"], dependencies=[Depends(caller_of)])
    _write(router, services, caller_of)
    _judge(router, services, caller_of)
    _read(router, services)
    return router


def _write(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.post("", openapi_extra=accepts(NewReplicas), summary="Register files at a storage")
    @router.post("/", include_in_schema=False)
    async def add(request: Request, who: caller) -> Response:
        wanted = await body(request, NewReplicas)
        if len(wanted.files) > MAX_FILES:
            raise InvalidObject(f"at most {MAX_FILES} files can be registered at once")
        await services.replicas.add(who, wanted.rse, [_file(one) for one in wanted.files])
        return created()

    @router.put("", openapi_extra=accepts(AtRse), summary="Set the states of replicas")
    @router.put("/", include_in_schema=False)
    async def set_states(request: Request, who: caller) -> Response:
        wanted = await body(request, AtRse)
        states = [(Did(one.scope, one.name), _state(one.state)) for one in wanted.files]
        await services.replicas.set_states(who, wanted.rse, states)
        return done()

    @router.delete("", openapi_extra=accepts(AtRse), summary="Forget replicas")
    @router.delete("/", include_in_schema=False)
    async def remove(request: Request, who: caller) -> Response:
        wanted = await body(request, AtRse)
        dids = [Did(one.scope, one.name) for one in wanted.files]
        await services.replicas.remove(who, wanted.rse, dids)
        return done()

    @router.post("/tombstone", openapi_extra=accepts(Broken), summary="May be deleted first")
    async def tombstone(request: Request, who: caller) -> Response:
        wanted = await body(request, Broken)
        await services.replicas.tombstone(who, _by_rse(wanted.replicas))
        return created()


def _judge(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.post("/bad", openapi_extra=accepts(Broken), summary="Declare replicas bad, by PFN")
    async def bad(request: Request, who: caller) -> Response:
        wanted = await body(request, Broken)
        pfns = [one for one in wanted.replicas if isinstance(one, str)]
        named = _by_rse([one for one in wanted.replicas if not isinstance(one, str)])
        known = await services.replicas.by_pfn(pfns, None)
        for rse, did in known.values():
            named.setdefault(rse, []).append(did)
        if named:
            await services.replicas.declare_bad(who, named, wanted.reason)
        unknown = [pfn for pfn in pfns if pfn not in known]
        return reply({"unknown": unknown} if unknown else {}, 201)

    @router.post("/bad/dids", openapi_extra=accepts(AtRse), summary="Declare replicas bad")
    async def bad_dids(request: Request, who: caller) -> Response:
        wanted = await body(request, AtRse)
        dids = [Did(one.scope, one.name) for one in wanted.dids]
        await services.replicas.declare_bad(who, {wanted.rse: dids}, wanted.reason)
        return reply([], 201)

    @router.post("/suspicious", openapi_extra=accepts(Broken), summary="Declare suspicious")
    async def suspicious(request: Request, who: caller) -> Response:
        wanted = await body(request, Broken)
        known = await services.replicas.by_pfn(wanted.pfns, None)
        named: dict[str, list[Did]] = {}
        for rse, did in known.values():
            named.setdefault(rse, []).append(did)
        await services.replicas.declare_suspicious(who, named, wanted.reason)
        unknown = [pfn for pfn in wanted.pfns if pfn not in known]
        return reply({"unknown": unknown} if unknown else {}, 201)

    @router.get("/suspicious", summary="Replicas that something spoke against")
    async def list_suspicious(rse_expression: str | None = None) -> Response:
        rows = await services.replicas.suspicious(rse_expression)
        return await stream(each(rows), _suspicious)

    @router.post("/dids", openapi_extra=accepts(Broken), summary="Which file a PFN is")
    async def by_pfn(request: Request) -> Response:
        wanted = await body(request, Broken)
        found = await services.replicas.by_pfn(wanted.pfns, wanted.rse)
        return await stream(
            each(list(found.items())),
            lambda one: {one[0]: {"scope": one[1][1].scope, "name": one[1][1].name}},
        )


def _read(router: APIRouter, services: Services) -> None:
    @router.post("/list", openapi_extra=accepts(Question), summary="Where files stand")
    async def listing(request: Request) -> Response:
        wanted = await body(request, Question)
        dids = [Did(one.scope, one.name) for one in wanted.dids]
        question = Listing(dids, wanted.rse_expression, wanted.all_states)
        shapes = await _shapes(services, question, _schemes(wanted.schemes), wanted.domain)
        return await _listed(services, request, shapes, parents=wanted.resolve_parents)

    @router.get("/rse/{rse}", summary="Datasets of which a storage holds anything")
    async def datasets_at(rse: str) -> Response:
        found, there = await services.replicas.datasets_at(rse)
        return await stream(each(found), lambda one: summary_shape(one, there))

    @router.get("/{scope}/{name:path}/datasets", summary="How much each storage holds")
    async def datasets(scope: str, name: str) -> Response:
        found, rses = await services.replicas.datasets(Did(scope, name))
        return await stream(each(found), lambda one: summary_shape(one, rses[one.rse_id]))

    @router.post("/datasets_bulk", openapi_extra=accepts(AtRse), summary="The same for many")
    async def datasets_bulk(request: Request) -> Response:
        wanted = await body(request, Question)
        found = []
        for one in wanted.dids:
            some, rses = await services.replicas.datasets(Did(one.scope, one.name))
            found += [summary_shape(entry, rses[entry.rse_id]) for entry in some]
        return await stream(each(found), dict)

    @router.get("/{scope}/{name:path}", summary="Where a file or the files below stand")
    async def one(scope: str, name: str, request: Request) -> Response:
        schemes = request.query_params.get("schemes")
        shapes = await _shapes(services, Listing([Did(scope, name)]), _schemes(schemes), None)
        return await _listed(services, request, shapes)


async def _shapes(
    services: Services, question: Listing, schemes: Sequence[str] | None, domain: str | None
) -> Shapes:
    """Return the listing, after what may be wrong with the question was said."""
    if domain not in {None, "wan", "lan", "all"}:
        raise InvalidType(f"domain {domain!r} is none of wan, lan, all")
    rses = await services.replicas.check(question)
    door = None if domain == "all" else domain
    return replica_shapes(services.replicas.each(question), rses, schemes, door)


async def _listed(
    services: Services, request: Request, shapes: Shapes, *, parents: bool = False
) -> Response:
    found = _with_parents(services, shapes) if parents else (shape async for _, shape in shapes)
    if METALINK in request.headers.get("accept", ""):
        return StreamingResponse(metalink(found), 200, media_type=METALINK)
    return await stream(found, dict)


async def _with_parents(services: Services, shapes: Shapes) -> AsyncIterator[dict[str, Any]]:
    """Add to each file all collections that hold it, looked up for many files at once."""
    some: list[tuple[int, dict[str, Any]]] = []
    async for one in shapes:
        some.append(one)
        if len(some) == PARENTS_AT_ONCE:
            for shape in await _parented(services, some):
                yield shape
            some = []
    for shape in await _parented(services, some):
        yield shape


async def _parented(
    services: Services, some: Sequence[tuple[int, dict[str, Any]]]
) -> list[dict[str, Any]]:
    above = await services.replicas.holders([number for number, _ in some])
    return [{**shape, "parents": [str(did) for did in above[number]]} for number, shape in some]


def _schemes(value: list[str] | str | None) -> list[str] | None:
    if value is None or value == "":
        return None
    return value.split(",") if isinstance(value, str) else value


def _file(entry: NewReplica) -> FileSpec:
    return FileSpec(
        Did(entry.scope, entry.name),
        entry.bytes,
        entry.adler32,
        entry.md5,
        entry.pfn,
        entry.meta or {},
        _state(entry.state) if entry.state else ReplicaState.AVAILABLE,
    )


def _state(text: str | None) -> ReplicaState:
    found = REPLICA_CODES.get(text or "") or next(
        (one for one in ReplicaState if one.value == text), None
    )
    if found is None:
        raise InvalidType(f"replica state {text!r} does not exist")
    return found


def _by_rse(named: Sequence[Named | str]) -> dict[str, list[Did]]:
    found: dict[str, list[Did]] = {}
    for one in named:
        if isinstance(one, str) or not one.rse:
            raise InvalidObject("a replica is named by scope, name and rse")
        found.setdefault(one.rse, []).append(Did(one.scope, one.name))
    return found


def _suspicious(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "scope": row["scope"],
        "name": row["name"],
        "rse": row["rse"],
        "reason": row["reason"],
        "account": row["account"],
        "created_at": moment(row["created_at"]),
        "cnt": 1,
    }
