"""Who may see and who may change a deployment; each denial is audited.

The owner changes, the members of its group look; a service of the federation may look at all. A
deployment that one may not see does not exist for one.
"""

from twinfra.access.audit import audit
from twinfra.access.model import Principal
from twinfra.core.errors import InsufficientScope, NotFound
from twinfra.orchestration.deployments.model.records import Deployment


def is_owner(principal: Principal, deployment: Deployment) -> bool:
    """Say whether `deployment` is the caller's own."""
    return (principal.issuer, principal.sub) == (deployment.issuer, deployment.sub)


def may_see(principal: Principal, deployment: Deployment) -> bool:
    """Say whether the caller may know of `deployment`."""
    member = deployment.group in principal.groups
    return principal.is_service or member or is_owner(principal, deployment)


def seen(principal: Principal, deployment: Deployment | None, deployment_id: str) -> Deployment:
    """Return `deployment` if it exists for the caller.

    Raises:
        NotFound: it does not.
    """
    if deployment is not None and may_see(principal, deployment):
        return deployment
    if deployment is not None:
        audit("deployment.read", principal, "denied", deployment_id)
    raise NotFound(f"The deployment {deployment_id} doesn't exist")


def owned(
    principal: Principal, deployment: Deployment | None, deployment_id: str, action: str
) -> Deployment:
    """Return `deployment` if the caller may change it.

    Raises:
        NotFound: it does not exist for the caller.
        InsufficientScope: they may only look.
    """
    found = seen(principal, deployment, deployment_id)
    if not is_owner(principal, found):
        audit(action, principal, "denied", deployment_id, group=found.group)
        raise InsufficientScope("only the owner of a deployment may change it")
    audit(action, principal, "allowed", deployment_id, group=found.group)
    return found


def group_for(principal: Principal, wanted: str | None) -> str:
    """Return the group that a new deployment belongs to: as asked for, else the caller's only one.

    Raises:
        InsufficientScope: the token does not name the group, or names none, or the choice is open.
    """
    if not principal.groups:
        raise InsufficientScope("the token names no group; a deployment belongs to one")
    group = wanted.strip("/") if wanted else principal.primary_group
    if group is None and len(principal.groups) == 1:
        group = next(iter(principal.groups))
    if group is None:
        known = ", ".join(sorted(principal.groups))
        raise InsufficientScope(f"userGroup must be said: the token names {known}")
    if group not in principal.groups:
        audit("deployment.create", principal, "denied", group)
        raise InsufficientScope(f"the token does not name the group {group}")
    return group
