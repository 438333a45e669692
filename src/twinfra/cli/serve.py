"""``twinfra serve NAME``: one central service, or all of them in one event loop."""

from typing import Annotated

import typer

from twinfra.cli.options import HomeOption, open_home
from twinfra.cli.processes import HUB, WIRING, central_services, run_process
from twinfra.core.service import Context

app = typer.Typer()


@app.command()
def serve(
    name: Annotated[str, typer.Argument(help=f"{HUB} (all), or one of: {', '.join(WIRING)}")],
    home: HomeOption = None,
) -> None:
    """Run one central service, or all of them (hub)."""
    context = Context(open_home(home))
    run_process(context, name, central_services(context, name))
