"""Who may do what here: scopes belong to groups or owners, storages are registered by services.

Reading the catalogue is for everyone who is known in the federation. Each denial leaves an audit
line; so does each change, by the service that makes it.
"""

from dataclasses import dataclass

from twinfra.access.audit import audit
from twinfra.access.model import Principal
from twinfra.data.datasets.errors import AccessDenied, ScopeNotFound
from twinfra.data.datasets.model.accounts import GROUP, scope_of_group
from twinfra.data.datasets.ports import Tx


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and the account that stands for them here."""

    principal: Principal
    account: str

    @property
    def scopes(self) -> dict[str, str]:
        """Return the groups that own scopes which the caller may write, by scope."""
        return {scope_of_group(group): group for group in self.principal.groups}


def allowed(caller: Caller, action: str, resource: str) -> None:
    """Note that something was allowed and is done."""
    audit(action, caller.principal, "allowed", resource)


def denied(caller: Caller, action: str, resource: str, why: str) -> AccessDenied:
    """Note that something was denied, and return the error that says so."""
    audit(action, caller.principal, "denied", resource)
    return AccessDenied(why)


async def require_write(tx: Tx, caller: Caller, scope: str, action: str, resource: str) -> None:
    """Return if the caller may change things in `scope`.

    Raises:
        AccessDenied: the scope belongs to a group or a person that the caller is not.
        ScopeNotFound: there is no such scope, and it is no group's of the caller.
    """
    if scope in caller.scopes:
        return
    owner = await tx.scopes.owner(scope)
    if caller.principal.is_service and owner is not None:
        return
    if owner is None:
        if caller.principal.is_service:
            return
        raise ScopeNotFound(f"scope {scope!r} does not exist")
    if owner == caller.account:
        return
    known = await tx.accounts.get(owner)
    whose = "group" if known is not None and known.type == GROUP else "account"
    raise denied(caller, action, resource, f"scope {scope} belongs to the {whose} {owner}")


def require_service(caller: Caller, action: str, resource: str) -> None:
    """Return if a service of the federation calls for itself.

    Raises:
        AccessDenied: a person calls.
    """
    if not caller.principal.is_service:
        raise denied(caller, action, resource, "only services of the federation may do this")


def require_owner(caller: Caller, account: str, action: str, resource: str) -> None:
    """Return if the caller is `account`, or a service.

    Raises:
        AccessDenied: somebody else's.
    """
    if caller.account != account and not caller.principal.is_service:
        raise denied(caller, action, resource, f"{resource} belongs to {account}")


def group_of(caller: Caller, scope: str, named: object = None) -> str:
    """Return the group that data in `scope` is accounted to.

    The one that is named, if the caller is in it or a service; else the scope's; else the caller's
    primary group; else none.
    """
    principal = caller.principal
    if isinstance(named, str) and (principal.is_service or named in principal.groups):
        return named
    if scope in caller.scopes:
        return caller.scopes[scope]
    if principal.is_service:
        return scope
    return principal.primary_group or ""
