"""Makes the keeper's plan of one attempt at a pod from what was asked for and what the site has."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Literal

from twinfra.compute.containers.images.model import UnpackedImage
from twinfra.compute.containers.keeper.model import (
    ContainerPlan,
    FolderLimit,
    MemoryFolder,
    PodPlan,
    SubPath,
    job_mark,
)
from twinfra.compute.containers.model import ContainerSpec, Mount
from twinfra.compute.containers.ports import ContainerRuntime
from twinfra.compute.interlink.pods.places import Places
from twinfra.compute.interlink.pods.refused import refuse
from twinfra.compute.interlink.pods.request import (
    ContainerRequest,
    PodRequest,
    Volume,
    VolumeMount,
)
from twinfra.compute.sites.model import JobSpec

INPUTS, OUTPUTS = "TWINFRA_INPUTS", "TWINFRA_OUTPUTS"


@dataclass(frozen=True)
class Ground:
    """What a site runs containers on."""

    runtime: ContainerRuntime
    isolated: bool
    network: Literal["none", "private", "host"]
    wall_limit_s: float | None = None
    uplink: tuple[str, ...] = ()
    """For ``private``: what connects a pod's own network to the outside."""

    @property
    def effective_network(self) -> Literal["none", "private", "host"]:
        """What containers really reach: without isolation, all that the host does."""
        return self.network if self.isolated else "host"


def job_of(
    request: PodRequest, places: Places, images: Mapping[str, UnpackedImage], ground: Ground
) -> JobSpec:
    """Return the job of one attempt.

    Args:
        request: the pod.
        places: of the attempt; `places.lay` has been or will be called.
        images: unpacked, by the name that the pod calls them.
        ground: of the site.

    Raises:
        SiteRejected: an image cannot be run as the pod wants it.
        InvalidRequest: a container holds what no process can be given.
    """
    planner = _Planner(request, places, images, ground)
    plan = PodPlan(
        uid=request.ref.uid,
        attempt=places.attempt,
        name=request.ref.name,
        namespace=request.ref.namespace,
        hostname=request.hostname,
        containers=tuple(planner.container(entry) for entry in request.containers),
        init_containers=tuple(planner.container(entry) for entry in request.inits),
        isolated=ground.isolated,
        network=ground.effective_network,
        uplink=ground.uplink,
        restart_policy=request.restart_policy,
        active_deadline_s=_sooner(request.active_deadline_s, ground.wall_limit_s),
        termination_grace_s=request.termination_grace_s,
        memory_folders=tuple(
            MemoryFolder(str(places.volume(v)), v.limit_bytes or request.memory_bytes)
            for v in request.volumes
            if v.memory
        ),
        folder_limits=tuple(
            FolderLimit(v.name, str(places.volume(v)), v.limit_bytes)
            for v in request.volumes
            if v.scratch and not v.memory and v.limit_bytes is not None
        ),
    )
    return JobSpec(
        plan=plan,
        job_dir=places.job_dir,
        cpus=request.cpus,
        memory_bytes=request.memory_bytes,
        gpus=sum(request.gpus.values()),
        wall_limit_s=plan.active_deadline_s,
        native_options=dict(request.ref.annotations),
    )


