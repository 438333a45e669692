"""Routes of identity: ``/ping /auth /accounts /scopes``."""

from importlib.metadata import version
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response

from twinfra.data.datasets.api.door import CallerOf, Services
from twinfra.data.datasets.api.shapes import rule_shape
from twinfra.data.datasets.api.wire import created, each, moment, reply, stream
from twinfra.data.datasets.errors import NotOffered
from twinfra.data.datasets.model.accounts import identity_text
from twinfra.data.datasets.ports import Account
from twinfra.data.datasets.service.rights import Caller

HOW = "this server takes OpenID Connect tokens: set auth_type=oidc and BEARER_TOKEN_FILE"


def routes(services: Services, caller_of: CallerOf) -> APIRouter:
    """Return the routes of accounts and scopes, and the two that say who is there."""
    router = APIRouter(tags=["accounts"])
    _about(router, caller_of)
    known = APIRouter(dependencies=[Depends(caller_of)])
    _accounts(known, services, caller_of)
    _scopes(known, services, caller_of)
    router.include_router(known)
    return router


def _about(router: APIRouter, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/ping", summary="Version")
    async def ping() -> Response:
        return reply({"version": f"twinfra {version('twinfra')}"})

    @router.get("/auth/validate", summary="Who the token proves to call")
    async def validate(who: caller) -> Response:
        principal = who.principal
        told = {
            "account": who.account,
            "identity": identity_text(principal.issuer, principal.sub),
            "lifetime": principal.expires_at,
            "authz_scope": " ".join(principal.scopes),
            "vo": "def",
        }
        headers = {"Cache-Control": "no-cache, no-store, max-age=0, must-revalidate"}
        return Response(str(told), 200, headers, media_type="application/octet-stream")

    @router.get("/auth/{way:path}", include_in_schema=False)
    async def other_ways(way: str) -> Response:
        raise NotOffered(f"{way}: {HOW}")


def _accounts(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/accounts/", summary="Accounts")
    @router.get("/accounts", include_in_schema=False)
    async def listing(account_type: str | None = None) -> Response:
        found = [one for one in await services.accounts.all() if account_type in {None, one.type}]
        return await stream(each(found), lambda one: {"account": one.name, "type": one.type})

    @router.get("/accounts/{account}", summary="An account; whoami is the caller's")
    async def get(account: str, who: caller) -> Response:
        name = who.account if account == "whoami" else account
        return reply(_shape(await services.accounts.get(name)))

    @router.get("/accounts/{account}/attr/", summary="Attributes of an account: none are kept")
    async def attributes(account: str) -> Response:
        await services.accounts.get(account)
        return await stream(each([]), dict)

    @router.get("/accounts/{account}/identities", summary="Identities that map to an account")
    async def identities(account: str, who: caller) -> Response:
        found = await services.accounts.identities(who, account)
        return await stream(
            each(found),
            lambda one: {"type": "OIDC", "identity": identity_text(one[0], one[1]), "email": None},
        )

    @router.get("/accounts/{account}/rules", summary="Rules of an account")
    async def rules(account: str) -> Response:
        return await stream(services.rules.each({"account": account}), rule_shape)


def _scopes(router: APIRouter, services: Services, caller_of: CallerOf) -> None:
    caller = Annotated[Caller, Depends(caller_of)]

    @router.get("/scopes/", summary="Scopes")
    @router.get("/scopes", include_in_schema=False)
    async def scopes() -> Response:
        return reply([scope for scope, _ in await services.accounts.scopes()])

    @router.get("/scopes/owner", summary="Scopes with their owners")
    @router.get("/scopes/owner/", include_in_schema=False)
    async def owners() -> Response:
        found = await services.accounts.scopes()
        return reply([{"scope": scope, "account": account} for scope, account in found])

    @router.get("/scopes/{account}/scopes", summary="Scopes of an account")
    @router.get("/accounts/{account}/scopes/", include_in_schema=False)
    async def of_account(account: str) -> Response:
        await services.accounts.get(account)
        return reply([scope for scope, _ in await services.accounts.scopes(account)])

    @router.post("/scopes/{account}/{scope}", summary="Add a scope")
    @router.post("/accounts/{account}/scopes/{scope}", include_in_schema=False)
    async def add(account: str, scope: str, who: caller) -> Response:
        await services.accounts.add_scope(who, scope, account)
        return created()


def _shape(account: Account) -> dict[str, Any]:
    return {
        "account": account.name,
        "account_type": account.type,
        "status": "ACTIVE",
        "email": None,
        "suspended_at": None,
        "deleted_at": None,
        "created_at": moment(account.created_at),
        "updated_at": moment(account.created_at),
    }
