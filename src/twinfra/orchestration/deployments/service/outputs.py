"""Which outputs somebody may read: sensitive ones are the owner's."""

from dataclasses import replace

from twinfra.access.model import Principal
from twinfra.orchestration.deployments.model.records import Deployment
from twinfra.orchestration.deployments.service.attributes import plan_of
from twinfra.orchestration.deployments.service.rights import is_owner

MASKED = "(sensitive)"
WORD = "sensitive"


def shown_to(principal: Principal, deployment: Deployment) -> Deployment:
    """Return `deployment` with the outputs masked that the caller may not read."""
    if not deployment.outputs or WORD not in deployment.template:
        return deployment
    if is_owner(principal, deployment):
        return deployment
    secret = {name for name, out in plan_of(deployment).outputs.items() if out.sensitive}
    outputs = {
        name: MASKED if name in secret and value is not None else value
        for name, value in deployment.outputs.items()
    }
    return replace(deployment, outputs=outputs)
