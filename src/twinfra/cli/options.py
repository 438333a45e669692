"""Options that many commands share, and what they stand for."""

from pathlib import Path
from typing import Annotated, Any

import typer

from twinfra.core.home import Home
from twinfra.core.settings import home_from_environment

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", help="Home folder; default: $TWINFRA_HOME, else the state folder."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def open_home(flag: Path | None) -> Home:
    """Return the home that a command works on."""
    return home_from_environment(flag)


def print_json(value: Any) -> None:
    """Print `value` as JSON, for programs."""
    import json  # noqa: PLC0415 - kept off the path of --help

    typer.echo(json.dumps(value, indent=2, default=str))
