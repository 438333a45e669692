"""Who may do what with pods, the same at both hops.

A service of the federation may do everything; a person what their token's compute scopes say, to
pods of their own; members of a pod's group may look.
"""

from twinfra.access.audit import audit
from twinfra.access.authorization import is_member
from twinfra.access.errors import ScopeMissing
from twinfra.access.model import Principal
from twinfra.access.scopes import ComputeAction, permits_compute

CARRIED = ("compute.", "storage.")


def require(caller: Principal, action: ComputeAction) -> None:
    """Return if the caller may do this with pods at all.

    Raises:
        ScopeMissing: the token lacks ``compute.<action>``; audited.
    """
    if caller.is_service or permits_compute(caller, action):
        return
    audit(f"pod.{action}", caller, "denied", "")
    raise ScopeMissing(f"compute.{action}")


def owns(caller: Principal, issuer: str, sub: str) -> bool:
    """Say whether the caller is the owner, or a service."""
    return caller.is_service or (caller.issuer, caller.sub) == (issuer, sub)


def sees(caller: Principal, issuer: str, sub: str, group: str) -> bool:
    """Say whether the caller may know of a pod with this owner."""
    return owns(caller, issuer, sub) or bool(group and is_member(caller, group))


def carried_scopes(caller: Principal) -> str:
    """Return the scopes that go with a call to the next hop: a job needs no other rights."""
    return " ".join(scope for scope in caller.scopes if scope.startswith(CARRIED))
