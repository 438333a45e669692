"""Builds the accounting service."""

from twinfra.access.authenticator import Authenticator
from twinfra.accounting.api import build_app
from twinfra.accounting.service import Accounting
from twinfra.accounting.settings import AccountingSettings
from twinfra.accounting.store import RecordStore
from twinfra.core.service import Context, Listener, Service

NAME = "accounting"


def build(ctx: Context) -> Service:
    """Return the accounting service of the federation at ``ctx.home``."""
    database = ctx.database(NAME)
    accounting = Accounting(ctx.settings(AccountingSettings), RecordStore(database), ctx.clock)
    app = build_app(accounting, Authenticator.from_context(ctx, NAME))

    async def migrate() -> None:
        await database.migrate("twinfra.accounting.migrations")

    return Service(
        name=NAME,
        listeners=[Listener(app, ctx.home.port(NAME))],
        start=[migrate],
        stop=[database.close],
    )
