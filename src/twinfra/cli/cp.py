"""``twinfra cp SOURCE DESTINATION``: a file from, to or between storages, checked at the end."""

from pathlib import PurePosixPath
from typing import Annotated

import typer

from twinfra.cli.options import HomeOption
from twinfra.cli.session import Session, run
from twinfra.core.errors import UpstreamFault
from twinfra.data.storage.client import TellsChecksums, storage_at

app = typer.Typer()
ALGORITHM = "adler32"


@app.command()
def cp(
    source: Annotated[str, typer.Argument(help="https://…/dav/file, or a local path")],
    destination: Annotated[str, typer.Argument(help="The same; a trailing slash is a folder")],
    home: HomeOption = None,
) -> None:
    """Copy a file and compare checksums where both storages tell one."""

    async def work(session: Session) -> None:
        name = PurePosixPath(source).name
        target = destination + name if destination.endswith("/") else destination
        async with (
            storage_at(source, session.storage(source)) as (here, here_path),
            storage_at(target, session.storage(target)) as (there, there_path),
        ):
            await there.write(there_path, here.read(here_path))
            if isinstance(here, TellsChecksums) and isinstance(there, TellsChecksums):
                ours = await here.checksum(here_path, ALGORITHM)
                theirs = await there.checksum(there_path, ALGORITHM)
                if ours != theirs:
                    await there.unlink(there_path)
                    raise UpstreamFault(f"{ALGORITHM} is {theirs} instead of {ours}; copy removed")

    run(home, work)
