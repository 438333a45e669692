"""Where the things of a pod stand in its job directory, and how its files get there.

The keeper has the rest of the directory (``compute/containers``). What an attempt may write is
its own: another attempt begins with empty folders.
"""

from dataclasses import dataclass
from pathlib import Path

from twinfra.compute.containers.keeper.places import remove
from twinfra.compute.interlink.pods.atomic import show
from twinfra.compute.interlink.pods.request import DataMount, HostPath, PodRequest, Volume
from twinfra.core.errors import SiteRejected, Unavailable


@dataclass(frozen=True)
class Places:
    """The folders of one attempt at a pod."""

    job_dir: Path
    attempt: int
    owner: str = ""
    """A folder's name for the claims of the pod's owner and namespace."""

    def volume(self, volume: Volume) -> Path:
        """Return the folder (or file) of a volume."""
        if volume.host is not None:
            return Path(volume.host.path)
        if volume.claim is not None:
            return Path(volume.claim.root, self.owner, volume.claim.name)
        kind = f"scratch-volumes/{self.attempt}" if volume.scratch else "volumes"
        return self.job_dir / "pod" / kind / volume.name

    def scratch(self, container: str) -> Path:
        """Return the folder for a container's own ``/tmp`` and home."""
        return self.job_dir / "pod" / "scratch" / str(self.attempt) / container

    def part(self, container: str, index: int) -> Path:
        """Return where a part of a volume is shown before a container mounts it."""
        return self.job_dir / "pod" / "parts" / str(self.attempt) / container / str(index)

    def input(self, mount: DataMount) -> Path:
        """Return the folder that an input's files are linked into; shared by all attempts."""
        return self.job_dir / "data" / mount.scope / mount.name

    def output(self, mount: DataMount) -> Path:
        """Return the folder that an output is written to."""
        return self.job_dir / "outputs" / str(self.attempt) / mount.scope / mount.name


def lay(request: PodRequest, places: Places) -> None:
    """Make the folders of an attempt and write the files of its volumes; doing it again is fine."""
    _folder(places.job_dir)
    for volume in request.volumes:
        if volume.host is not None:
            _check_host(volume.host)
        elif volume.claim is None or volume.claim.root:
            root = _folder(places.volume(volume))
            if volume.given:
                show(root, volume.files)
    for container in (*request.inits, *request.containers):
        _folder(places.scratch(container.name))
    for mount in request.inputs:
        _folder(places.input(mount))
    for mount in request.outputs:
        _folder(places.output(mount))


def renew(request: PodRequest, places: Places) -> list[str]:
    """Show the present files of a pod's volumes where they differ; return which volumes did."""
    given = [volume for volume in request.volumes if volume.given]
    laid = [volume for volume in given if places.volume(volume).is_dir()]
    return [volume.name for volume in laid if show(places.volume(volume), volume.files)]


def clear(job_dir: Path) -> None:
    """Remove a pod's folder with all that is in it, whatever its modes; none is fine."""
    remove(str(job_dir))


def _check_host(host: HostPath) -> None:
    """See that a path of the site is there and stays within what the site gives out.

    Raises:
        SiteRejected: a link leads out of it.
        Unavailable: it is not there, or of another kind (retryable: it may come).
    """
    path = Path(host.path)
    if not path.resolve().is_relative_to(Path(host.root).resolve()):
        raise SiteRejected(f"hostPath.path: {host.path} leads out of {host.root}")
    if host.writable and host.kind == "DirectoryOrCreate":
        path.mkdir(parents=True, exist_ok=True)
    if host.writable and host.kind == "FileOrCreate" and not path.exists():
        path.touch()
    if host.kind.startswith("Directory"):
        fits = path.is_dir()
    else:
        fits = path.is_file() if host.kind else path.exists()
    if not fits:
        raise Unavailable(f"hostPath.path: there is no {host.kind or 'file or folder'} {host.path}")


def _folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path
