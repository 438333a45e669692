"""The Python layer: wheels of a lock with hashes, installed for the image's own Python.

pip is the one of this Python; where it finds packages is its own configuration. Nothing is built:
a lock whose package has no wheel fails. It must not write layers: its neighbour `build.py` does.
"""

import platform
import sys
from pathlib import Path, PurePosixPath

from twinfra.compute.containers.images.tools import output, run

_GLIBC_MINORS = (17, 24, 26, 27, 28, 31, 34, 35, 36)


def target_of(version: str) -> PurePosixPath:
    """Return where Debian's python3 looks for what its administrator installs."""
    return PurePosixPath(f"/usr/local/lib/python{version}/dist-packages")


def install(lock: Path, version: str, work: Path, log: Path) -> Path:
    """Install the lock's wheels into a folder.

    Args:
        lock: requirements with hashes.
        version: `3.x` of the image's Python.
        work: a folder of ours.
        log: takes pip's output.

    Raises:
        ImageBuildFailed: a hash does not match, or a package has no wheel for this platform.
    """
    target = work / "wheels"
    tag = f"cp{version.replace('.', '')}"
    platforms = [f"manylinux_2_{minor}_{platform.machine()}" for minor in _GLIBC_MINORS]
    platforms += [f"manylinux2014_{platform.machine()}", f"linux_{platform.machine()}"]
    run(
        [
            sys.executable, "-m", "pip", "install", "--no-input", "--no-compile",
            "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:", "--no-deps",
            f"--python-version={version}", "--implementation=cp",
            f"--abi={tag}", "--abi=abi3", "--abi=none",
            *(f"--platform={name}" for name in platforms),
            f"--target={target}", "-r", lock,
        ],
        log,
    )  # fmt: skip
    _compile(target, version, log)
    return target


def _compile(target: Path, version: str, log: Path) -> None:
    """Add byte code where a Python of the image's version is here: imports start faster.

    Valid by decree (unchecked hashes), so that neither times nor who built it matter.
    """
    for candidate in (sys.executable, f"/usr/bin/python{version}"):
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        if output([candidate, "-I", "-c", code]).strip() == version:
            run(
                [
                    candidate, "-I", "-m", "compileall", "-q", "-j", "0",
                    "--invalidation-mode", "unchecked-hash",
                    "-s", target, "-p", str(target_of(version)), target,
                ],
                log,
            )  # fmt: skip
            return
