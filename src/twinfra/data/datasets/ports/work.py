"""A unit of work: all stores on one transaction, with what follows from it when it is committed."""

from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from twinfra.data.datasets.ports.catalogue import (
    AccountStore,
    ContentStore,
    DidStore,
    MetaStore,
    ScopeStore,
    TreeStore,
)
from twinfra.data.datasets.ports.keeping import (
    LockStore,
    PlacementStore,
    RequestCareStore,
    RequestStore,
    RuleStore,
    TransferStore,
)
from twinfra.data.datasets.ports.storage import (
    ReplicaCareStore,
    ReplicaStore,
    RseFactStore,
    RseStore,
)
from twinfra.data.datasets.ports.usage import UsageStore


class Tx(Protocol):
    """All stores on one transaction."""

    accounts: AccountStore
    scopes: ScopeStore
    dids: DidStore
    meta: MetaStore
    contents: ContentStore
    trees: TreeStore
    rses: RseStore
    rse_facts: RseFactStore
    replicas: ReplicaStore
    care: ReplicaCareStore
    rules: RuleStore
    placements: PlacementStore
    locks: LockStore
    requests: RequestStore
    request_care: RequestCareStore
    transfers: TransferStore
    usage: UsageStore

    async def emit(
        self, type_: str, subject: str, data: dict[str, Any], *, group: str | None, site: str = ...
    ) -> None:
        """Note an event that becomes true with this transaction."""
        ...

    async def start(self, kind: str, key: str, data: dict[str, Any]) -> None:
        """Accept durable work with this transaction; the same kind and key is accepted once."""
        ...

    async def wake(self, kind: str, key: str) -> None:
        """Let waiting work look again once this transaction is committed."""
        ...


class Work(Protocol):
    """Opens units of work."""

    def begin(self) -> AbstractAsyncContextManager[Tx]:
        """Open a unit of work: committed when the block ends, rolled back when it raises."""
        ...

    def read(self) -> AbstractAsyncContextManager[Tx]:
        """Open a consistent view for reading; nothing is written."""
        ...
