"""The routes of deployments themselves: list, create, look, update, remove.

Source: INDIGO PaaS Orchestrator REST API, ``/deployments``.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from twinfra.access.model import Principal
from twinfra.core.errors import InvalidRequest
from twinfra.orchestration.deployments.api.access import Ask, Asked
from twinfra.orchestration.deployments.api.bodies import DeploymentBody, StatusBody
from twinfra.orchestration.deployments.model.records import Deployment
from twinfra.orchestration.deployments.model.states import Status
from twinfra.orchestration.deployments.model.views import deployment_view, page_view
from twinfra.orchestration.deployments.service.outputs import shown_to
from twinfra.orchestration.deployments.store import Wanted

KEY_CHARS = 255
REPLAYED = "Idempotency-Replayed"
SORTS = {"createdAt,desc": False, "createdAt": True, "createdAt,asc": True}


router = APIRouter(tags=["deployments"])


@router.get("/deployments", summary="List deployments")
async def list_deployments(
    ask: Asked,
    created_by: Annotated[str | None, Query(alias="createdBy")] = None,
    user_group: Annotated[str | None, Query(alias="userGroup")] = None,
    status: Status | None = None,
    page: Annotated[int, Query(ge=0, le=10**6)] = 0,
    size: Annotated[int | None, Query(ge=1)] = None,
    sort: str = "createdAt,desc",
) -> dict[str, Any]:
    """Newest first; one's own unless ``createdBy`` or ``userGroup`` say otherwise."""
    size = min(size or ask.kit.settings.page_size, ask.kit.settings.page_size_most)
    caller = ask.principal
    if sort not in SORTS:
        raise InvalidRequest(f"sort {sort!r} is none of {', '.join(SORTS)}")
    wanted = Wanted(
        issuer=None if caller.is_service else caller.issuer,
        sub=None if caller.is_service else caller.sub,
        groups=tuple(sorted(caller.groups)),
        owner=_owner(caller, created_by, user_group),
        group=user_group.strip("/") if user_group else None,
        status=status,
        oldest_first=SORTS[sort],
    )
    async with ask.kit.store.view() as view:
        found, total = await view.deployments(wanted, offset=page * size, limit=size)
    query: dict[str, Any] = {"page": page, "size": size, "sort": sort}
    asked = {"createdBy": created_by, "userGroup": user_group, "status": status}
    query |= {key: value for key, value in asked.items() if value is not None}
    content = [_document(ask, each) for each in found]
    return page_view(content, url=f"{ask.kit.base_url}/deployments", query=query, total=total)


@router.post("/deployments", status_code=201, summary="Create a deployment")
async def create(
    body: DeploymentBody,
    ask: Asked,
    repeat_key: Annotated[
        str | None, Header(alias="Idempotency-Key", min_length=1, max_length=KEY_CHARS)
    ] = None,
) -> Response:
    """Accepted work goes on by itself; the same Idempotency-Key gives the same deployment."""
    made = await ask.deployments.create(ask.principal, body.request(), repeat_key=repeat_key)
    headers = {"Location": f"{ask.kit.base_url}/deployments/{made.deployment.id}"}
    if made.replayed:
        headers[REPLAYED] = "true"
    shown = _document(ask, made.deployment)
    return JSONResponse(shown, 200 if made.replayed else 201, headers)


@router.get("/deployments/{deployment_id}", summary="Look at a deployment")
async def get_one(deployment_id: str, ask: Asked) -> dict[str, Any]:
    """The document carries status, reason and outputs."""
    return _document(ask, await ask.look(deployment_id))


@router.put("/deployments/{deployment_id}", status_code=202, summary="Update a deployment")
async def update(deployment_id: str, body: DeploymentBody, ask: Asked) -> dict[str, Any]:
    """The whole template anew; parameters are merged into those in force."""
    changed = await ask.deployments.update(ask.principal, deployment_id, body.request())
    return _document(ask, changed)


@router.patch("/deployments/{deployment_id}", status_code=204, summary="Give up a removal")
async def reset(deployment_id: str, body: StatusBody, ask: Asked) -> Response:
    """Only DELETE_FAILED can be set, on a removal that does not end."""
    await ask.deployments.reset(ask.principal, deployment_id, body.status)
    return Response(status_code=204)


@router.delete("/deployments/{deployment_id}", status_code=204, summary="Remove a deployment")
async def delete(deployment_id: str, ask: Asked, force: bool = False) -> Response:
    """With ``force`` it does not wait for sites, and names what is left behind."""
    await ask.deployments.delete(ask.principal, deployment_id, force=force)
    return Response(status_code=204)


@router.get("/deployments/{deployment_id}/template", summary="The template in force")
async def template(deployment_id: str, ask: Asked) -> Response:
    """As it was posted, the inputs not yet filled in."""
    found = await ask.look(deployment_id)
    return PlainTextResponse(found.template)


def _document(ask: Ask, deployment: Deployment) -> dict[str, Any]:
    return deployment_view(shown_to(ask.principal, deployment), ask.kit.base_url)


def _owner(
    principal: Principal, created_by: str | None, user_group: str | None
) -> tuple[str, str] | None:
    """Return whose deployments are wanted: ``me`` or ``<sub>@<issuer>``; none: everyone's."""
    if created_by is None:
        everyone = user_group is not None or principal.is_service
        return None if everyone else (principal.issuer, principal.sub)
    if created_by == "me":
        return principal.issuer, principal.sub
    sub, at, issuer = created_by.partition("@")
    if not at or not sub or not issuer:
        raise InvalidRequest("createdBy is me or <subject>@<issuer>")
    return issuer, sub
