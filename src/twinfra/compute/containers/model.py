"""What a site asks of a container runtime: one container, its files and its place.

Pure: no I/O. The neighbour `keeper/model.py` holds what the keeper is then told.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from twinfra.compute.containers.keeper.model import SubPath
from twinfra.core.errors import InvalidRequest


@dataclass(frozen=True)
class Mount:
    """A host file or directory that the container sees at `target`."""

    source: Path
    target: PurePosixPath
    read_only: bool = True


@dataclass(frozen=True)
class HostAlias:
    """One line of the container's hosts file."""

    address: str
    names: tuple[str, ...]


@dataclass(frozen=True)
class ContainerSpec:
    """One container, whatever the runtime."""

    rootfs: Path
    """Unpacked image; never written to."""
    command: tuple[str, ...]
    scratch: Path
    """Host directory of this container and attempt; its writable /tmp and home live there."""
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    mounts: tuple[Mount, ...] = ()
    uid: int = 0
    """User id seen within; outside it is always the keeper's own user."""
    gid: int = 0
    mark: str = ""
    """`job_mark(uid, attempt)`, by which its processes are found again."""
    network: str = "none"
    """As in the pod's plan; `host` also shows the host's resolver files."""
    hostname: str = ""
    aliases: tuple[HostAlias, ...] = ()
    sub_paths: tuple[SubPath, ...] = ()
    """Parts of folders to be mounted; their targets are the sources of `mounts`."""
    read_only_root: bool = False
    """Its /tmp, /var/tmp, /run and home are the image's own, but where something is mounted."""


@dataclass(frozen=True)
class Isolation:
    """What a runtime can do on this machine for this user."""

    runtime: str
    available: bool
    isolated: bool
    """Own user, pid, mount and network namespaces are possible."""
    why_not: str = ""
    """Why `available` or `isolated` is false, in one sentence."""
    fix: str = ""
    """One command line for the administrator, if there is one."""


def check_spec(spec: ContainerSpec) -> None:
    """Refuse what no kernel can take as argv, environment or path.

    Raises:
        InvalidRequest: an empty command, a NUL character, a bad variable name or a relative target.
    """
    if not spec.command or not spec.command[0]:
        raise InvalidRequest("a container needs a command")
    texts = [*spec.command, spec.cwd, *spec.env, *spec.env.values()]
    texts += [str(mount.target) for mount in spec.mounts]
    if any("\0" in text for text in texts):
        raise InvalidRequest("NUL characters cannot be passed to a process")
    if any(not name or "=" in name for name in spec.env):
        raise InvalidRequest("an environment variable's name is empty or holds '='")
    targets = [mount.target for mount in spec.mounts]
    if any(not path.is_absolute() or ".." in path.parts for path in targets):
        raise InvalidRequest("a mount's target must be absolute and free of '..'")
    if not spec.cwd.startswith("/"):
        raise InvalidRequest("the working directory must be absolute")
