"""``twinfra up``: a whole federation on this machine; a clean stop ends its jobs too."""

import asyncio
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated

import typer
from filelock import FileLock, Timeout

from twinfra.cli.federation import children
from twinfra.cli.options import HomeOption, open_home
from twinfra.core.errors import Conflict, Unavailable
from twinfra.core.home import Home
from twinfra.core.service import Context, Stop
from twinfra.core.supervisor import Supervisor
from twinfra.core.telemetry import configure_logging

app = typer.Typer()
READY = b"ready\n"


@app.command()
def up(
    home: HomeOption = None,
    detach: Annotated[
        bool, typer.Option(help="Return when it runs; twinfra down ends it.")
    ] = False,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run a whole federation on this machine until Ctrl-C."""
    place = open_home(home)
    place.root.mkdir(parents=True, exist_ok=True)
    if detach:
        _detach(place)
        _greet(Context(place))
        return
    lock = FileLock(place.root / "lock", timeout=0)
    try:
        with lock:
            _pid_file(place).write_text(str(os.getpid()))
            configure_logging("up")
            asyncio.run(run_federation(place, Stop(), ready_fd))
            _pid_file(place).unlink(missing_ok=True)
    except Timeout as error:
        raise Conflict(f"another twinfra up runs on {place.root}") from error


def lay_settings(home: Home) -> None:
    """Give a fresh home the settings of three sites on one machine."""
    if not home.settings_file.exists():
        default = resources.files("twinfra.cli.defaults").joinpath("settings.toml")
        home.settings_file.write_text(default.read_text())


async def run_federation(home: Home, stop: Stop, ready_fd: int | None = None) -> None:
    """Run all processes of the federation until `stop`; then its jobs are ended, and they too."""
    lay_settings(home)
    stop.on_signals()
    context = Context(home)
    context.tls_server()
    supervisor = Supervisor(children(context), logs=home.logs, pids=_pids(home))
    starting = asyncio.create_task(supervisor.start())
    stopping = asyncio.create_task(stop.now.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            if ready_fd is None:
                _greet(context)
            else:
                os.write(ready_fd, READY)
                os.close(ready_fd)
            await stopping
    finally:
        for task in (starting, stopping):
            task.cancel()
        await asyncio.gather(starting, stopping, return_exceptions=True)
        await supervisor.stop(drain=True)


def _detach(home: Home) -> None:
    """Start ``twinfra up`` in a session of its own and wait until it is ready or has failed."""
    reading, writing = os.pipe()
    argv = [sys.executable, "-m", "twinfra.cli.main", "up", "--home", str(home.root)]
    log = home.logs / "up.log"
    with log.open("ab") as output:
        subprocess.Popen(
            [*argv, "--ready-fd", str(writing)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            pass_fds=(writing,),
        )
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        if pipe.readline() != READY:
            end = log.read_text(errors="replace").strip().splitlines()[-1:]
            raise Unavailable(f"the federation did not start: {' '.join(end)}; its log is {log}")


def _pids(home: Home) -> Path:
    folder = home.root / "run"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _pid_file(home: Home) -> Path:
    """Return the file that says which process runs the federation."""
    return _pids(home) / "up.pid"


def _greet(context: Context) -> None:
    typer.echo(f"the federation runs at {context.home.root}; page: {context.url('dashboard')}/")
