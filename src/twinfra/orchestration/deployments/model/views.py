"""Deployments, resources and runs as the API shows them; field names are INDIGO's.

Times carry seconds (the INDIGO orchestrator prints minutes). What INDIGO has no word for stands
beside its fields, which its clients ignore.

Source: INDIGO PaaS Orchestrator REST API (deployment, resource and page documents).
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from twinfra.core.time import rfc3339
from twinfra.orchestration.deployments.model.records import (
    Attempt,
    Deployment,
    Entry,
    Node,
    NodeRun,
    Placement,
)
from twinfra.orchestration.deployments.model.states import Role


def moment(at: datetime | None) -> str | None:
    """Spell a moment, to the second."""
    return None if at is None else rfc3339(at)[:19] + "Z"


def deployment_view(deployment: Deployment, base_url: str) -> dict[str, Any]:
    """Return the document of a deployment."""
    here = f"{base_url}/deployments/{deployment.id}"
    provider = deployment.provider
    return {
        "uuid": deployment.id,
        "creationTime": moment(deployment.created_at),
        "updateTime": moment(deployment.updated_at),
        "physicalId": deployment.id,
        "status": deployment.status.value,
        "statusReason": deployment.status_reason,
        "outputs": dict(deployment.outputs),
        "task": deployment.task.value,
        "callback": deployment.wishes.callback,
        "userGroup": deployment.group,
        "cloudProviderName": provider,
        "cloudProviderEndpoint": None
        if provider is None
        else {
            "cpEndpoint": deployment.endpoint,
            "cpComputeServiceId": provider,
            "region": None,
            "deploymentType": "INTERLINK",
        },
        "createdBy": {"issuer": deployment.issuer, "subject": deployment.sub},
        "links": [
            {"rel": "self", "href": here},
            {"rel": "resources", "href": f"{here}/resources"},
            {"rel": "template", "href": f"{here}/template"},
            {"rel": "placement", "href": f"{here}/placement"},
            {"rel": "events", "href": f"{here}/events"},
            {"rel": "attempts", "href": f"{here}/attempts"},
            {"rel": "runs", "href": f"{here}/runs"},
        ],
    }


def resource_view(
    node: Node, required_by: Sequence[str], base_url: str, attempt: Attempt | None
) -> dict[str, Any]:
    """Return the document of a node."""
    here = f"{base_url}/deployments/{node.deployment}"
    metadata: dict[str, Any] = {"role": node.role.value, "armed": node.armed}
    if attempt is not None:
        metadata |= {"site": attempt.target.site, "run": attempt.run, "attempt": attempt.number}
    if node.role is Role.SERVICE:
        metadata["url"] = service_url(base_url, node.id)
    return {
        "uuid": node.id,
        "creationTime": moment(node.created_at),
        "updateTime": moment(node.updated_at),
        "physicalId": attempt.id if attempt else None,
        "state": node.state.value,
        "toscaNodeType": node.type,
        "toscaNodeName": node.name,
        "requiredBy": list(required_by),
        "metadata": metadata,
        "links": [
            {"rel": "self", "href": f"{here}/resources/{node.id}"},
            {"rel": "deployment", "href": here},
        ],
    }


def service_url(base_url: str, node_id: str) -> str:
    """Return where a service stands."""
    return f"{base_url}/services/{node_id}/"


def run_view(run: NodeRun, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Return the document of one run of a node."""
    last = attempts[-1] if attempts else None
    return {
        "uuid": run.id,
        "node": run.node,
        "number": run.number,
        "trigger": run.trigger.value,
        "event": run.cause,
        "state": run.state.value,
        "reason": run.reason,
        "exitCode": run.exit_code,
        "site": last.target.site if last else None,
        "uid": last.id if last else None,
        "inputs": dict(run.pins),
        "attempts": len(attempts),
        "creationTime": moment(run.created_at),
        "updateTime": moment(run.updated_at),
        "endTime": moment(run.ended_at),
    }


def attempt_view(attempt: Attempt) -> dict[str, Any]:
    """Return the document of one attempt."""
    return {
        "uid": attempt.id,
        "run": attempt.run,
        "node": attempt.node,
        "number": attempt.number,
        "site": attempt.target.site,
        "state": attempt.state.value,
        "phase": attempt.reached.value,
        "failure": attempt.failure.value if attempt.failure else None,
        "reason": attempt.reason,
        "exitCode": attempt.exit_code,
        "nativeId": attempt.native_id,
        "restarts": attempt.restarts,
        "kept": attempt.kept,
        "gone": attempt.gone,
        "creationTime": moment(attempt.created_at),
        "deadline": moment(attempt.deadline_at),
        "endTime": moment(attempt.ended_at),
    }


def placement_view(placement: Placement, attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Return what ranking said for one run, and which site was taken."""
    tried = [each for each in attempts if each.cycle == placement.cycle]
    return {
        "node": placement.node,
        "run": placement.run,
        "cycle": placement.cycle,
        "decidedAt": moment(placement.at),
        "chosen": tried[-1].target.site if tried else None,
        "tried": [each.target.site for each in tried],
        **placement.body,
    }


def entry_view(entry: Entry) -> dict[str, Any]:
    """Return one line of the history."""
    return {"seq": entry.seq, "time": rfc3339(entry.at), "kind": entry.kind, **entry.body}


def entry_line(entry: Entry) -> str:
    """Return one line of the history for people."""
    said = {key: value for key, value in entry.body.items() if value is not None and value != ""}
    words = " ".join(f"{key}={' '.join(str(value).split())}" for key, value in said.items())
    return f"{moment(entry.at)} {entry.kind} {words}"


def page_view(
    content: Sequence[Any], *, url: str, query: Mapping[str, Any], total: int
) -> dict[str, Any]:
    """Return the envelope of a page.

    Args:
        content: the documents of this page.
        url: of the list.
        query: all parameters in force, with ``page`` and ``size``.
        total: how many documents there are on all pages.
    """
    number, size = int(query["page"]), int(query["size"])
    pages = -(-total // size)
    places = {"first": 0, "prev": number - 1, "self": number, "next": number + 1, "last": pages - 1}
    links = [
        {"rel": rel, "href": f"{url}?{urlencode({**query, 'page': place})}"}
        for rel, place in places.items()
        if rel == "self" or 0 <= place < pages
    ]
    return {
        "links": links,
        "content": list(content),
        "page": {"size": size, "totalElements": total, "totalPages": pages, "number": number},
    }
