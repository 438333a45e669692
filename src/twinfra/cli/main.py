"""The ``twinfra`` command: finds the module of a command group and loads only that one.

``twinfra --help`` must answer at once, so this module imports nothing of ours but `core.errors`.
"""

import importlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from twinfra.core.errors import TwinfraError

COMMANDS: Mapping[str, str] = {
    "up": "Run a whole federation on this machine.",
    "down": "End the federation that up runs, its jobs included.",
    "serve": "Run one service, or all central ones (hub).",
    "site": "Run and inspect a site: edge, plug-in, interLink API.",
    "kubelet": "Show sites as nodes of a Kubernetes cluster.",
    "settings": "Show every setting, its value and where it came from.",
    "login": "Log in and keep a token for the commands below.",
    "token": "Print a token for a service of the federation.",
    "deploy": "Deploy twins from TOSCA templates, look into them.",
    "dataset": "Datasets: list, show, register files, lineage.",
    "rule": "Rules that keep replicas where you want them.",
    "transfer": "Third-party transfers: list and follow.",
    "cp": "Copy files to, from and between storages.",
    "ls": "List a storage folder.",
    "events": "Follow the federation's events.",
    "provider": "Providers: what exists and how it is.",
    "usage": "Usage records: jobs, storage, transfers.",
    "image": "Build container images without a registry.",
}


class LazyGroup(TyperGroup):
    """A group whose commands are modules of this package, loaded when called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names in the order of `COMMANDS`."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command: loaded when it runs, a line of help while all are listed."""
        if cmd_name not in COMMANDS:
            return None
        if ctx.resilient_parsing is False and _help_of_all(ctx):
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name])
        module = importlib.import_module(f"twinfra.cli.{cmd_name}")
        return typer.main.get_command(module.app)


def _help_of_all(ctx: Any) -> bool:
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    return ctx.parent is None and not words


app = typer.Typer(
    name="twinfra",
    cls=LazyGroup,
    no_args_is_help=True,
    help="The infrastructure under a digital twin engine.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _root() -> None:
    """The infrastructure under a digital twin engine."""


def main() -> None:
    """Run the command; an error of ours is one line and the next step, never a stack trace."""
    try:
        app()
    except TwinfraError as error:
        typer.secho(f"twinfra: {error.detail}", fg="red", err=True)
        for entry in error.errors:
            typer.echo(f"  {_line(entry)}", err=True)
        sys.exit(2 if error.status < 500 else 1)


def _line(entry: Mapping[str, Any]) -> str:
    place = entry.get("field") or entry.get("path")
    where = f"line {entry['line']}: " if entry.get("line") else ""
    return f"{where}{place}: {entry.get('detail') or entry.get('message') or json.dumps(entry)}"


if __name__ == "__main__":
    main()
