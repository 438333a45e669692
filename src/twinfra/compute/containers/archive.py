"""Packs the keeper into one file that any Python from 3.9 on runs: `build_keeper`.

It must not run the keeper; its neighbour `handle.py` does.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_PACKAGE = "twinfra_keeper"
_SOURCES = Path(__file__).parent / "keeper"
_MAIN = f"import sys\nfrom {_PACKAGE}.main import main\nsys.exit(main(sys.argv[1:]))\n"
_SYSTEM_PYTHON = Path("/usr/bin/python3")
_OLDEST = (3, 9)
_EPOCH = (1980, 1, 1, 0, 0, 0)
_COMPILE = """
import pathlib, py_compile, sys
for name in sys.argv[1:]:
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(name, name + "c", dfile=pathlib.Path(name).name, invalidation_mode=mode)
"""


@functools.cache
def keeper_python() -> Path:
    """Return the interpreter that runs keepers here: the system's, else our own."""
    code = f"import sys; sys.exit(sys.version_info < {_OLDEST})"
    try:
        subprocess.run(
            [_SYSTEM_PYTHON, "-I", "-S", "-c", code],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return Path(sys.executable)
    return _SYSTEM_PYTHON


def build_keeper(path: Path) -> Path:
    """Write the keeper's zipapp, replacing what is there, and return its path.

    The same sources give the same bytes. Byte code of `keeper_python` is packed beside the
    sources, which saves a third of a start; other interpreters ignore it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="keeper-", dir=path.parent) as folder:
        work = Path(folder)
        for source in sorted(_SOURCES.glob("*.py")):
            shutil.copyfile(source, work / source.name)
        _compile(sorted(work.glob("*.py")))
        beside = work / "keeper.pyz"
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
            _add(archive, "__main__.py", _MAIN.encode())
            for member in sorted(work.glob("*.py*")):
                if member != beside:
                    _add(archive, f"{_PACKAGE}/{member.name}", member.read_bytes())
        beside.chmod(0o755)
        os.replace(beside, path)  # noqa: PTH105 - atomic by contract
    return path


def _compile(sources: list[Path]) -> None:
    """Add byte code; without it the keeper merely starts slower."""
    subprocess.run(
        [keeper_python(), "-I", "-S", "-c", _COMPILE, *sources],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = 0o644 << 16
    archive.writestr(info, data)
