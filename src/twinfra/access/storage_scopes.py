"""Capability scopes over paths: ``storage.read:/path`` and its kin, and who may touch which path.

Pure. Whole path components count, never text prefixes; a path that is not plain is refused.

Source: WLCG Common JWT Profile 1.3, storage scopes.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from twinfra.access.errors import TokenRefused
from twinfra.access.model import Principal

StorageAction = Literal["read", "create", "modify", "stage", "poll"]
_NAMES = frozenset({"read", "create", "modify", "stage", "poll"})
# which capabilities include the action; from profile 1.3 on, stage no longer allows reading
_GRANTS: dict[StorageAction, frozenset[str]] = {
    "read": frozenset({"read"}),
    "create": frozenset({"create", "modify"}),
    "modify": frozenset({"modify"}),
    "stage": frozenset({"stage"}),
    "poll": frozenset({"poll"}),
}
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_HIDDEN = re.compile(r"%(2f|5c|00|25)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class StorageScope:
    """One storage capability: what may be done below which path."""

    capability: str
    path: str
    directory_only: bool = False

    def covers(self, path: str) -> bool:
        """Say whether `path`, which is plain, is this scope's path or below it."""
        if self.path == "/":
            return True
        below = path.startswith(self.path + "/")
        return below or (not self.directory_only and path == self.path)


def is_plain(path: str) -> bool:
    """Say whether `path` is absolute, decoded, and free of ``..``, ``.``, ``//`` and controls."""
    if not path.startswith("/") or _CONTROL.search(path) or "\\" in path:
        return False
    parts = path[1:].split("/")
    if parts[-1] == "":
        parts = parts[:-1]
    return not any(part in {"", ".", ".."} for part in parts)


def parse_storage_scope(scope: str) -> StorageScope | None:
    """Return the capability that `scope` names, or none if it is no storage scope.

    Raises:
        TokenRefused: it is one and its path is missing, relative or not plain (reason ``scope``).
    """
    family, _, rest = scope.partition(".")
    if family != "storage":
        return None
    capability, colon, raw = rest.partition(":")
    if capability not in _NAMES:
        return None
    if not colon or _BAD_ESCAPE.search(raw) or _HIDDEN.search(raw):
        raise TokenRefused("scope", f"storage.{capability} needs an absolute, plain path")
    try:
        path = unquote(raw, errors="strict")
    except UnicodeDecodeError as error:
        raise TokenRefused("scope", f"storage.{capability} has a path that is not UTF-8") from error
    if not is_plain(path):
        raise TokenRefused("scope", f"storage.{capability} needs an absolute, plain path")
    trimmed = path.rstrip("/") or "/"
    return StorageScope(capability, trimmed, directory_only=path.endswith("/") and path != "/")


def storage_scopes(scopes: Iterable[str]) -> tuple[StorageScope, ...]:
    """Return the storage capabilities among `scopes`; unknown scopes grant nothing.

    Raises:
        TokenRefused: one is of the wrong form.
    """
    found = (parse_storage_scope(scope) for scope in scopes)
    return tuple(scope for scope in found if scope is not None)


def permits(principal: Principal, action: StorageAction, path: str) -> bool:
    """Say whether the token of `principal` allows `action` on `path`.

    Args:
        principal: who asks; only the token's storage scopes count, groups do not.
        action: ``create`` makes what is not there and never overwrites; ``modify`` may do all that.
        path: absolute and percent-decoded, as the storage names it; anything not plain is refused.
    """
    if not is_plain(path):
        return False
    wanted = _GRANTS[action]
    return any(
        scope.capability in wanted and scope.covers(path)
        for scope in storage_scopes(principal.scopes)
    )
