"""`Authorizer` by the federation's tokens and their WLCG storage scopes.

Only scopes count for bytes, a service's too. What the profile leaves open is decided here: who
may do anything to a path may know that its folders exist, and may list below.
"""

from twinfra.access.authenticator import Authenticator
from twinfra.access.model import Principal
from twinfra.access.storage_scopes import is_plain, permits, storage_scopes
from twinfra.data.edge.ports import Action


class ScopeAuthorizer:
    """Reads rights from the scopes of the token.

    Args:
        authenticator: whose audience is this edge.
    """

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def identify(self, bearer: str) -> Principal:
        """Return who `bearer` proves to call."""
        return await self._authenticator.authenticate(bearer)

    def permits(self, principal: Principal, action: Action, path: str) -> bool:
        """Say whether the scopes of `principal` allow `action` on `path`."""
        if action in {"read", "create", "modify"}:
            return permits(principal, action, path)
        if action == "make_folder":
            return permits(principal, "create", path) or _leads_to(
                principal, path, {"create", "modify"}
            )
        if permits(principal, "read", path) or permits(principal, "create", path):
            return True
        if action == "list":
            return False
        return permits(principal, "stage", path) or _leads_to(
            principal, path, {"read", "create", "modify", "stage"}
        )


def _leads_to(principal: Principal, path: str, capabilities: set[str]) -> bool:
    """Say whether `path` is a folder on the way to what a scope names."""
    if not is_plain(path):
        return False
    stem = path.rstrip("/") + "/"
    return any(
        scope.capability in capabilities and scope.path.startswith(stem)
        for scope in storage_scopes(principal.scopes)
    )
