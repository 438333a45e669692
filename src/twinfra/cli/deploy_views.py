"""How ``twinfra deploy`` shows deployments to people: documents, placements, lines of progress."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import typer

from twinfra.cli.options import print_json
from twinfra.cli.tables import show
from twinfra.orchestration.deployments.client import DeploymentEvent

JSON = Mapping[str, Any]
WHY_COLUMNS = ("node", "site", "rank", "score", "why")


def show_document(document: JSON, *, json: bool) -> None:
    """Print a deployment: its id and status, the reason if there is one, its outputs."""
    if json:
        print_json(document)
        return
    typer.echo(f"{document['uuid']} {document['status']}")
    if document["statusReason"]:
        typer.echo(f"reason: {document['statusReason']}")
    for name, value in document["outputs"].items():
        typer.echo(f"output {name}: {value}")


def show_whole(found: JSON) -> None:
    """Print a deployment with its nodes, what was tried for them, and why there."""
    show_document(found["deployment"], json=False)
    typer.echo()
    rows = [
        {"node": each["toscaNodeName"], "state": each["state"], **each["metadata"]}
        for each in found["resources"]
    ]
    show(rows, ("node", "state", "role", "site", "url"), json=False)
    if found["attempts"]:
        typer.echo()
        show(found["attempts"], ("node", "number", "site", "state", "phase", "reason"), json=False)
    if found["placement"]:
        typer.echo()
        show(placement_rows(found["placement"]), WHY_COLUMNS, json=False)


def placement_rows(placed: Sequence[JSON]) -> list[dict[str, Any]]:
    """Return one row a site and node: candidates with their factors, others with their reason."""
    return [row for each in placed for row in _rows(each)]


def _rows(placed: JSON) -> Iterator[dict[str, Any]]:
    for each in placed.get("candidates", ()):
        taken = each["site"] == placed["chosen"]
        yield {
            "node": placed["node"],
            "site": each["site"] + (" *" if taken else ""),
            "rank": each["rank"],
            "score": float(each["score"]),
            "why": "; ".join(_factor(factor) for factor in each["factors"]),
        }
    for each in placed.get("excluded", ()):
        said = f"excluded, {each['reason']}: {each['detail']}"
        yield {"node": placed["node"], "site": each["site"], "why": said}


def _factor(factor: JSON) -> str:
    """Say what a factor added to the score, of its weight, and why."""
    given = f"{factor['name']} {factor['contribution']:.3f} of {factor['weight']:g}"
    return f"{given} ({factor['why']})" if factor.get("why") else given


def echo_event(event: DeploymentEvent) -> None:
    """Say one line of a deployment's history on standard error."""
    data = event.data
    moment = str(data.get("time", ""))[11:19]
    if event.kind == "status":
        words = [data["status"]]
    else:
        phase = data.get("phase") or event.kind
        attempt = f"attempt {data['attempt']}" if data.get("attempt") else None
        words = [data.get("node"), phase, data.get("provider"), attempt]
    said = " ".join(str(word) for word in words if word)
    reason = " ".join(str(data.get("reason") or "").split())
    typer.echo(f"{moment} {said}" + (f": {reason}" if reason else ""), err=True)
