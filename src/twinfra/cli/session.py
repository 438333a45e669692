"""The person behind a command: their login, and typed clients that carry their tokens.

A client is imported when a command first uses it, so that each command loads only its own.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from twinfra.access.login import IssuerClient
from twinfra.access.person_tokens import FileLogin, PersonTokens
from twinfra.cli.options import open_home
from twinfra.core.http.client import HttpClient, TokenSource
from twinfra.core.service import Context

if TYPE_CHECKING:
    from twinfra.accounting.client import AccountingClient
    from twinfra.data.datasets.client import DatasetsClient
    from twinfra.data.notifications.client import NotificationsClient
    from twinfra.data.storage.client import Credentials
    from twinfra.data.transfers.client import TransfersClient
    from twinfra.orchestration.catalogue.client import CatalogueClient
    from twinfra.orchestration.deployments.client import DeploymentsClient
    from twinfra.orchestration.monitoring.client import MonitoringClient

T = TypeVar("T")


class Session:
    """Clients of the federation's services, for one signed-in person."""

    def __init__(self, context: Context, tokens: PersonTokens) -> None:
        self.context, self.tokens = context, tokens
        self._closing = AsyncExitStack()
        self._closing.push_async_callback(tokens.close)

    @classmethod
    def of(cls, home: Path | None) -> Self:
        """Return the session of whoever logged in at `home`."""
        context = Context(open_home(home))
        return cls(context, PersonTokens(IssuerClient.from_context(context), login_of(context)))

    async def __aenter__(self) -> Self:
        """Open it."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._closing.aclose()

    def http(self, service: str) -> HttpClient:
        """Return a client of `service` that carries the person's token."""
        url = self.context.url(service)
        client = HttpClient(url, tls=self.context.tls_client(), token=self.tokens.source(url))
        self._closing.push_async_callback(client.close)
        return client

    @cached_property
    def datasets(self) -> "DatasetsClient":
        """Datasets, replicas, rules."""
        from twinfra.data.datasets.client import DatasetsClient  # noqa: PLC0415 - when used

        return DatasetsClient(self.http("datasets"))

    @cached_property
    def transfers(self) -> "TransfersClient":
        """Third-party transfers."""
        from twinfra.data.transfers.client import TransfersClient  # noqa: PLC0415 - when used

        return TransfersClient(self.http("transfers"))

    @cached_property
    def notifications(self) -> "NotificationsClient":
        """Events, subscriptions, triggers."""
        from twinfra.data.notifications.client import NotificationsClient  # noqa: PLC0415 - when used

        return NotificationsClient(self.http("notifications"))

    @cached_property
    def catalogue(self) -> "CatalogueClient":
        """Providers."""
        from twinfra.orchestration.catalogue.client import CatalogueClient  # noqa: PLC0415 - when used

        return CatalogueClient(self.http("catalogue"))

    @cached_property
    def monitoring(self) -> "MonitoringClient":
        """How the providers are."""
        from twinfra.orchestration.monitoring.client import MonitoringClient  # noqa: PLC0415 - when used

        return MonitoringClient(self.http("monitoring"))

    @cached_property
    def deployments(self) -> "DeploymentsClient":
        """Deployments."""
        from twinfra.orchestration.deployments.client import DeploymentsClient  # noqa: PLC0415 - when used

        return DeploymentsClient(self.http("deployments"))

    @cached_property
    def accounting(self) -> "AccountingClient":
        """Usage records."""
        from twinfra.accounting.client import AccountingClient  # noqa: PLC0415 - when used

        return AccountingClient(self.http("accounting"))

    def storage(self, url: str) -> "Credentials":
        """Return what opens the storage at `url` for this person."""
        from twinfra.data.storage.client import Credentials  # noqa: PLC0415 - when used

        return Credentials(self.context.tls_client(), self._token_of(url))

    def _token_of(self, url: str) -> TokenSource:
        scheme, _, rest = url.partition("://")
        host = rest.partition("/")[0]
        return self.tokens.source(f"{'https' if scheme in {'davs', 'https'} else scheme}://{host}")


def login_of(context: Context) -> FileLogin:
    """Return where the login of the commands is kept."""
    return FileLogin(context.home.root / "login.json")


def run(home: Path | None, work: Callable[[Session], Coroutine[Any, Any, T]]) -> T:
    """Run `work` with the session of whoever is logged in."""

    async def within() -> T:
        async with Session.of(home) as session:
            return await work(session)

    return asyncio.run(within())
