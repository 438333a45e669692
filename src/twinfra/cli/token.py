"""``twinfra token SERVICE``: an access token for other people's clients: curl, gfal, rucio."""

from typing import Annotated

import typer

from twinfra.cli.options import HomeOption

app = typer.Typer()


@app.command()
def token(
    service: Annotated[str, typer.Argument(help="datasets, edge@hpc-b, … or a base URL")],
    home: HomeOption = None,
) -> None:
    """Print a token of yours for one service; it ends by itself within the hour."""
    from twinfra.cli.session import Session, run  # noqa: PLC0415 - kept off the path of --help

    async def work(session: Session) -> str:
        url = service if "://" in service else session.context.url(service)
        return await session.tokens.token(url)

    typer.echo(run(home, work))
