"""Makes the places that containers see and cannot make safely themselves: memory, parts of folders.

It works in the keeper's own mount namespace, which no container can change.
"""

import contextlib
import os
import stat
from pathlib import Path

from . import kernel
from .model import PodPlan, SubPath

_ONE = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def wanted(plan: PodPlan) -> bool:
    """Tell whether the pod needs such places."""
    everyone = (*plan.init_containers, *plan.containers)
    return bool(plan.memory_folders) or any(item.launch.sub_paths for item in everyone)


def mount_memory(plan: PodPlan) -> None:
    """Mount the pod's folders in memory.

    Raises:
        OSError: it is denied here.
    """
    for folder in plan.memory_folders:
        Path(folder.path).mkdir(parents=True, exist_ok=True, mode=0o700)
        kernel.mount_memory(folder.path, folder.size_bytes)


def remove(folder: str) -> None:
    """Remove a folder with all that is in it, whatever its modes and however deep it is.

    Links in it are not followed. What cannot be removed stays; nothing is raised.
    """
    with contextlib.suppress(OSError):
        above = os.open(os.path.dirname(folder) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _remove(above, os.path.basename(folder))
        finally:
            os.close(above)


def _remove(above: int, name: str) -> None:
    """Remove a folder by its name in an open one: empty what is in it, the deepest first.

    A folder that holds others is moved up into `above`, so that no path grows and few are open.
    """
    queue = [name]
    moved = 0
    while queue:
        name = queue.pop()
        here = _enter(above, name)
        if here < 0:
            continue
        try:
            for entry in os.listdir(here):
                with contextlib.suppress(OSError):
                    inner = _enter(here, entry)  # one that we may not write could not be moved
                    if inner >= 0:
                        os.close(inner)
                        moved += 1
                        aside = f".removed-{os.getpid()}-{moved}"
                        os.rename(entry, aside, src_dir_fd=here, dst_dir_fd=above)
                        queue.append(aside)
                    else:
                        os.unlink(entry, dir_fd=here)
        finally:
            os.close(here)
        with contextlib.suppress(OSError):
            os.rmdir(name, dir_fd=above)


def _enter(above: int, name: str) -> int:
    """Open a folder for listing, whatever its mode; -1: it is none, or not ours."""
    try:
        found = os.open(name, _ONE | os.O_DIRECTORY, dir_fd=above)
    except OSError:
        return -1
    try:
        os.chmod(f"/proc/self/fd/{found}", 0o700)
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1
    finally:
        os.close(found)


def show(sub: SubPath) -> None:
    """Mount a part of a folder at its place; what is not there is made, as a folder.

    Raises:
        OSError: a link is in the way, or it is denied here.
    """
    found = _open(sub)
    try:
        target = Path(sub.target)
        if not os.path.isdir(f"/proc/self/fd/{found}"):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not target.is_file():
                _replace_by_file(target)
        else:
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
        kernel.mount_again(found, sub.target)
    finally:
        os.close(found)


def _open(sub: SubPath) -> int:
    """Open step by step, so that no link is followed, whoever changes the folder meanwhile."""
    here = os.open(sub.root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for part in Path(sub.path).parts:
        try:
            try:
                further = os.open(part, _ONE, dir_fd=here)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=here)
                further = os.open(part, _ONE, dir_fd=here)
        finally:
            os.close(here)
        here = further
    if stat.S_ISLNK(os.fstat(here).st_mode):
        os.close(here)
        raise OSError(f"{sub.path} is a link")
    return here


def _replace_by_file(target: Path) -> None:
    if target.is_dir():
        target.rmdir()
    target.touch(mode=0o600)


def size_bytes(path: str, most_entries: int = 200_000) -> int:
    """Return how much a folder takes on its disk, links not followed."""
    total, folders, seen = 0, [path], 0
    while folders and seen < most_entries:
        # What has just gone, or may not be looked into, does not count.
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                seen += 1
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
    return total