@dataclass(frozen=True)
class _Planner:
    request: PodRequest
    places: Places
    images: Mapping[str, UnpackedImage]
    ground: Ground

    def container(self, asked: ContainerRequest) -> ContainerPlan:
        image = self.images[asked.image]
        command = image.command(asked.command, asked.args)
        if not command:
            raise refuse(f"{asked.name}.command", "the image names no command either")
        uid = image.uid if asked.uid is None else asked.uid
        if asked.non_root and uid == 0:
            raise refuse(f"{asked.name}.securityContext.runAsNonRoot", "the image's user is root")
        mounts, parts = self._mounts(asked)
        spec = ContainerSpec(
            rootfs=image.rootfs,
            command=command,
            scratch=self.places.scratch(asked.name),
            env={**_terminal(asked), **image.config.env, **asked.env, **self._own_env()},
            cwd=asked.cwd or image.config.workdir or "/",
            mounts=mounts,
            sub_paths=parts,
            aliases=self.request.aliases,
            read_only_root=asked.read_only_root,
            uid=uid,
            gid=image.gid if asked.gid is None else asked.gid,
            mark=job_mark(self.request.ref.uid, self.places.attempt),
            network=self.ground.effective_network,
            hostname=self.request.hostname,
        )
        return ContainerPlan(
            name=asked.name,
            launch=self.ground.runtime.launch(spec),
            image=asked.image,
            image_id=image.digest,
            limits=asked.limits,
            startup=asked.startup,
            readiness=asked.readiness,
            liveness=asked.liveness,
            post_start=asked.post_start,
            pre_stop=asked.pre_stop,
            stdin=asked.stdin,
            stdin_once=asked.stdin_once,
            tty=asked.tty,
            sidecar=asked.sidecar,
        )

    def _own_env(self) -> dict[str, str]:
        return {
            INPUTS: ",".join(str(mount.target) for mount in self.request.inputs),
            OUTPUTS: ",".join(str(mount.target) for mount in self.request.outputs),
        }

    def _mounts(self, asked: ContainerRequest) -> tuple[tuple[Mount, ...], tuple[SubPath, ...]]:
        """Return all mounts, outer ones first, and the parts of volumes that they show."""
        volumes = {volume.name: volume for volume in self.request.volumes}
        found: dict[PurePosixPath, Mount] = {}
        for given in self.request.inputs:
            found[given.target] = Mount(self.places.input(given), given.target)
        for output in self.request.outputs:
            for target in (output.target, output.also):
                if target is not None:
                    found[target] = Mount(self.places.output(output), target, read_only=False)
        parts = []
        for index, mount in enumerate(asked.mounts):
            volume = volumes[mount.volume]
            if volume.claim is not None and not volume.claim.root:
                continue  # a dataset: it is among the inputs
            source = self._source(volume, mount)
            if isinstance(source, SubPath):
                part = replace(source, target=str(self.places.part(asked.name, index)))
                parts.append(part)
                source = _placed(part)
            read_only = mount.read_only or not volume.writable
            found[mount.target] = Mount(source, mount.target, read_only=read_only)
        ordered = sorted(found, key=lambda path: path.parts)
        return tuple(found[target] for target in ordered), tuple(parts)

    def _source(self, volume: Volume, mount: VolumeMount) -> Path | SubPath:
        """Return what a mount shows: a path, or a part that the keeper looks up without links."""
        whole = self.places.volume(volume)
        root, inner = whole, Path(mount.sub_path)
        if volume.host is not None:
            root = Path(volume.host.root).resolve()
            inner = whole.resolve().relative_to(root) / mount.sub_path
        path = root / inner
        if inner == Path():
            return root
        if volume.given:
            return path.resolve()
        if self.ground.isolated:
            return SubPath(str(root), str(inner), "")
        if not path.resolve().is_relative_to(root.resolve()):
            raise refuse(f"{mount.volume}.subPath", "a link leads out of the volume")
        if volume.writable:
            path.mkdir(parents=True, exist_ok=True)
        return path


def _placed(part: SubPath) -> Path:
    """Make the place where a part will be shown, of its kind."""
    place, shown = Path(part.target), Path(part.root, part.path)
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if shown.is_file() and not shown.is_symlink():
        place.touch(mode=0o600)
    else:
        place.mkdir(exist_ok=True, mode=0o700)
    return place


def _terminal(asked: ContainerRequest) -> dict[str, str]:
    """Return what a program with a terminal looks for, as container engines set it."""
    return {"TERM": "xterm"} if asked.tty else {}


def _sooner(first: float | None, second: float | None) -> float | None:
    given = [value for value in (first, second) if value is not None]
    return min(given, default=None)
