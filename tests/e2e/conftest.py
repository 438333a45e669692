"""One demo for all stories: told once a session, its federation kept for those who look."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

import psutil
import pytest

from twinfra.cli.up import lay_settings
from twinfra.core.home import Home
from twinfra.core.service import Context
from twinfra.core.settings import cache_folder

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "examples" / "climate-twin" / "demo.py"
TWINFRA = (sys.executable, "-m", "twinfra.cli.main")
WITHIN_S = 900
Fits = Callable[[dict], bool]


@dataclass
class Told:
    """What the demo left."""

    home: Home
    out: Path
    text: str

    @property
    def running(self) -> "Federation":
        """Its federation, which still runs."""
        return Federation(self.home)

    def found(self, pattern: str) -> str:
        """Return what the first group of `pattern` matches in what the demo said."""
        return re.search(pattern, self.text).group(1)


def command(*words: str, home: Path, within_s: float = 300) -> str:
    """Run the ``twinfra`` command; return what it printed."""
    done = subprocess.run(
        [*TWINFRA, *words, "--home", str(home)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


@dataclass
class Federation:
    """A federation that a test drives, kills and looks at, from outside only."""

    home: Home

    def command(self, *words: str) -> str:
        """Run the ``twinfra`` command here."""
        return command(*words, home=self.home.root)

    def url(self, service: str) -> str:
        """Return the base URL of a service."""
        return Context(self.home).url(service)

    def start_demo(self) -> subprocess.Popen:
        """Start the demo on this federation, which it leaves running."""
        return subprocess.Popen(
            [sys.executable, DEMO, "--home", self.home.root, "--resume", "--keep"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def curl(self, service: str, path: str, *words: str) -> str:
        """Have curl ask a service, with a token of alice's."""
        token = self.command("token", service).strip()
        argv = [
            "curl",
            "-sS",
            "--fail-with-body",
            "--cacert",
            Context(self.home).tls_server().cafile,
        ]
        done = subprocess.run(
            [*argv, "-H", f"Authorization: Bearer {token}", *words, self.url(service) + path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, f"{path}: {done.stdout}{done.stderr}"
        return done.stdout

    def wait_event(
        self, kind: str, fits: Fits = bool, *, count: int = 1, within_s: float = 300
    ) -> list[dict]:
        """Return the first `count` events of a kind whose data fit, from the beginning on."""
        argv = [
            *TWINFRA,
            "events",
            kind,
            "--since",
            "beginning",
            "--json",
            "--home",
            self.home.root,
        ]
        stream = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        late = Timer(within_s, stream.kill)
        late.start()
        found: dict[str, dict] = {}
        try:
            for line in stream.stdout:
                event = json.loads(line)
                if fits(event["data"]):
                    found[event["id"]] = event
                if len(found) == count:
                    return list(found.values())
        finally:
            late.cancel()
            stream.kill()
            _, complaint = stream.communicate()
        raise AssertionError(f"{kind}: {len(found)} of {count} came in {within_s} s; {complaint}")

    def processes(self) -> list[psutil.Process]:
        """Return every process of this home but keepers and their jobs."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = " ".join(process.info["cmdline"] or [])
            ours = str(self.home.root) in words and "keeper" not in words and "bwrap" not in words
            if ours and process.pid != os.getpid():
                found.append(process)
        return found

    def keepers(self) -> list[psutil.Process]:
        """Return the keepers that run."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if any("keeper" in Path(word).name for word in words) and any(
                word.startswith(str(self.home.root)) for word in words
            ):
                found.append(process)
        return found

    def kill_everything(self) -> None:
        """``kill -9`` of every process but keepers and jobs; start again."""
        doomed = self.processes()
        for process in doomed:
            process.send_signal(signal.SIGKILL)
        psutil.wait_procs(doomed, timeout=30)
        self.command("up", "--detach")


@contextmanager
def _federation(place: Path, further: str = ""):
    home = Home(place / "home")
    home.root.mkdir(parents=True)
    lay_settings(home)
    home.settings_file.write_text(home.settings_file.read_text() + further)
    home.images.symlink_to(cache_folder() / "images")
    made = Federation(home)
    made.command("up", "--detach")
    try:
        made.command("login", "--as", "alice")
        yield made
    finally:
        made.command("down")


@pytest.fixture(scope="session")
def federation():
    """Return what runs a fresh federation for the length of a block."""
    return _federation


@pytest.fixture(scope="session", name="command")
def _command():
    return command


@pytest.fixture(scope="session")
def told():
    """Run the demo from nothing and keep its federation."""
    place = Path(tempfile.mkdtemp(prefix="twinfra-e2e-"))
    home, out, log = Home(place / "home"), place / "out", place / "demo.log"
    with log.open("wb") as output:
        demo = subprocess.run(
            [sys.executable, DEMO, "--home", home.root, "--out", out, "--keep"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=WITHIN_S,
            check=False,
            env={**os.environ, "COLUMNS": "160"},
        )
    try:
        assert demo.returncode == 0, log.read_text()[-4000:]
        yield Told(home, out, log.read_text())
    finally:
        command("down", home=home.root)
        shutil.rmtree(place, ignore_errors=True)
