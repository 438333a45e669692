"""``twinfra down``: end the federation that ``twinfra up`` runs, its jobs included."""

import psutil
import typer
from filelock import FileLock, Timeout

from twinfra.cli.options import HomeOption, open_home
from twinfra.core.errors import Unavailable
from twinfra.core.home import Home

app = typer.Typer()
WITHIN_S = 90


@app.command()
def down(home: HomeOption = None) -> None:
    """End the federation of this home; nothing happens when none runs."""
    if not end_federation(open_home(home)):
        typer.echo("no federation runs here")


def end_federation(home: Home) -> bool:
    """Have the federation of `home` end and wait for it; false when none runs.

    Raises:
        Unavailable: it does not end in time.
    """
    pid_file = home.root / "run" / "up.pid"
    try:
        with FileLock(home.root / "lock", timeout=0):
            return False
    except Timeout:
        process = psutil.Process(int(pid_file.read_text()))
    process.terminate()
    try:
        process.wait(WITHIN_S)
    except psutil.TimeoutExpired as error:
        raise Unavailable(f"process {process.pid} does not end; see {home.logs}") from error
    return True
