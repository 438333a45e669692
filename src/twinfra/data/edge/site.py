"""What every handler of the edge works with: the site's files, inventory, threads and rules."""

from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from twinfra.access.audit import audit
from twinfra.access.errors import ScopeMissing, TokenRefused
from twinfra.access.model import Principal
from twinfra.data.edge.files.tree import Tree
from twinfra.data.edge.inventory.inventory import Inventory
from twinfra.data.edge.ports import Action, Authorizer
from twinfra.data.edge.settings import EdgeSettings
from twinfra.data.edge.threads import in_thread
from twinfra.data.edge.wire.errors import HttpRefusal
from twinfra.data.edge.wire.exchange import Exchange

T = TypeVar("T")


class Unbroken(Protocol):
    """Does work to its end even if who waits for it is cancelled."""

    def __call__(self, work: Coroutine[Any, Any, T]) -> Awaitable[T]:
        """Return what `work` returns."""
        ...


@dataclass
class Site:
    """One site's edge, as its handlers see it.

    Attributes:
        name: of the site.
        base_url: under which clients know the edge.
        settings: of the edge.
        tree: its files.
        inventory: what is known of them.
        pool: threads for file work.
        authorizer: who may what.
        new_id: makes names of drafts and cookies of moves.
        unbroken: does what must not stop half way.
    """

    name: str
    base_url: str
    settings: EdgeSettings
    tree: Tree
    inventory: Inventory
    pool: Executor
    authorizer: Authorizer
    new_id: Callable[[], str]
    unbroken: Unbroken

    async def io(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do file work in a thread."""
        return await in_thread(self.pool, work, *arguments)

    async def identify(self, exchange: Exchange) -> Principal:
        """Return who calls.

        Raises:
            Unauthenticated: no token, or a bad one.
        """
        scheme, _, token = exchange.head.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise TokenRefused("missing")
        return await self.authorizer.identify(token.strip())

    def require(self, principal: Principal, action: Action, path: str) -> None:
        """Let `principal` do `action` on `path`, or not; either way one audit line says so.

        Raises:
            ScopeMissing: the token does not allow it.
        """
        allowed = self.authorizer.permits(principal, action, path)
        audit(
            f"storage.{action}",
            principal,
            "allowed" if allowed else "denied",
            path,
            site=self.name,
        )
        if not allowed:
            raise ScopeMissing(f"storage.{action}:{path}")

    def check_room(self, length: int | None) -> None:
        """Refuse an upload of `length` bytes that cannot fit.

        Raises:
            HttpRefusal: 413 or 507.
        """
        limit = self.settings.max_upload_bytes
        if length is None:
            return
        if limit is not None and length > limit:
            raise HttpRefusal(413, f"a file may have {limit} bytes here")
        if self.tree.free_bytes() - length < self.settings.min_free_bytes:
            raise HttpRefusal(507, "there is not enough room")
