"""``twinfra provider``: what providers there are, and how they are."""

from typing import Any

import typer

from twinfra.cli.options import HomeOption, JsonOption
from twinfra.cli.session import Session, run
from twinfra.cli.tables import show

app = typer.Typer(no_args_is_help=True, help="Providers: what exists and how it is.")
COLUMNS = ("site", "kind", "state", "up", "free_cpu", "queue", "capabilities", "reason")


@app.callback()
def _group() -> None:
    """Providers: what exists and how it is."""


@app.command("list")
def list_(home: HomeOption = None, json: JsonOption = False) -> None:
    """List providers with what monitoring says of them."""

    async def work(session: Session) -> list[dict[str, Any]]:
        health = {status.site: status for status in await session.monitoring.statuses()}
        rows = []
        for listed in await session.catalogue.providers():
            provider, status = listed.provider, health.get(listed.name)
            rows.append(
                {
                    "site": listed.name,
                    "kind": str(provider.kind),
                    "state": str(listed.state),
                    "up": status.up if status else None,
                    "free_cpu": status.free.cpu if status else None,
                    "queue": status.queue.length if status else None,
                    "capabilities": sorted(provider.capabilities),
                    "reason": status.reason if status else "not looked at yet",
                }
            )
        return rows

    show(run(home, work), COLUMNS, json=json)
