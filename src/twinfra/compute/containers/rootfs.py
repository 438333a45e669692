"""Plans what a container sees as its root: a layer to write over the image, or the image as it is.

Where no layer can be laid over it, the image is read-only, with places to write, and mount points
that it lacks are made on a small in-memory root: the directories above them are rebuilt there,
entry by entry. It reads the image's directory and writes nothing; the neighbours `bubblewrap.py`
and `proot.py` spell the plan for their programs.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from twinfra.compute.containers.keeper.model import MARK
from twinfra.compute.containers.model import ContainerSpec, Mount
from twinfra.compute.containers.uplink import RESOLVER
from twinfra.core.errors import InvalidRequest, NotFound

_ROOT = PurePosixPath("/")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KERNEL = frozenset(map(PurePosixPath, ("/proc", "/dev", "/sys")))
_MEMORY = PurePosixPath("/run")
_RESOLVER = ("/etc/resolv.conf", "/etc/hosts")
_MOST_LINKS = 40
_MOST_STEPS = 2500


@dataclass(frozen=True)
class Step:
    """One operation on the new root, in order."""

    kind: Literal["directory", "symlink", "tmpfs", "read-only", "writable"]
    target: str
    source: str = ""


@dataclass(frozen=True)
class RootView:
    """How to build the root, and what must exist on the host before."""

    steps: tuple[Step, ...]
    """Whole root, from nothing."""
    mounts: tuple[Mount, ...]
    """What is mounted over the image, targets resolved within it; outer ones first."""
    directories: tuple[Path, ...]
    files: dict[Path, str]
    layer: tuple[Path, ...] = ()
    """Where the layer over the image is kept, and a working folder beside it; none: there is no
    such layer, and the root is made by `steps` from nothing."""


def resolve(rootfs: Path, target: PurePosixPath) -> PurePosixPath:
    """Follow the image's own symbolic links to where a target really is; never leaves the image.

    Raises:
        InvalidRequest: the links go round in a circle.
    """
    done, todo, links = _ROOT, list(target.parts[1:]), 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            done = done.parent
            continue
        here = rootfs / done.relative_to(_ROOT) / part
        if not here.is_symlink():
            done /= part
            continue
        links += 1
        if links > _MOST_LINKS:
            raise InvalidRequest(f"symbolic links of the image go round at {target}")
        goal = PurePosixPath(os.readlink(here))  # noqa: PTH115 - the text as it stands
        done = _ROOT if goal.is_absolute() else done
        todo = [part for part in goal.parts if part != "/"] + todo
    return done


def inner_environment(spec: ContainerSpec) -> dict[str, str]:
    """Return the environment of the container's process: the spec's, and what each one has."""
    env = {"PATH": _PATH, "HOME": str(_home(spec)), **spec.env}
    if spec.hostname:
        env.setdefault("HOSTNAME", spec.hostname)
    if spec.mark:
        env[MARK] = spec.mark
    return env


def plan_layer(spec: ContainerSpec) -> RootView:
    """Plan the root of a container that may write everywhere: to a layer over the image.

    Raises: as `plan_view`.
    """
    view = _view(spec, layered=True)
    steps = tuple(_shown(mount) for mount in view.mounts)
    layer = (spec.scratch / "layer", spec.scratch / "layer-work")
    directories = (*layer, *view.directories)
    return replace(view, steps=steps, layer=layer, directories=directories)


def plan_view(spec: ContainerSpec) -> RootView:
    """Plan the root of a container whose image is read-only.

    Raises:
        NotFound: the image's root or a mount's source is not there.
        InvalidRequest: the image or the mounts cannot be laid out.
    """
    view = _view(spec)
    mounts, targets = view.mounts, [mount.target for mount in view.mounts]
    expanded = {_ROOT}
    for mount in mounts:
        expanded |= _to_expand(spec.rootfs, mount, targets)
    steps = list(_layout(spec.rootfs, _ROOT, expanded, frozenset(targets)))
    steps.append(Step("directory" if spec.read_only_root else "tmpfs", str(_MEMORY)))
    made = {_ROOT, _MEMORY, *targets}
    for mount in mounts:
        steps += _missing_parents(spec.rootfs, mount.target, made)
        steps.append(_shown(mount))
    if len(steps) > _MOST_STEPS:
        raise InvalidRequest("the mounts lie in directories of the image that hold too much")
    return replace(view, steps=tuple(steps))


def _view(spec: ContainerSpec, *, layered: bool = False) -> RootView:
    """Return a view without its steps."""
    if not spec.rootfs.is_dir():
        raise NotFound("the image is not unpacked")
    files = _generated(spec)
    mounts = _ordered(spec, files, layered=layered)
    inside = (mount.source for mount in mounts if mount.source.is_relative_to(spec.scratch))
    directories = tuple(path for path in inside if path not in files)
    return RootView((), tuple(mounts), directories, files)


def _shown(mount: Mount) -> Step:
    kind: Literal["read-only", "writable"] = "read-only" if mount.read_only else "writable"
    return Step(kind, str(mount.target), str(mount.source))


def _ordered(spec: ContainerSpec, files: dict[Path, str], *, layered: bool) -> list[Mount]:
    """Return all mounts with resolved targets; the spec's win over the usual ones."""
    wanted: dict[PurePosixPath, Mount] = {}
    for mount in (*_usual(spec, files, layered=layered), *spec.mounts):
        target = resolve(spec.rootfs, mount.target)
        if target == _ROOT or target in _KERNEL:
            raise InvalidRequest(f"nothing can be mounted at {mount.target}")
        wanted[target] = Mount(mount.source, target, mount.read_only)
    for mount in spec.mounts:
        later = any(sub.target == str(mount.source) for sub in spec.sub_paths)
        if not later and not mount.source.exists():
            raise NotFound(f"the source of the mount at {mount.target} is not there")
    return sorted(wanted.values(), key=lambda mount: len(mount.target.parts))


