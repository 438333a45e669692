"""The home folder of a federation on this machine: where everything that is kept is kept.

Layout: ``lock settings.toml ports.json tls/ secrets/ db/ nats/ sites/<name>/ images/ logs/``.
Knows paths, ports and secrets; starts nothing.
"""

import json
import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

LOOPBACK = "127.0.0.1"
HOSTNAME = "localhost"
PORTS = range(20000, 32000)
"""Where services get theirs: below those that the kernel lends to clients."""


@dataclass(frozen=True)
class SiteHome:
    """The folders of one site."""

    root: Path

    @property
    def storage(self) -> Path:
        """What the edge serves under ``/dav/``."""
        return _shared(self.root / "storage")

    @property
    def jobs(self) -> Path:
        """One folder a job."""
        return _shared(self.root / "jobs")

    @property
    def images(self) -> Path:
        """Unpacked images, one folder a manifest digest."""
        return _shared(self.root / "images")

    def share(self, folder: Path) -> None:
        """Keep storage, jobs and images in `folder`, by links: for the nodes of a batch system.

        Raises:
            ValueError: one of them holds something here already; it has to be moved by hand.
        """
        for name in ("storage", "jobs", "images"):
            here, there = self.root / name, _folder(folder / name)
            if here.is_symlink() and here.resolve() == there.resolve():
                continue
            if here.is_symlink() or (here.is_dir() and any(here.iterdir())):
                raise ValueError(f"{here} is in use: move what it holds to {there}")
            if here.is_dir():
                here.rmdir()
            here.symlink_to(there.resolve())

    @property
    def db(self) -> Path:
        """Databases of the site's own services."""
        return _folder(self.root / "db")


@dataclass(frozen=True)
class Home:
    """The folders, ports and secrets of a federation on this machine."""

    root: Path

    @property
    def settings_file(self) -> Path:
        """The one TOML file of settings; may be absent."""
        return self.root / "settings.toml"

    @property
    def ports_file(self) -> Path:
        """Which port each service was given."""
        return self.root / "ports.json"

    @property
    def tls(self) -> Path:
        """The federation's own certificate authority and the server certificate."""
        return _folder(self.root / "tls", mode=0o755)

    @property
    def secrets(self) -> Path:
        """Secrets, one file each, readable by the owner only."""
        return _folder(self.root / "secrets")

    @property
    def db(self) -> Path:
        """SQLite files of the central services."""
        return _folder(self.root / "db")

    @property
    def nats(self) -> Path:
        """The store of the NATS server."""
        return _folder(self.root / "nats")

    @property
    def images(self) -> Path:
        """The OCI layout that sites take images from by default."""
        return self.root / "images"

    @property
    def logs(self) -> Path:
        """One log file a process."""
        return _folder(self.root / "logs")

    def site(self, name: str) -> SiteHome:
        """Return the folders of the site `name`."""
        return SiteHome(_folder(self.root / "sites" / name))

    def port(self, name: str) -> int:
        """Return the port of service `name`: free when first chosen, kept from then on."""
        with FileLock(_folder(self.root) / "ports.lock"):
            ports = self.ports()
            if name not in ports:
                ports[name] = _free_port(set(ports.values()))
                _write(self.ports_file, json.dumps(ports, indent=2, sort_keys=True) + "\n", 0o644)
            return ports[name]

    def ports(self) -> dict[str, int]:
        """Return all ports given so far."""
        try:
            chosen: dict[str, int] = json.loads(self.ports_file.read_text())
        except FileNotFoundError:
            return {}
        return chosen

    def secret(self, name: str, make: Callable[[], str] = lambda: secrets.token_urlsafe(32)) -> str:
        """Return the secret `name`, made when first asked for, kept in a file of mode 0600."""
        path = self.secrets / name
        with FileLock(self.secrets / ".lock"):
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                _write(path, make(), 0o600)
            return path.read_text().strip()


def _folder(path: Path, mode: int = 0o700) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=mode)
    return path


def _shared(path: Path) -> Path:
    """Return the folder itself where `path` is a link: nodes of a batch system see no home."""
    made = _folder(path)
    return made.resolve() if made.is_symlink() else made


def _write(path: Path, text: str, mode: int) -> None:
    """Write by rename, so that a reader sees the old text or the new, never half of it."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        draft.unlink()
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _free_port(taken: set[int]) -> int:
    """Return a port nobody listens on."""
    for _ in range(1000):
        port = secrets.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with suppress(OSError):
                probe.bind((LOOPBACK, port))
                if port not in taken:
                    return port
    raise RuntimeError(f"no free port between {PORTS.start} and {PORTS.stop}")
