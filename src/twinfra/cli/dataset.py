"""``twinfra dataset``: what datasets there are, what is in them, where they came from."""

from typing import Annotated, Any

import typer

from twinfra.cli.options import HomeOption, JsonOption, print_json
from twinfra.cli.session import Session, run
from twinfra.cli.tables import show
from twinfra.data.datasets.client import Did, NewCollection

app = typer.Typer(no_args_is_help=True, help="Datasets: list, show, make, close, lineage.")
DidArgument = Annotated[str, typer.Argument(help="Dataset as scope:name")]


@app.command("list")
def list_(
    scope: Annotated[str, typer.Argument(help="Scope, such as climate")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List the datasets and containers of a scope."""

    async def work(session: Session) -> list[dict[str, Any]]:
        rows = []
        for did in await session.datasets.search(scope):
            info = await session.datasets.get_did(did)
            rows.append({"did": str(did), "type": str(info.type), "open": info.is_open})
        return rows

    show(run(home, work), ("did", "type", "open"), json=json)


@app.command("show")
def show_(did: DidArgument, home: HomeOption = None, json: JsonOption = False) -> None:
    """Show the files of a dataset and where each has replicas."""

    async def work(session: Session) -> list[dict[str, Any]]:
        wanted = await session.datasets.resolve(Did.parse(did))
        return [
            {
                "file": str(replica.did),
                "size_bytes": replica.size_bytes,
                "adler32": replica.adler32,
                "replicas": [f"{rse}:{state}" for rse, state in replica.states.items()],
            }
            for replica in await session.datasets.list_replicas([wanted])
        ]

    show(run(home, work), ("file", "size_bytes", "adler32", "replicas"), json=json)


@app.command()
def make(did: DidArgument, home: HomeOption = None) -> None:
    """Make a dataset; one that is there already is left as it is."""
    new = NewCollection(Did.parse(did))
    run(home, lambda session: session.datasets.dids_add([new], exist_ok=True))


@app.command()
def close(did: DidArgument, home: HomeOption = None) -> None:
    """Close a dataset: nothing joins it any more."""
    run(home, lambda session: session.datasets.close(Did.parse(did)))


@app.command()
def lineage(did: DidArgument, home: HomeOption = None) -> None:
    """Print what a dataset came from, and what came of it, as JSON."""
    print_json(run(home, lambda session: session.datasets.lineage(Did.parse(did))))
