"""The typed client of the datasets service: ours, or any server that speaks Rucio's REST interface.

One class, ``DatasetsClient``, grouped in mixins by what the calls are about. No call waits for
anything to happen: what happens comes as events. Errors come as ``core.http.client`` maps them
(404 ``NotFound``, 409 ``Conflict``, 403 ``InsufficientScope``, 400 ``InvalidRequest``).
"""

from twinfra.data.datasets.client.rses import RseCalls
from twinfra.data.datasets.client.rules import RuleCalls
from twinfra.data.datasets.client.versions import VersionCalls
from twinfra.data.datasets.model import (
    DatasetReplica,
    Did,
    DidInfo,
    DidType,
    FileInfo,
    FileSpec,
    Grouping,
    LockInfo,
    NewCollection,
    NewRule,
    ReplicaInfo,
    ReplicaState,
    RuleInfo,
    RuleState,
    Version,
)

__all__ = [
    "DatasetReplica",
    "DatasetsClient",
    "Did",
    "DidInfo",
    "DidType",
    "FileInfo",
    "FileSpec",
    "Grouping",
    "LockInfo",
    "NewCollection",
    "NewRule",
    "ReplicaInfo",
    "ReplicaState",
    "RuleInfo",
    "RuleState",
    "Version",
]


class DatasetsClient(VersionCalls, RuleCalls, RseCalls):
    """Datasets, replicas, rules, storages and versions.

    Args:
        http: a client on the service's base URL; its token is used unless a call brings its own.
    """

    async def ping(self) -> str:
        """Return the server's version; needs no token."""
        return str((await self._http.request("GET", "/ping")).json()["version"])

    async def whoami(self, *, token: str | None = None) -> dict[str, object]:
        """Return the account that the token maps to, as Rucio spells it."""
        found: dict[str, object] = (await self._read("/accounts/whoami", token=token)).json()
        return found
