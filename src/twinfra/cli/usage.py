"""``twinfra usage``: what was used, by whom, for which deployment."""

from typing import Annotated, Any

import typer

from twinfra.accounting.client import Filter, to_json
from twinfra.cli.options import HomeOption, JsonOption
from twinfra.cli.session import Session, run
from twinfra.cli.tables import show

app = typer.Typer(help="Usage records: jobs, storage, transfers.")
COLUMNS = ("id", "kind", "site", "person", "group", "deployment", "quantities")
IDENTITY = {*COLUMNS, "started_at", "ended_at", "version"}


@app.callback(invoke_without_command=True)
def _group(ctx: typer.Context, home: HomeOption = None, json: JsonOption = False) -> None:
    """Usage records: jobs, storage, transfers; without a command all of them are listed."""
    if ctx.invoked_subcommand is None:
        list_(home=home, json=json)


@app.command("list")
def list_(
    deployment: Annotated[str | None, typer.Option(help="Only of this deployment")] = None,
    group: Annotated[str | None, typer.Option(help="Only of this group")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List usage records, newest first."""

    async def work(session: Session) -> list[dict[str, Any]]:
        wanted = Filter(deployment=deployment, group=group)
        return [to_json(record) for record in (await session.accounting.records(wanted)).records]

    rows = run(home, work)
    if not json:
        rows = [{**row, **_readable(row)} for row in rows]
    show(rows, COLUMNS, json=json)


@app.command()
def apel(record_id: str, home: HomeOption = None) -> None:
    """Print a job record as the message that APEL takes."""
    typer.echo(run(home, lambda session: session.accounting.apel(record_id)), nl=False)


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    numbers = [f"{k}={v:g}" for k, v in row.items() if isinstance(v, int | float) and v]
    person = row.get("person", {}).get("sub", "")  # a service's own use has none
    return {"person": person, "quantities": " ".join(sorted(numbers))}
