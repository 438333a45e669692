"""Routes of rules and locks: ``/rules`` and ``/locks``."""

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field

from twinfra.data.datasets.api.door import CallerOf, Services
from twinfra.data.datasets.api.shapes import lock_shape, rule_shape
from twinfra.data.datasets.api.wire import Body, accepts, body, done, each, reply, stream
from twinfra.data.datasets.errors import (
    InvalidObject,
    InvalidRseExpression,
    InvalidRule,
    NotOffered,
)
from twinfra.data.datasets.model import Did, Grouping, LockState, NewRule
from twinfra.data.datasets.ports import LockRow, RuleRow
from twinfra.data.datasets.service.rights import Caller

DEFAULT_ACTIVITY = "User Subscriptions"


class Pair(Body):
    """What names data."""

    scope: str
    name: str


class Wanted(Body):
    """Rules to be made, one for each data identifier."""

    dids: list[Pair] = Field(min_length=1)
    copies: int
    rse_expression: str
    account: str | None = None
    grouping: str | None = None
    weight: str | None = None
    lifetime: float | None = None
    locked: bool | None = None
    source_replica_expression: str | None = None
    activity: str | None = None
    notify: str | None = None
    purge_replicas: bool | None = None
    ignore_availability: bool | None = None
    comment: str | None = None
    priority: int | None = None
    meta: dict[str, Any] | str | None = None
    ask_approval: bool | None = None
    delay_injection: int | None = None
    subscription_id: str | None = None


class Options(Body):
    """What of a rule shall be changed."""

    options: dict[str, Any]


class Purge(Body):
    """Whether the copies go first when space is needed."""

    purge_replicas: bool | None = None


def routes(services: Services, caller_of: CallerOf) -> APIRouter:
    """Return the routes below ``/rules`` and ``/locks``."""
    router = APIRouter(tags=["rules"], dependencies=[Depends(caller_of)])
    _many(router, services, caller_of)
    _single(router, services, caller_of)
    _locks(router, services)
    return router


def _many(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.post("/rules/", openapi_extra=accepts(Wanted), summary="Ask for copies")
    @router.post("/rules", include_in_schema=False)
    async def add(request: Request, who: caller) -> Response:
        wanted = await body(request, Wanted)
        try:
            ids = await services.rules.add(who, _rules(wanted))
        except InvalidRseExpression as error:
            raise _AtRule(error.detail) from error
        return reply(ids, 201)

    @router.get("/rules/", summary="Rules by account, state, scope, name, …")
    @router.get("/rules", include_in_schema=False)
    async def listing(request: Request) -> Response:
        return await stream(services.rules.each(dict(request.query_params)), rule_shape)


class _AtRule(InvalidRseExpression):
    """A wrong expression, with the status that Rucio gives it when a rule is made."""

    status = 409


def _single(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/rules/{rule_id}", summary="How a rule stands")
    async def get(rule_id: str) -> Response:
        return reply(rule_shape(await services.rules.get(rule_id)))

    @router.put("/rules/{rule_id}", openapi_extra=accepts(Options), summary="Change a rule")
    async def update(rule_id: str, request: Request, who: caller) -> Response:
        options = (await body(request, Options)).options
        if "approve" in options:
            raise NotOffered("rules need no approval here")
        await services.rules.update(who, rule_id, options)
        return done()

    @router.delete("/rules/{rule_id}", openapi_extra=accepts(Purge), summary="Let go of a rule")
    async def remove(rule_id: str, request: Request, who: caller) -> Response:
        purge = (await body(request, Purge)).purge_replicas
        await services.rules.remove(who, rule_id, purge=purge)
        return done()

    @router.get("/rules/{rule_id}/locks", summary="Each file copy that a rule wants")
    async def locks(rule_id: str) -> Response:
        found, names = await services.rules.locks(rule_id=rule_id)
        return await stream(each(found), lambda lock: lock_shape(lock, names))

    @router.get("/rules/{rule_id}/analysis", summary="Why a rule is stuck")
    async def analysis(rule_id: str) -> Response:
        rule = await services.rules.get(rule_id)
        found, names = await services.rules.locks(rule_id=rule_id)
        return reply(_analysis(rule, found, names))


def _locks(router: APIRouter, services: Services) -> None:
    @router.get("/locks/{scope}/{name:path}", summary="Locks on the files of a dataset")
    async def on_dataset(scope: str, name: str) -> Response:
        did = Did(scope, name)
        found, names = await services.rules.locks(did=did)
        return await stream(each(_by_rule(did, found, names)), dict)

    @router.post("/locks/bulk_locks_for_dids", summary="The same for many")
    async def on_datasets(request: Request) -> Response:
        dids = (await body(request, dict[str, list[Pair]])).get("dids", [])
        shapes = []
        for pair in dids:
            did = Did(pair.scope, pair.name)
            found, names = await services.rules.locks(did=did)
            shapes += _by_rule(did, found, names)
        return await stream(each(shapes), dict)


def _rules(wanted: Wanted) -> list[NewRule]:
    if wanted.ask_approval or wanted.subscription_id or wanted.delay_injection:
        raise NotOffered("approval, subscriptions and delayed injection are not offered here")
    grouping = (wanted.grouping or Grouping.DATASET.value).upper()
    if grouping not in set(Grouping):
        raise InvalidRule(f"grouping {wanted.grouping!r} is none of ALL, DATASET, NONE")
    if isinstance(wanted.meta, str):
        raise InvalidObject("meta is a JSON object")
    return [
        NewRule(
            did=Did(pair.scope, pair.name).checked(),
            copies=wanted.copies,
            rse_expression=wanted.rse_expression,
            lifetime_s=wanted.lifetime,
            grouping=Grouping(grouping),
            source_replica_expression=wanted.source_replica_expression,
            activity=wanted.activity or DEFAULT_ACTIVITY,
            comment=wanted.comment,
            meta=wanted.meta or {},
            weight=wanted.weight,
            locked=bool(wanted.locked),
            priority=wanted.priority or 3,
            purge_replicas=bool(wanted.purge_replicas),
            ignore_availability=bool(wanted.ignore_availability),
            notify=(wanted.notify or "N")[0],
            account=wanted.account,
        )
        for pair in wanted.dids
    ]


def _analysis(rule: RuleRow, locks: Iterable[LockRow], names: dict[int, str]) -> dict[str, Any]:
    stuck = [lock for lock in locks if lock.state is LockState.STUCK]
    return {
        "rule_error": rule.error or f"{rule.state.value}: nothing to complain about",
        "transfers": [
            {
                "scope": lock.did.scope,
                "name": lock.did.name,
                "rse": names[lock.rse_id],
                "attempts": None,
                "last_error": lock.reason,
                "last_source": None,
                "last_time": None,
                "sources": [],
            }
            for lock in stuck
        ],
    }


def _by_rule(did: Did, locks: Iterable[LockRow], names: dict[int, str]) -> list[dict[str, Any]]:
    """Sum locks up as Rucio's dataset locks: by rule and storage, the worst state counts."""
    order = [LockState.OK, LockState.REPLICATING, LockState.STUCK]
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for lock in locks:
        entry = found.setdefault(
            (lock.rule_id, lock.rse_id),
            {
                "scope": did.scope,
                "name": did.name,
                "rse": names[lock.rse_id],
                "rule_id": lock.rule_id,
                "state": LockState.OK.value,
                "length": 0,
                "bytes": 0,
                "accessed_at": None,
            },
        )
        entry["length"] += 1
        entry["bytes"] += lock.size_bytes or 0
        entry["state"] = max(LockState(entry["state"]), lock.state, key=order.index).value
    return list(found.values())
