"""Other people's programs for tests: Python clients in their own environments, npm packages.

Each is named by a folder that holds its hashed ``requirements.txt`` or its ``package-lock.json``;
it is installed once into a cache outside the repository, keyed by the hash of that file.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

from twinfra.core.settings import cache_folder

INSTALL_WITHIN_S = 600


def python_environment(folder: Path) -> Path:
    """Return the ``bin`` of an environment with what ``folder/requirements.txt`` names.

    Build requirements that must be there first stand in ``folder/build-requirements.txt``; with
    it, packages are built without isolation.
    """
    files = [folder / "build-requirements.txt", folder / "requirements.txt"]
    place = _place("venv", folder.name, *files)
    with FileLock(f"{place}.lock"):
        if not (place / "done").exists():
            shutil.rmtree(place, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(place)], place.parent)
            pip = [str(place / "bin" / "python"), "-m", "pip", "install", "-q"]
            built = files[0].exists()
            for file in filter(Path.exists, files):
                options = ["--require-hashes", *(["--no-build-isolation"] if built else [])]
                _run([*pip, *options, "-r", str(file)], place, path=place / "bin")
            (place / "done").touch()
    return place / "bin"


def node_modules(folder: Path) -> Path:
    """Return a folder whose ``node_modules`` holds what ``folder/package-lock.json`` names."""
    place = _place("node", folder.name, folder / "package.json", folder / "package-lock.json")
    with FileLock(f"{place}.lock"):
        if not (place / "done").exists():
            shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True)
            for name in ("package.json", "package-lock.json"):
                shutil.copy(folder / name, place)
            npm = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            _run(npm, place, path=Path(sys.executable).parent)
            (place / "done").touch()
    return place


def _place(kind: str, name: str, *files: Path) -> Path:
    digest = hashlib.sha256(sys.version.encode())
    for file in files:
        digest.update(file.read_bytes() if file.exists() else b"")
    place = cache_folder() / kind / f"{name}-{digest.hexdigest()[:16]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _run(argv: list[str], folder: Path, *, path: Path | None = None) -> None:
    """Run a command; programs in `path` (build tools that pip brought) are found first."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}  # noqa: TID251 - a child's
    if path is not None:
        environment["PATH"] = f"{path}{os.pathsep}{environment.get('PATH', os.defpath)}"
    done = subprocess.run(
        argv,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=INSTALL_WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(argv)}: {(done.stdout + done.stderr)[-2000:]}"
