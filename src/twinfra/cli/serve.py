"""``twinfra serve NAME``: one service, or all central ones in one event loop."""

from typing import Annotated

import typer

from twinfra.cli.options import HomeOption, open_home
from twinfra.cli.processes import (
    HUB,
    INTERLINK,
    WIRING,
    central_services,
    interlink_api,
    run_process,
)
from twinfra.core.service import Context

app = typer.Typer()
NAMES = ", ".join((*WIRING, f"{INTERLINK}@SITE"))


@app.command()
def serve(
    name: Annotated[str, typer.Argument(help=f"{HUB} (all), or one of: {NAMES}")],
    home: HomeOption = None,
) -> None:
    """Run one central service, all of them (hub), or a site's interLink API alone."""
    context = Context(open_home(home))
    kind, _, site = name.partition("@")
    if kind == INTERLINK:
        services = [interlink_api(context, site)]
    else:
        services = central_services(context, name)
    run_process(context, name, services)
