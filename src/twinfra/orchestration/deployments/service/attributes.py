"""What is known of nodes once they run: attributes for expressions, outputs for people."""

from typing import Any

from twinfra.orchestration.deployments.model.records import Deployment
from twinfra.orchestration.deployments.model.states import Role
from twinfra.orchestration.deployments.model.views import service_url
from twinfra.orchestration.deployments.store import View
from twinfra.orchestration.tosca.model import Plan
from twinfra.orchestration.tosca.parse import parse


async def attributes_of(
    view: View, deployment: Deployment, base_url: str
) -> dict[str, dict[str, Any]]:
    """Return the attributes of a deployment's nodes, as far as they are known."""
    found: dict[str, dict[str, Any]] = {}
    runs = await view.runs(deployment.id)
    attempts = await view.attempts(deployment=deployment.id)
    for node in await view.nodes(deployment.id):
        mine = [run for run in runs if run.node == node.name]
        known: dict[str, Any] = {}
        if node.role is Role.SERVICE:
            known["url"] = service_url(base_url, node.id)
        shown = next((run for run in mine if run.id == node.active_run), mine[-1] if mine else None)
        if shown is not None:
            tried = [each for each in attempts if each.run == shown.id]
            if tried:
                known |= {"site": tried[-1].target.site, "uid": tried[-1].id}
            if node.role is Role.JOB:
                known |= {"exit_code": shown.exit_code, "phase": shown.state.value}
            elif shown.pins:
                known["version"] = ",".join(shown.pins.values())
        found[node.name] = known
    return found


def plan_of(deployment: Deployment) -> Plan:
    """Return the plan of a deployment's template; it was found good when it was accepted."""
    return parse(deployment.template, dict(deployment.parameters))


async def outputs_of(view: View, deployment: Deployment, base_url: str) -> dict[str, Any]:
    """Return the template's outputs, as far as the attributes behind them are known."""
    attributes = await attributes_of(view, deployment, base_url)
    return plan_of(deployment).outputs_with(attributes)
