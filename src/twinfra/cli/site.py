"""``twinfra site``: what a facility runs beside its batch system and its storage."""

from typing import Annotated

import typer

from twinfra.cli.options import HomeOption, open_home
from twinfra.cli.processes import run_process
from twinfra.core.errors import NotFound
from twinfra.core.service import Context
from twinfra.core.settings import site_names

app = typer.Typer(no_args_is_help=True, help="Run and inspect a site.")


@app.callback()
def _group() -> None:
    """Run and inspect a site."""


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="Name of the site in settings.toml")],
    home: HomeOption = None,
) -> None:
    """Run a site: storage edge, interLink plug-in and API; jobs outlive it."""
    from twinfra.compute.sites.wiring import build  # noqa: PLC0415 - only this command needs it

    context = Context(open_home(home))
    known = site_names(context.home)
    if name not in known:
        raise NotFound(f"no site {name!r} in {context.home.settings_file}; there are: {known}")
    run_process(context, f"site-{name}", build(context, name))
