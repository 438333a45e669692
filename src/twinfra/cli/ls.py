"""``twinfra ls URL``: what stands in a storage folder."""

from typing import Annotated, Any

import typer

from twinfra.cli.options import HomeOption, JsonOption
from twinfra.cli.session import Session, run
from twinfra.cli.tables import show
from twinfra.data.storage.client import storage_at

app = typer.Typer()


@app.command()
def ls(
    url: Annotated[str, typer.Argument(help="https://…/dav/folder, or a local path")],
    home: HomeOption = None,
    json: JsonOption = False,
) -> None:
    """List a storage folder."""

    async def work(session: Session) -> list[dict[str, Any]]:
        async with storage_at(url, session.storage(url)) as (storage, path):
            return [
                {
                    "name": entry.path.rpartition("/")[2],
                    "size_bytes": entry.size_bytes,
                    "modified_at": entry.modified_at,
                }
                async for entry in storage.listdir(path)
            ]

    rows = sorted(run(home, work), key=lambda row: str(row["name"]))
    show(rows, ("name", "size_bytes", "modified_at"), json=json)
