"""Containers by PRoot: an image's root by tracing system calls, where namespaces are denied.

It does not isolate: same user, same processes, same network. A site that has only this does not
advertise `isolated`. The image is protected by its file modes alone. Source: proot(1).
"""

import os
import shutil
import subprocess
from pathlib import Path, PurePosixPath

from twinfra.compute.containers.keeper.model import Launch
from twinfra.compute.containers.model import ContainerSpec, Isolation, check_spec
from twinfra.compute.containers.rootfs import RootView, Step, inner_environment, plan_view, resolve
from twinfra.core.errors import InvalidRequest, NotFound, shorten

_HOST_FOLDERS = ("/proc", "/dev", "/sys")
_LOADER_PREFIXES = ("LD_", "PROOT_", "GLIBC_", "MALLOC_", "GCONV_", "LOCPATH", "NLSPATH")
_EXIT_NOTE = (
    r"pid (?P<pid>\d+): "
    r"(?:exited with status (?P<status>\d+)|terminated with signal (?P<signal>\d+))"
)
_PROBE_S = 20.0


class ProotRuntime:
    """Runs containers by `proot`."""

    name = "proot"

    def __init__(self, binary: Path | None = None) -> None:
        found = shutil.which("proot")
        self._binary = binary or (Path(found) if found else None)

    def probe(self) -> Isolation:
        """Start a program over the host's own root."""
        if self._binary is None:
            fix = "sudo apt-get install proot"
            return Isolation(self.name, False, False, "proot is not installed", fix)
        try:
            done = subprocess.run(
                [self._binary, "-r", "/", "/bin/true"],
                check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_S,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            return Isolation(self.name, False, False, shorten(f"the trial failed: {error}"))
        complaint = shorten(done.stderr.decode(errors="replace"))
        if done.returncode != 0:
            return Isolation(self.name, False, False, f"tracing is denied here: {complaint}")
        return Isolation(self.name, True, False, "proot shares processes and network with the host")

    def launch(self, spec: ContainerSpec) -> Launch:
        """Return the launch of a container that shares everything but its root with the host."""
        check_spec(spec)
        if self._binary is None:
            raise NotFound("proot is not installed")
        view = plan_view(spec)
        # Verbose, since its exit code is that of whichever process ended last: it tells each one's.
        # A root of our own, not the image itself: proot makes mount points where it may write.
        root = spec.scratch / "root"
        prefix = [str(self._binary), "-v", "1", "-r", str(root)]
        if spec.uid != os.geteuid():
            prefix += ["-i", f"{spec.uid}:{spec.gid}"]
        for folder in _HOST_FOLDERS:
            prefix += ["-b", folder]
        for step in view.steps:
            if step.kind in {"read-only", "writable"}:
                prefix += ["-b", _binding(step)]
        prefix += ["-w", spec.cwd]
        env = inner_environment(spec)
        outer = {name: value for name, value in env.items() if not _steers_loader(name)}
        inner = [f"{name}={value}" for name, value in env.items() if _steers_loader(name)]
        if inner:
            # PRoot is started with the container's environment; what steers a program loader must
            # reach the container only.
            prefix += [_env_program(spec.rootfs), *inner]
        return Launch(
            prefix=tuple(prefix),
            command=spec.command,
            env=outer,
            inner_env=env,
            cwd=spec.cwd,
            directories=(str(root), *_made(root, view), *map(str, view.directories)),
            links={
                _below(root, step.target): step.source
                for step in view.steps
                if step.kind == "symlink"
            },
            files={str(path): text for path, text in view.files.items()},
            enter="launch",
            depth=1,
            failure_prefix="proot error: ",
            preamble="proot info: verbose level = 1\n",
            noise=r"proot info: [^\n]*\n",
            noise_head="proot info: ",
            exit_note=_EXIT_NOTE,
            traced=True,
        )


def _made(root: Path, view: RootView) -> tuple[str, ...]:
    """Return the directories of the view's own root."""
    kinds = {"directory", "tmpfs"}
    return tuple(_below(root, step.target) for step in view.steps if step.kind in kinds)


def _below(root: Path, target: str) -> str:
    return str(root / target.lstrip("/"))


def _binding(step: Step) -> str:
    if any(":" in text or text.endswith("!") for text in (step.source, step.target)):
        raise InvalidRequest("proot cannot mount paths with ':' or a final '!'")
    return f"{step.source}:{step.target}"


def _steers_loader(name: str) -> bool:
    return name.startswith(_LOADER_PREFIXES)


def _env_program(rootfs: Path) -> str:
    for name in ("/usr/bin/env", "/bin/env"):
        path = resolve(rootfs, PurePosixPath(name))
        if (rootfs / path.relative_to("/")).is_file():
            return name
    raise InvalidRequest("the image has no `env`, which LD_ variables need under proot")
