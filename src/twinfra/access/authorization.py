"""The few rules about people, groups and services that every container shares.

A container adds rules about its own things; a denial is audited here, so that none goes unseen.
"""

from twinfra.access.audit import audit
from twinfra.access.errors import ScopeMissing
from twinfra.access.model import SERVICE_SCOPE, Principal
from twinfra.core.errors import InsufficientScope


def is_member(principal: Principal, group: str) -> bool:
    """Say whether `principal` is in `group`; a child group does not count (WLCG profile)."""
    return group.strip("/") in principal.groups


def require_group(principal: Principal, group: str, *, action: str, resource: str) -> None:
    """Return if `principal` is a member of `group`.

    Raises:
        InsufficientScope: they are not; audited.
    """
    if not is_member(principal, group):
        audit(action, principal, "denied", resource, group=group)
        raise InsufficientScope(f"only members of {group} may do this")


def require_service(principal: Principal, *names: str, action: str, resource: str = "") -> None:
    """Return if a service of this federation calls for itself, and is one of `names`, if given.

    A name ending in ``@*`` stands for that service at any site.

    Raises:
        InsufficientScope: a person calls, or another service; audited.
    """
    name = principal.service_name
    if name is None:
        audit(action, principal, "denied", resource)
        raise ScopeMissing(SERVICE_SCOPE)
    if names and not any(matches_service(name, pattern) for pattern in names):
        audit(action, principal, "denied", resource)
        raise InsufficientScope(f"service {name} may not do this")


def matches_service(name: str, pattern: str) -> bool:
    """Say whether `pattern` means service `name`: ``transfers``, ``edge@hpc-b``, ``edge@*``."""
    if pattern.endswith("@*"):
        return name.startswith(pattern[:-1]) and len(name) >= len(pattern)
    return name == pattern
