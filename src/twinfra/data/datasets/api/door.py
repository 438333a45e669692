"""The door: who calls, from a bearer token in either of Rucio's headers, as an account."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fastapi import Request

from twinfra.access.authenticator import Authenticator
from twinfra.access.http import authenticated
from twinfra.data.datasets.service.accounts import AccountService
from twinfra.data.datasets.service.dids import DidService
from twinfra.data.datasets.service.lineage import LineageService
from twinfra.data.datasets.service.metadata import MetadataService
from twinfra.data.datasets.service.replicas import ReplicaService
from twinfra.data.datasets.service.rights import Caller
from twinfra.data.datasets.service.rses import RseService
from twinfra.data.datasets.service.rules import RuleService

TOKEN_HEADER = "x-rucio-auth-token"  # noqa: S105 - a header's name
ACCOUNT_HEADER = "x-rucio-account"
CallerOf = Callable[[Request], Awaitable[Caller]]


@dataclass(frozen=True)
class Services:
    """All use cases behind the routes."""

    accounts: AccountService
    dids: DidService
    metadata: MetadataService
    replicas: ReplicaService
    rses: RseService
    rules: RuleService
    lineage: LineageService


def caller_of(authenticator: Authenticator, accounts: AccountService) -> CallerOf:
    """Return the dependency that gives a route its caller."""
    principal = authenticated(authenticator, also=TOKEN_HEADER)

    async def caller(request: Request) -> Caller:
        wanted = request.headers.get(ACCOUNT_HEADER) or None
        return await accounts.caller(await principal(request), wanted)

    return caller
