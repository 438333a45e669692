"""The routes that look into a deployment: resources, placement, runs, attempts, logs.

Resources, log and extrainfo are INDIGO's; the others say what it does not: why a site was chosen or
excluded, what was tried, which runs there were.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import PlainTextResponse

from twinfra.core.errors import NotFound
from twinfra.orchestration.deployments.api.access import Ask, Asked
from twinfra.orchestration.deployments.model.records import Attempt, Node, NodeRun
from twinfra.orchestration.deployments.model.views import (
    attempt_view,
    entry_line,
    page_view,
    placement_view,
    resource_view,
    run_view,
)
from twinfra.orchestration.deployments.service.logs import node_logs
from twinfra.orchestration.deployments.store import View

TYPE_ROOTS = {"tosca.nodes.twinfra.Container", "tosca.nodes.Root"}
TAIL_MOST = 10_000


router = APIRouter(tags=["deployments"])


@router.get("/deployments/{deployment_id}/resources", summary="The nodes as resources")
async def resources(
    deployment_id: str,
    ask: Asked,
    type_: Annotated[str | None, Query(alias="type")] = None,
    page: Annotated[int, Query(ge=0, le=10**6)] = 0,
    size: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """A page of the nodes, all or those of a type."""
    found = await _resources(ask, deployment_id, type_)
    url = f"{ask.kit.base_url}/deployments/{deployment_id}/resources"
    query: dict[str, Any] = {"page": page, "size": size}
    query |= {"type": type_} if type_ else {}
    shown = found[page * size : (page + 1) * size]
    return page_view(shown, url=url, query=query, total=len(found))


@router.get("/deployments/{deployment_id}/resources/filter", summary="Resources of a type")
async def resources_of(
    deployment_id: str,
    ask: Asked,
    type_: Annotated[str, Query(alias="type")],
) -> list[dict[str, Any]]:
    """All nodes of a type."""
    return await _resources(ask, deployment_id, type_)


@router.get("/deployments/{deployment_id}/resources/{resource_id}", summary="One resource")
async def resource(deployment_id: str, resource_id: str, ask: Asked) -> dict[str, Any]:
    """One node by its id."""
    for each in await _resources(ask, deployment_id, None):
        if each["uuid"] == resource_id:
            return each
    raise NotFound(f"The resource {resource_id} doesn't exist")


@router.get("/deployments/{deployment_id}/placement", summary="What ranking said, and why")
async def placement(deployment_id: str, ask: Asked) -> list[dict[str, Any]]:
    """Per run of each node: candidates with their factors, and who was excluded for what."""
    await ask.look(deployment_id)
    async with ask.kit.store.view() as view:
        placed = await view.placements(deployment_id)
        tried = await view.attempts(deployment=deployment_id)
    return [placement_view(each, [a for a in tried if a.run == each.run]) for each in placed]


@router.get("/deployments/{deployment_id}/attempts", summary="Every try at every site")
async def attempts(deployment_id: str, ask: Asked) -> list[dict[str, Any]]:
    """Site, phase reached, class of failure and raw reason of each."""
    await ask.look(deployment_id)
    async with ask.kit.store.view() as view:
        return [attempt_view(each) for each in await view.attempts(deployment=deployment_id)]


@router.get("/deployments/{deployment_id}/runs", summary="Every run of every node")
async def runs(
    deployment_id: str,
    ask: Asked,
    node: str | None = None,
) -> list[dict[str, Any]]:
    """Of jobs each execution, of services each version; runs by event name the event."""
    await ask.look(deployment_id)
    async with ask.kit.store.view() as view:
        found = await view.runs(deployment_id, node)
        tried = await view.attempts(deployment=deployment_id)
    return [run_view(run, [a for a in tried if a.run == run.id]) for run in found]


@router.get("/deployments/{deployment_id}/extrainfo", summary="The jobs behind the nodes")
async def extrainfo(deployment_id: str, ask: Asked) -> list[dict[str, Any]]:
    """The attempts again, in the envelope that INDIGO gives to machines."""
    await ask.look(deployment_id)
    async with ask.kit.store.view() as view:
        tried = await view.attempts(deployment=deployment_id)
    return [{"vmProperties": attempt_view(each) | {"toscaNodeName": each.node}} for each in tried]


@router.get("/deployments/{deployment_id}/log", summary="What happened, and what jobs wrote")
async def log(
    deployment_id: str,
    ask: Asked,
    tail: Annotated[int, Query(ge=1, le=TAIL_MOST)] = 1000,
    node: str | None = None,
) -> Response:
    """The history, then the end of each node's newest log, at most ``tail`` lines of each."""
    deployment = await ask.look(deployment_id)
    async with ask.kit.store.view() as view:
        history = await view.history_tail(deployment_id, limit=tail)
    lines = [entry_line(each) for each in history if node in {None, each.body.get("node")}]
    for name, text in await node_logs(ask.kit, deployment, node=node, tail_lines=tail):
        lines += [f"--- {name}", *text.splitlines()[-tail:]]
    return PlainTextResponse("\n".join([*lines, ""]))


async def _resources(ask: Ask, deployment_id: str, wanted: str | None) -> list[dict[str, Any]]:
    await ask.look(deployment_id)
    async with ask.kit.store.view() as view:
        nodes = [node for node in await view.nodes(deployment_id) if not node.removed]
        newest = await _newest(view, deployment_id)
    return [
        resource_view(node, _needed_by(node, nodes), ask.kit.base_url, newest(node))
        for node in nodes
        if wanted is None or wanted == node.type or wanted in TYPE_ROOTS
    ]


async def _newest(view: View, deployment_id: str) -> Callable[[Node], Attempt | None]:
    """Return what gives a node's attempt: the one that serves, else the newest."""
    runs = await view.runs(deployment_id)
    tried = await view.attempts(deployment=deployment_id)

    def newest(node: Node) -> Attempt | None:
        mine: list[NodeRun] = [run for run in runs if run.node == node.name]
        shown = next((run for run in mine if run.id == node.active_run), mine[-1] if mine else None)
        found = [each for each in tried if shown is not None and each.run == shown.id]
        return found[-1] if found else None

    return newest


def _needed_by(node: Node, nodes: list[Node]) -> list[str]:
    return [each.id for each in nodes if node.name in each.depends_on]
