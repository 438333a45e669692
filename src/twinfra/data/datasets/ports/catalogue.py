"""Stores of who owns what: accounts, scopes, data identifiers, their content and metadata."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from twinfra.data.datasets.model import Did, DidType, FileSpec, NewCollection
from twinfra.data.datasets.ports.rows import Account, DidRow


class AccountStore(Protocol):
    """Accounts and the identities that map to them."""

    async def of_identity(self, issuer: str, sub: str) -> str | None:
        """Return the account of a person or service, or none."""
        ...

    async def add(self, name: str, type_: str, now: datetime) -> bool:
        """Add an account; false: the name is taken."""
        ...

    async def map_identity(self, issuer: str, sub: str, account: str) -> None:
        """Map an identity to an account; one that is mapped stays mapped."""
        ...

    async def get(self, name: str) -> Account | None:
        """Return an account, or none."""
        ...

    async def all(self) -> list[Account]:
        """Return all accounts by name."""
        ...

    async def identities(self, name: str) -> list[tuple[str, str]]:
        """Return the (issuer, sub) that map to an account."""
        ...


class ScopeStore(Protocol):
    """Scopes and their owners."""

    async def owner(self, scope: str) -> str | None:
        """Return the account that owns a scope, or none if there is no such scope."""
        ...

    async def add(self, scope: str, account: str, now: datetime) -> bool:
        """Add a scope; false: it exists."""
        ...

    async def all(self, account: str | None = None) -> list[tuple[str, str]]:
        """Return (scope, account) of all scopes, or of one account's."""
        ...


class DidStore(Protocol):
    """Data identifiers."""

    async def get_many(self, dids: Collection[Did], *, lock: bool = False) -> dict[Did, DidRow]:
        """Return those of `dids` that exist; `lock` keeps others from changing them meanwhile."""
        ...

    async def add_collections(
        self, new: Sequence[NewCollection], account: str, now: datetime
    ) -> dict[Did, DidRow]:
        """Add collections and return them; those whose name is taken are not among the answer."""
        ...

    async def add_files(self, files: Sequence[FileSpec], account: str, now: datetime) -> set[Did]:
        """Add files; what exists already is left alone. Returns those that are new."""
        ...

    async def set_open(self, did_id: int, *, is_open: bool, now: datetime) -> None:
        """Open or close a collection."""
        ...

    async def remove(self, did_ids: Collection[int]) -> None:
        """Remove data identifiers with content, replicas and rules."""
        ...

    def search(
        self,
        scope: str,
        filters: Sequence[Mapping[str, Any]],
        types: Collection[DidType],
        limit: int | None = None,
    ) -> AsyncIterator[DidRow]:
        """Give the data identifiers of a scope that match one of `filters`, by name.

        Raises:
            FilterSyntax: an operator or pattern is not known.
        """
        ...


class MetaStore(Protocol):
    """Metadata of data identifiers, and what follows from it."""

    async def write(
        self, did_id: int, meta: Mapping[str, Any], inputs: Sequence[Did], now: datetime
    ) -> None:
        """Replace the free metadata of one data identifier, and what it names as inputs."""
        ...

    async def set_expiry(self, did_id: int, expires_at: datetime | None) -> None:
        """Set when a data identifier goes."""
        ...

    async def readers(self, dids: Collection[Did]) -> list[tuple[Did, DidRow]]:
        """Return (input, what names it as an input) for each of `dids`."""
        ...


class ContentStore(Protocol):
    """What stands in which collection, one level."""

    async def attach(self, parent_id: int, children: Sequence[DidRow], now: datetime) -> set[int]:
        """Attach children; returns the numbers of those that were not in it already."""
        ...

    async def detach(self, parent_id: int, child_ids: Collection[int]) -> set[int]:
        """Detach children; returns the numbers of those that were in it."""
        ...

    def children(self, parent_id: int) -> AsyncIterator[DidRow]:
        """Give what stands directly in a collection, by name."""
        ...

    async def parents(self, child_ids: Collection[int]) -> list[tuple[int, DidRow]]:
        """Return (child number, collection that holds it directly)."""
        ...


class TreeStore(Protocol):
    """What stands in collections, all levels."""

    def files(self, root_ids: Collection[int]) -> AsyncIterator[DidRow]:
        """Give all files at or below the roots, each once."""
        ...

    async def totals(self, root_id: int) -> tuple[int, int]:
        """Return number and bytes of the files at or below a root."""
        ...

    async def ancestors(self, did_ids: Collection[int]) -> set[int]:
        """Return the given numbers and those of everything that holds them, all levels."""
        ...

    async def datasets(self, root_id: int) -> list[DidRow]:
        """Return the datasets at or below a root."""
        ...
