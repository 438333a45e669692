"""Which processes make a federation on one machine."""

import asyncio
import signal
import sys

from twinfra.cli.processes import HUB, WIRING
from twinfra.core.home import LOOPBACK, Home
from twinfra.core.nats_server import nats_server_argv
from twinfra.core.service import Context
from twinfra.core.settings import site_names
from twinfra.core.supervisor import Child


def children(context: Context) -> list[Child]:
    """Return the processes of the federation at this home, in the order of their start."""
    home = context.home
    command = [sys.executable, "-m", "twinfra.cli.main"]
    made = [
        Child("nats", nats_server_argv(home, WIRING, site_names(home)), _listens(home, "nats")),
        Child(
            HUB,
            [*command, "serve", HUB, "--home", str(home.root)],
            _listens(home, *(name for name in WIRING if name != HUB)),
            stage=1,
        ),
    ]
    for site in site_names(home):
        argv = [*command, "site", "run", site, "--home", str(home.root)]
        doors = (f"{kind}@{site}" for kind in ("edge", "plugin", "interlink"))
        name, ready = f"site-{site}", _listens(home, *doors)
        made.append(Child(name, argv, ready, stage=2, drain_signal=signal.SIGUSR1))
    return made


def _listens(home: Home, *names: str) -> "Listens":
    return Listens([home.port(name) for name in names])


class Listens:
    """Says whether somebody accepts connections at every one of some ports."""

    def __init__(self, ports: list[int]) -> None:
        self._waiting_for = ports

    async def __call__(self) -> bool:
        """Return whether all have answered; one that answered is not asked again."""
        while self._waiting_for:
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, self._waiting_for[0])
            except OSError:
                return False
            writer.close()
            self._waiting_for.pop(0)
        return True
