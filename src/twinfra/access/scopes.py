"""Scopes as sets of rights: compute capabilities, and which scope is included in which.

Pure. ``storage_scopes`` knows paths; this module asks it.
"""

from collections.abc import Iterable
from typing import Literal

from twinfra.access.errors import TokenRefused
from twinfra.access.model import Principal
from twinfra.access.storage_scopes import StorageScope, parse_storage_scope

ComputeAction = Literal["read", "create", "modify", "cancel"]
OFFLINE_ACCESS = "offline_access"
DATA_SCOPES = "storage.read:/ storage.create:/ storage.modify:/"
"""What a service needs of a person to have their data moved and kept."""
JOB_SCOPES = f"compute.create {DATA_SCOPES}"
"""What a service needs of a person to have a job of theirs run, its data read and written."""


def permits_compute(principal: Principal, action: ComputeAction) -> bool:
    """Say whether the token of `principal` allows `action` on jobs: ``compute.<action>``.

    Source: WLCG Common JWT Profile 1.3, compute scopes; each stands for itself.
    """
    return f"compute.{action}" in principal.scopes


def includes(granted: Iterable[str], wanted: str) -> bool:
    """Say whether one of the `granted` scopes gives all that `wanted` gives.

    A storage scope includes those below its path; ``storage.modify`` includes ``storage.create``.
    Any other scope includes itself alone.
    """
    granted = tuple(granted)
    if wanted in granted:
        return True
    try:
        target = parse_storage_scope(wanted)
    except TokenRefused:
        return False
    return target is not None and any(_within(scope, target) for scope in granted)


def _within(scope: str, target: StorageScope) -> bool:
    try:
        held = parse_storage_scope(scope)
    except TokenRefused:
        return False
    if held is None:
        return False
    same = held.capability == target.capability
    if not same and (held.capability, target.capability) != ("modify", "create"):
        return False
    if target.directory_only and held.path == target.path:
        return True
    return held.covers(target.path)


def split_scope(scope: str | None) -> tuple[str, ...]:
    """Return the scopes of a space-separated list, in order, each once (RFC 6749 §3.3)."""
    return tuple(dict.fromkeys((scope or "").split()))
