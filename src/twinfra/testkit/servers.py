"""Real servers for tests: NATS and PostgreSQL, each in its own folder on loopback.

Others stand beside the test that uses them; all are context managers, wrapped as fixtures by
``tests/conftest.py``. A missing program is an error that names the package, never a skip.
"""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from twinfra.core.nats_server import nats_server_program
from twinfra.testkit.ports import LOOPBACK, free_port, listening
from twinfra.testkit.processes import ServerDidNotStart, running

TRIES = 3


def find_program(name: str, package: str, *further: str) -> str:
    """Return the path of `name`.

    Raises:
        AssertionError: it is not installed; the message names the Debian package.
    """
    paths = [*further, "/usr/local/sbin", "/usr/sbin", "/sbin"]
    found = shutil.which(name) or shutil.which(name, path=":".join(paths))
    assert found, f"{name} is not installed; install the package {package}"
    return found


@contextmanager
def nats(folder: Path, *, port: int | None = None) -> Iterator[str]:
    """Run a NATS server with JetStream; gives its URL."""
    for attempt in range(TRIES):
        chosen = port or free_port()
        argv = [nats_server_program(), "-a", LOOPBACK, "-p", str(chosen), "-js", "-sd", str(folder)]
        try:
            ready = partial(listening, chosen)
            with running(argv, log=folder / "nats.log", ready=ready):
                yield f"nats://{LOOPBACK}:{chosen}"
                return
        except ServerDidNotStart:
            if port or attempt == TRIES - 1:
                raise


@contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run PostgreSQL on a Unix socket and a loopback port; gives the URL of an empty database.

    Source: initdb(1), postgres(1). As root it runs as the user ``postgres``.
    """
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    initdb = find_program("initdb", "postgresql", *map(str, versions))
    server = find_program("postgres", "postgresql", *map(str, versions))
    user = "postgres" if os.geteuid() == 0 else None
    data = folder / "data"
    folder.chmod(0o777)
    subprocess.run(
        [initdb, "-D", data, "-A", "trust", "-U", "twinfra", "-E", "UTF8", "--no-sync"],
        check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        user=user, group=user, cwd=folder,
    )  # fmt: skip
    port = free_port()
    argv = [
        server, "-D", str(data), "-h", LOOPBACK, "-p", str(port), "-k", str(data),
        "-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off",
        "-c", "max_connections=200",
    ]  # fmt: skip
    with running(
        argv, log=folder / "postgres.log", ready=lambda: listening(port), user=user,
        stop_signal=signal.SIGINT,
    ):  # fmt: skip
        yield f"postgresql://twinfra@{LOOPBACK}:{port}/postgres"
