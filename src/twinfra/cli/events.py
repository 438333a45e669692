"""``twinfra events``: follow what happens in the federation."""

from typing import Annotated

import typer

from twinfra.cli.options import HomeOption, JsonOption
from twinfra.cli.session import Session, run

app = typer.Typer()


@app.command()
def events(
    types: Annotated[list[str] | None, typer.Argument(help="Such as org.twinfra.rule.*")] = None,
    since: Annotated[str | None, typer.Option(help="RFC 3339 moment, or beginning")] = None,
    site: Annotated[str | None, typer.Option(help="Only of this site")] = None,
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """Follow events until Ctrl-C; with --json one CloudEvent a line."""

    async def work(session: Session) -> None:
        import json as jsonlib  # noqa: PLC0415 - the option has the name

        async for event in session.notifications.events(types or (), since=since, site=site):
            if json:
                typer.echo(jsonlib.dumps(event.to_json()))
            else:
                moment = event.time.strftime("%H:%M:%S.%f")[:-3]
                typer.echo(f"{moment} {event.site:10} {event.type:38} {event.subject or ''}")

    run(home, work)
