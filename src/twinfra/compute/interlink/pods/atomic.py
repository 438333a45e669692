"""Shows a set of files in a folder, all at once: a reader sees the old ones or the new ones.

The folder holds a link for each first part of a path, all through ``..data``, which is swapped by
one rename. Source: Kubernetes, ``pkg/volume/util/atomic_writer.go`` (its layout, not its code).
"""

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from twinfra.compute.interlink.pods.request import FileEntry

DATA, DRAFT = "..data", "..data_tmp"
FOLDER_MODE = 0o755


def show(root: Path, files: Iterable[FileEntry]) -> bool:
    """Have `root` show exactly `files`; say whether that changed anything.

    Doing it again, after a crash at any point too, leads to the same end.
    """
    wanted = {entry.path: (entry.content, entry.mode) for entry in files}
    data = root / DATA
    before = str(data.readlink()) if data.is_symlink() else ""
    if before and _held(root / before) == wanted:
        _tidy(root, before, wanted)
        return False
    made = Path(tempfile.mkdtemp(prefix="..", dir=root))
    made.chmod(FOLDER_MODE)
    for path, (content, mode) in wanted.items():
        _write(made / path, content, mode)
    draft = root / DRAFT
    draft.unlink(missing_ok=True)
    draft.symlink_to(made.name)
    draft.replace(data)
    _tidy(root, made.name, wanted)
    return True


def _held(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return the files of a folder as they stand."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mode & 0o777)
        for path in folder.rglob("*")
        if path.is_file()
    }


def _tidy(root: Path, current: str, wanted: Iterable[str]) -> None:
    """Link what is to be seen, then drop what is not."""
    names = {PurePosixPath(path).parts[0] for path in wanted}
    for name in names:
        link = root / name
        if not link.is_symlink():
            _drop(link)
            link.symlink_to(f"{DATA}/{name}")
    for entry in root.iterdir():
        if entry.name not in names | {DATA, current}:
            _drop(entry)


def _drop(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, content: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchmod(descriptor, mode)
