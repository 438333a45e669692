"""Routes of storages: ``/rses``."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from twinfra.data.datasets.api.door import CallerOf, Services
from twinfra.data.datasets.api.shapes import (
    protocol_of,
    protocol_shape,
    rse_shape,
    usage_shape,
)
from twinfra.data.datasets.api.wire import Body, accepts, body, created, done, each, reply, stream
from twinfra.data.datasets.errors import InvalidObject, ProtocolNotSupported
from twinfra.data.datasets.model import Did
from twinfra.data.datasets.service.rights import Caller


class Value(Body):
    """The value of an attribute."""

    value: Any = None


class Distance(Body):
    """How far one storage is from another."""

    distance: int | None = None
    ranking: int | None = None


class Usage(Body):
    """What a source says about space."""

    source: str
    used: int | None = None
    free: int | None = None
    files: int | None = None


class Limit(Body):
    """A limit of a storage."""

    name: str
    value: float | None = None


def routes(services: Services, caller_of: CallerOf) -> APIRouter:
    """Return the routes below ``/rses``."""
    router = APIRouter(prefix="/rses", tags=["storages"], dependencies=[Depends(caller_of)])
    _facts(router, services, caller_of)
    _protocols(router, services, caller_of)
    _space(router, services, caller_of)
    _single(router, services, caller_of)
    return router


def _facts(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/{rse}/attr/", summary="Attributes")
    @router.get("/{rse}/attr", include_in_schema=False)
    async def attributes(rse: str) -> Response:
        found = await services.rses.get(rse)
        return reply({**found.attributes, found.name: True})

    @router.post("/{rse}/attr/{key}", openapi_extra=accepts(Value), summary="Add an attribute")
    async def add_attribute(rse: str, key: str, request: Request, who: caller) -> Response:
        value = (await body(request, Value)).value
        await services.rses.add_attribute(who, rse, key, value)
        return created()

    @router.delete("/{rse}/attr/{key}", summary="Remove an attribute")
    async def remove_attribute(rse: str, key: str, who: caller) -> Response:
        await services.rses.remove_attribute(who, rse, key)
        return done()

    @router.get("/{source}/distances/{destination}", summary="Distance")
    async def distance(source: str, destination: str) -> Response:
        found = await services.rses.distance(source, destination)
        if found is None:
            return reply([])
        return reply([{"src_rse": source, "dest_rse": destination, "distance": found}])

    @router.post(
        "/{source}/distances/{destination}", openapi_extra=accepts(Distance), summary="Set it"
    )
    async def add_distance(
        source: str, destination: str, request: Request, who: caller
    ) -> Response:
        found = _number(await body(request, Distance))
        await services.rses.set_distance(who, source, destination, found, new=True)
        return created()

    @router.put(
        "/{source}/distances/{destination}", openapi_extra=accepts(Distance), summary="Change it"
    )
    async def set_distance(
        source: str, destination: str, request: Request, who: caller
    ) -> Response:
        found = _number(await body(request, Distance))
        await services.rses.set_distance(who, source, destination, found)
        return done()

    @router.delete("/{source}/distances/{destination}", summary="Forget it")
    async def remove_distance(source: str, destination: str, who: caller) -> Response:
        await services.rses.set_distance(who, source, destination, None)
        return done()


def _protocols(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/{rse}/protocols", summary="Doors of a storage")
    async def protocols(rse: str) -> Response:
        return reply(rse_shape(await services.rses.get(rse)))

    @router.get("/{rse}/protocols/{scheme}", summary="Doors of one scheme")
    async def protocol(rse: str, scheme: str) -> Response:
        found = await services.rses.get(rse)
        doors = [protocol_shape(one) for one in found.protocols if one.scheme == scheme]
        if not doors:
            raise ProtocolNotSupported(f"{rse} has no protocol {scheme}")
        return reply({**rse_shape(found), "protocols": doors})

    @router.post(
        "/{rse}/protocols/{scheme}", openapi_extra=accepts(dict[str, Any]), summary="Add a door"
    )
    async def add(rse: str, scheme: str, request: Request, who: caller) -> Response:
        facts = await body(request, dict[str, Any])
        await services.rses.add_protocol(who, rse, protocol_of(scheme, facts))
        return created()

    for path in ("", "/{hostname}", "/{hostname}/{port}"):

        @router.put(f"/{{rse}}/protocols/{{scheme}}{path}", summary="Change doors")
        async def change(
            rse: str,
            scheme: str,
            request: Request,
            who: caller,
            hostname: str | None = None,
            port: int | None = None,
        ) -> Response:
            facts = await body(request, dict[str, Any])
            await services.rses.change_protocols(who, rse, (scheme, hostname, port), facts)
            return done()

        @router.delete(f"/{{rse}}/protocols/{{scheme}}{path}", summary="Remove doors")
        async def remove(
            rse: str, scheme: str, who: caller, hostname: str | None = None, port: int | None = None
        ) -> Response:
            await services.rses.change_protocols(who, rse, (scheme, hostname, port), None)
            return done()

    @router.get("/{rse}/lfns2pfns", summary="Where naming puts files")
    async def lfns2pfns(rse: str, request: Request) -> Response:
        found = await services.rses.get(rse)
        query = request.query_params
        scheme = query.get("scheme")
        doors = found.doors(query.get("operation", "write"), schemes=[scheme] if scheme else None)
        if not doors:
            raise ProtocolNotSupported(f"{rse} has no such protocol")
        lfns = query.getlist("lfn")
        return reply(
            {lfn: doors[0].url(found.path_at(Did.parse(lfn), doors[0], None)) for lfn in lfns}
        )


def _space(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/{rse}/usage", summary="What is said about space")
    async def usage(rse: str, source: str | None = None) -> Response:
        rows = usage_shape(rse, await services.rses.usage(rse))
        chosen = [row for row in rows if source in {None, row["source"]}]
        return await stream(each(chosen), dict)

    @router.put("/{rse}/usage", openapi_extra=accepts(Usage), summary="Say something about it")
    async def set_usage(rse: str, request: Request, who: caller) -> Response:
        told = await body(request, Usage)
        numbers = {"used_bytes": told.used, "free_bytes": told.free, "files": told.files}
        await services.rses.set_usage(who, rse, told.source, numbers)
        return done()

    @router.get("/{rse}/limits", summary="Limits")
    async def limits(rse: str) -> Response:
        return reply(await services.rses.limits(rse))

    @router.put("/{rse}/limits", openapi_extra=accepts(Limit), summary="Set a limit")
    async def set_limit(rse: str, request: Request, who: caller) -> Response:
        limit = await body(request, Limit)
        await services.rses.set_limit(who, rse, limit.name, limit.value)
        return done()

    @router.delete("/{rse}/limits", openapi_extra=accepts(Limit), summary="Remove a limit")
    async def remove_limit(rse: str, request: Request, who: caller) -> Response:
        limit = await body(request, Limit)
        await services.rses.set_limit(who, rse, limit.name, None)
        return done()


def _single(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/", summary="Storages, all or by expression")
    @router.get("", include_in_schema=False)
    async def listing(expression: str | None = None) -> Response:
        return await stream(each(await services.rses.all(expression)), rse_shape)

    @router.get("/{rse}", summary="A storage")
    async def get(rse: str) -> Response:
        return reply(rse_shape(await services.rses.get(rse)))

    @router.post("/{rse}", openapi_extra=accepts(dict[str, Any]), summary="Register a storage")
    async def add(rse: str, request: Request, who: caller) -> Response:
        await services.rses.add(who, rse, await body(request, dict[str, Any]))
        return created()

    @router.put("/{rse}", openapi_extra=accepts(dict[str, Any]), summary="Change a storage")
    async def update(rse: str, request: Request, who: caller) -> Response:
        facts = await body(request, dict[str, Any])
        await services.rses.update(who, rse, facts.get("parameters", facts))
        return created()

    @router.delete("/{rse}", summary="Remove a storage that holds nothing")
    async def remove(rse: str, who: caller) -> Response:
        await services.rses.remove(who, rse)
        return done()


def _number(told: Distance) -> int:
    found = told.distance if told.distance is not None else told.ranking
    if found is None:
        raise InvalidObject("a distance is a number")
    return found