def _usual(spec: ContainerSpec, files: dict[Path, str], *, layered: bool) -> Iterator[Mount]:
    yield from () if spec.read_only_root else _writable(spec, layered=layered)
    for path in files:
        yield Mount(path, PurePosixPath("/etc", path.name))
    if spec.network == "host":
        for name in _RESOLVER:
            if Path(name).exists() and not (name == "/etc/hosts" and spec.aliases):
                yield Mount(Path(name).resolve(), PurePosixPath(name))


def _writable(spec: ContainerSpec, *, layered: bool) -> Iterator[Mount]:
    """Return the places to write that a container has anyway; a layer leaves few to be made."""
    yield Mount(spec.scratch / "tmp", PurePosixPath("/tmp"), read_only=False)  # noqa: S108 - inside
    yield Mount(spec.scratch / "var-tmp", PurePosixPath("/var/tmp"), read_only=False)  # noqa: S108 - inside
    home = _home(spec)
    bare = not _inside(spec.rootfs, home).is_dir() if layered else _is_bare(spec.rootfs, home)
    if home.parts[1:2] in {("root",), ("home",)} and bare:
        yield Mount(spec.scratch / "home", home, read_only=False)
    work = resolve(spec.rootfs, PurePosixPath(spec.cwd))
    given = [resolve(spec.rootfs, mount.target) for mount in spec.mounts]
    covered = any(work.is_relative_to(target) for target in (*given, home))
    if not covered and not _inside(spec.rootfs, work).is_dir():
        yield Mount(spec.scratch / "work", work, read_only=False)


def _generated(spec: ContainerSpec) -> dict[Path, str]:
    """Return the small files that make a strange user and a private network look usual."""
    files = {}
    if spec.network != "host":
        names = " ".join(filter(None, ("localhost", spec.hostname)))
        own = f"127.0.0.1 {names}\n::1 localhost\n"
        files[spec.scratch / "etc" / "hosts"] = own + _aliases(spec)
    elif spec.aliases:
        own = Path("/etc/hosts").read_text(encoding="utf-8", errors="replace")
        files[spec.scratch / "etc" / "hosts"] = own.rstrip("\n") + "\n" + _aliases(spec)
    if spec.network == "private":
        files[spec.scratch / "etc" / "resolv.conf"] = f"nameserver {RESOLVER}\n"
    lines = _passwd(spec.rootfs)
    if not any(_uid_of(line) == spec.uid for line in lines):
        user = "root" if spec.uid == 0 else "user"
        lines.append(f"{user}:x:{spec.uid}:{spec.gid}::/tmp:/bin/sh")
        files[spec.scratch / "etc" / "passwd"] = "\n".join(lines) + "\n"
    return files


def _aliases(spec: ContainerSpec) -> str:
    return "".join(f"{alias.address} {' '.join(alias.names)}\n" for alias in spec.aliases)


def _passwd(rootfs: Path) -> list[str]:
    path = _inside(rootfs, resolve(rootfs, PurePosixPath("/etc/passwd")))
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _uid_of(line: str) -> int | None:
    fields = line.split(":")
    return int(fields[2]) if len(fields) > 5 and fields[2].isdigit() else None


def _home(spec: ContainerSpec) -> PurePosixPath:
    for line in _passwd(spec.rootfs):
        if _uid_of(line) == spec.uid and line.split(":")[5].startswith("/"):
            return resolve(spec.rootfs, PurePosixPath(line.split(":")[5]))
    return PurePosixPath("/tmp")  # noqa: S108 - the container's own


def _is_bare(rootfs: Path, home: PurePosixPath) -> bool:
    """Tell whether a home holds nothing that a program could miss."""
    try:
        return all(name.startswith(".") for name in os.listdir(_inside(rootfs, home)))  # noqa: PTH208 - names only
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _inside(rootfs: Path, path: PurePosixPath) -> Path:
    return rootfs / path.relative_to(_ROOT)


def _to_expand(rootfs: Path, mount: Mount, targets: Iterable[PurePosixPath]) -> set[PurePosixPath]:
    """Return the directories to be rebuilt so that a missing mount point can be made in them."""
    parents = set(mount.target.parents)
    if any(other in parents for other in targets) or _MEMORY in parents:
        return set()  # it lies within another mount, where its point is made
    try:
        mode = _inside(rootfs, mount.target).lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        mode = 0
    source_is_directory = not mount.source.is_file()
    if mode and stat.S_ISDIR(mode) == source_is_directory:
        return set()
    return {path for path in parents if _inside(rootfs, path).is_dir()}


def _missing_parents(
    rootfs: Path, target: PurePosixPath, made: set[PurePosixPath]
) -> Iterator[Step]:
    """Make the directories above a target that the image lacks, for everybody to enter."""
    for parent in reversed(target.parents):
        if parent not in made and not _inside(rootfs, parent).is_dir():
            made.add(parent)
            yield Step("directory", str(parent))


def _layout(
    rootfs: Path,
    folder: PurePosixPath,
    expanded: set[PurePosixPath],
    skipped: frozenset[PurePosixPath],
) -> Iterator[Step]:
    with os.scandir(_inside(rootfs, folder)) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        path = folder / entry.name
        if path in _KERNEL or path == _MEMORY or path in skipped:
            continue
        if entry.is_symlink():
            goal = os.readlink(entry.path)  # noqa: PTH115 - the text as it stands
            yield Step("symlink", str(path), goal)
        elif path in expanded:
            yield Step("directory", str(path))
            yield from _layout(rootfs, path, expanded, skipped)
        else:
            yield Step("read-only", str(path), entry.path)
