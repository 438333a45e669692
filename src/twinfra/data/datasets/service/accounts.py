"""Accounts and scopes: who a token's person is here, and what names they may give to data."""

from datetime import datetime

from twinfra.access.model import Principal
from twinfra.core.time import Clock
from twinfra.data.datasets.errors import AccountNotFound, CannotAuthenticate, Duplicate
from twinfra.data.datasets.model.accounts import GROUP, SERVICE, USER, account_name
from twinfra.data.datasets.model.names import Did, check_account_name
from twinfra.data.datasets.ports import Account, Tx, Work
from twinfra.data.datasets.service.rights import Caller, allowed, denied, require_owner

REMEMBERED = 10_000


class AccountService:
    """Accounts, identities and scopes.

    Args:
        work: opens units of work.
        clock: tells the moment.
    """

    def __init__(self, work: Work, clock: Clock) -> None:
        self._work, self._clock = work, clock
        self._known: dict[tuple[str, str], str] = {}

    async def caller(self, principal: Principal, wanted: str | None = None) -> Caller:
        """Return who calls; a person who is new here gets an account.

        Args:
            principal: as the token proves.
            wanted: the account that the client asked for, if it did.

        Raises:
            CannotAuthenticate: the identity does not map to the wanted account.
        """
        identity = (principal.issuer, principal.sub)
        account = self._known.get(identity)
        if account is None:
            async with self._work.read() as tx:
                account = await tx.accounts.of_identity(*identity)
            if account is None:
                account = await self._make(principal)
            while len(self._known) >= REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[identity] = account
        if wanted is not None and wanted != account:
            raise CannotAuthenticate(f"this identity maps to account {account}, not to {wanted}")
        return Caller(principal, account)

    async def _make(self, principal: Principal) -> str:
        """Make the account of a new identity; two requests at once make one."""
        kind, now = SERVICE if principal.is_service else USER, self._clock.now()
        async with self._work.begin() as tx:
            name = account_name(principal.sub, principal.issuer)
            if not await tx.accounts.add(name, kind, now):
                known = await tx.accounts.of_identity(principal.issuer, principal.sub)
                if known is not None:
                    return known
                name = account_name(principal.sub, principal.issuer, taken=True)
                await tx.accounts.add(name, kind, now)
            await tx.accounts.map_identity(principal.issuer, principal.sub, name)
        return name

    async def all(self) -> list[Account]:
        """Return all accounts."""
        async with self._work.read() as tx:
            return await tx.accounts.all()

    async def get(self, name: str) -> Account:
        """Return an account.

        Raises:
            AccountNotFound: there is none of this name.
        """
        async with self._work.read() as tx:
            found = await tx.accounts.get(name)
        if found is None:
            raise AccountNotFound(f"account {name!r} does not exist")
        return found

    async def identities(self, caller: Caller, name: str) -> list[tuple[str, str]]:
        """Return the identities that map to an account of the caller's."""
        require_owner(caller, name, "account.identities", name)
        async with self._work.read() as tx:
            return await tx.accounts.identities(name)

    async def scopes(self, account: str | None = None) -> list[tuple[str, str]]:
        """Return (scope, account) of all scopes, or of one account's."""
        async with self._work.read() as tx:
            return await tx.scopes.all(account)

    async def add_scope(self, caller: Caller, scope: str, account: str) -> None:
        """Add a scope: a group's by its members, one's own that starts with ``user.<account>``.

        Raises:
            Duplicate: it exists.
            AccessDenied: neither the caller's nor a group's of theirs.
        """
        Did(scope, "x").checked()
        check_account_name(account)
        async with self._work.begin() as tx:
            self._check_new_scope(caller, scope, account)
            if not await _add(tx, caller, scope, account, self._clock.now()):
                raise Duplicate(f"scope {scope!r} exists already")
        allowed(caller, "scope.add", scope)

    @staticmethod
    def _check_new_scope(caller: Caller, scope: str, account: str) -> None:
        own = (scope + ".").startswith(f"user.{caller.account}.")
        if caller.principal.is_service or scope in caller.scopes:
            return
        if own and account == caller.account:
            return
        raise denied(
            caller, "scope.add", scope,
            f"a scope is named like a group of yours or user.{caller.account}",
        )  # fmt: skip


async def ensure_scope(tx: Tx, caller: Caller, scope: str, clock: Clock) -> None:
    """Add a group's scope when it is first written to; the caller may write to it."""
    if await tx.scopes.owner(scope) is None:
        await _add(tx, caller, scope, caller.account, clock.now())


async def _add(tx: Tx, caller: Caller, scope: str, account: str, now: datetime) -> bool:
    """Add a scope; one named like a group belongs to the group's own account."""
    if scope in caller.scopes or (caller.principal.is_service and not scope.startswith("user.")):
        owner = account_name(scope, GROUP)
        if not await tx.accounts.add(owner, GROUP, now):
            known = await tx.accounts.get(owner)
            if known is None or known.type != GROUP:
                owner = account_name(scope, GROUP, taken=True)
                await tx.accounts.add(owner, GROUP, now)
    else:
        owner = account
        if await tx.accounts.get(owner) is None:
            raise AccountNotFound(f"account {owner!r} does not exist")
    return await tx.scopes.add(scope, owner, now)
