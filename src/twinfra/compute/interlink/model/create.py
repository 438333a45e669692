"""The bodies of ``/create`` on both hops, and the step from the first to the second."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from twinfra.compute.interlink.model.files import FilesRequest
from twinfra.compute.interlink.model.pod import containers_of, spec_of
from twinfra.compute.interlink.model.reading import (
    Json,
    as_object,
    fault_of,
    first,
    objects,
    text,
)
from twinfra.core.errors import InvalidRequest

POD_TOKEN_HEADER = "Twinfra-Pod-Token"  # noqa: S105 - a header's name
"""Ours beside the published body: proves whose the pod is, where that is not the caller."""

# The singular-s and double-s spellings are both published: one a hop.
_PROJECTED_IN = ("projectedvolumesmaps", "projectedvolumemaps", "projectedVolumesMaps")
_PROJECTED_OUT = ("projectedvolumemaps", "projectedvolumesmaps", "projectedVolumeMaps")

NO_JOB_CONFIG: Json = {
    "SingularityHubProxy": {"server": "", "master_token": "", "cache_validity_seconds": 0},
    "ApptainerOptions": {
        "executable": "",
        "fakeroot": False,
        "containall": False,
        "fuseMode": "",
        "noInit": False,
        "noHome": False,
        "noPrivs": False,
        "nvidiaSupport": False,
        "cleanenv": False,
        "unsquash": False,
    },
    "Volumes": {
        "scratch_area": "",
        "apptainer_cachedir": "",
        "image_dir": "",
        "additional_directories_in_path": None,
        "fuse_sleep_seconds": 0,
    },
}


@dataclass(frozen=True)
class PodCreateRequest:
    """What the virtual kubelet posts: the pod and the objects that its volumes name."""

    pod: Json
    config_maps: tuple[Json, ...] = ()
    secrets: tuple[Json, ...] = ()
    projected_maps: tuple[Json, ...] = ()
    jobscript_url: str = ""

    @classmethod
    def from_wire(cls, value: Any) -> "PodCreateRequest":
        """Read the body of ``/create`` as the API server gets it; a list of one is taken too.

        Raises:
            InvalidRequest: a field is missing or of the wrong type; the text names it.
        """
        body = as_object(_only(value), "body")
        return cls(
            pod=as_object(body.get("pod"), "pod"),
            config_maps=objects(body.get("configmaps"), "configmaps"),
            secrets=objects(body.get("secrets"), "secrets"),
            projected_maps=objects(first(body, _PROJECTED_IN), "projectedvolumesmaps"),
            jobscript_url=text(body.get("jobscriptURL"), "jobscriptURL"),
        )

    def to_wire(self) -> Json:
        """Return the JSON object of the published structure."""
        return {
            "pod": self.pod,
            "configmaps": list(self.config_maps) or None,
            "secrets": list(self.secrets) or None,
            "projectedvolumesmaps": list(self.projected_maps) or None,
            "jobscriptURL": self.jobscript_url,
        }


@dataclass(frozen=True)
class RetrievedContainer:
    """The objects that one container really mounts."""

    name: str
    config_maps: tuple[Json, ...] = ()
    projected_maps: tuple[Json, ...] = ()
    secrets: tuple[Json, ...] = ()

    @classmethod
    def from_wire(cls, value: Json) -> "RetrievedContainer":
        """Read one entry of ``container``.

        Raises:
            InvalidRequest: a field has the wrong type; the text names it.
        """
        return cls(
            name=text(value.get("name"), "container.name"),
            config_maps=objects(first(value, ("configMaps", "configmaps")), "configMaps"),
            projected_maps=objects(first(value, _PROJECTED_OUT), "projectedvolumemaps"),
            secrets=objects(value.get("secrets"), "secrets"),
        )

    def to_wire(self) -> Json:
        """Return the JSON object of the published structure."""
        return {
            "name": self.name,
            "configMaps": list(self.config_maps) or None,
            "projectedvolumemaps": list(self.projected_maps) or None,
            "secrets": list(self.secrets) or None,
            "emptyDirs": None,
        }


@dataclass(frozen=True)
class RetrievedPodData:
    """What the API server posts to the plug-in."""

    pod: Json
    containers: tuple[RetrievedContainer, ...] = ()
    job_script: str = ""
    pull_secrets: tuple[Json, ...] = ()
    """Accounts at registries; ours, in a field that others ignore."""

    @classmethod
    def from_wire(cls, value: Any) -> "RetrievedPodData":
        """Read the body of the plug-in's ``/create``: an object, or (before 0.5) a list of one.

        Raises:
            InvalidRequest: a field is missing or of the wrong type; the text names it.
        """
        body = as_object(_only(value), "body")
        entries = objects(first(body, ("container", "containers")), "container")
        return cls(
            pod=as_object(body.get("pod"), "pod"),
            containers=tuple(RetrievedContainer.from_wire(entry) for entry in entries),
            job_script=text(body.get("jobScript"), "jobScript"),
            pull_secrets=objects(body.get("imagePullSecrets"), "imagePullSecrets"),
        )

    def to_wire(self) -> Json:
        """Return the published structure; ``jobScript`` only where there is one."""
        body: Json = {
            "pod": self.pod,
            "container": [entry.to_wire() for entry in self.containers],
            "jobConfig": NO_JOB_CONFIG,
        }
        if self.job_script:
            body["jobScript"] = self.job_script
        if self.pull_secrets:
            body["imagePullSecrets"] = list(self.pull_secrets)
        return body


@dataclass(frozen=True)
class CreateAnswer:
    """What ``/create`` answers: the pod's UID and the native id of its job."""

    uid: str
    native_id: str

    @classmethod
    def from_wire(cls, value: Any) -> "CreateAnswer":
        """Read the answer of a plug-in; lists of one are seen in the field.

        Raises:
            InvalidRequest: it is no such answer.
        """
        body = as_object(_only(value), "answer")
        if fault := fault_of(body):
            raise InvalidRequest(f"error: {fault}")
        answer = cls(text(body.get("PodUID"), "PodUID"), text(body.get("PodJID"), "PodJID"))
        if not (answer.uid or answer.native_id):
            raise InvalidRequest("it names neither PodUID nor PodJID")
        return answer

    def to_wire(self) -> Json:
        """Return the JSON object of the published structure."""
        return {"PodUID": self.uid, "PodJID": self.native_id}


def retrieve(request: PodCreateRequest) -> RetrievedPodData:
    """Sort the objects of a request by the container that mounts them, init containers first.

    Raises:
        InvalidRequest: the pod's containers or volumes are wrong; the text names the field.
    """
    inits, mains = containers_of(request.pod)
    volumes = {
        text(volume.get("name"), f"spec.volumes[{index}].name"): volume
        for index, volume in enumerate(objects(spec_of(request.pod).get("volumes"), "spec.volumes"))
    }
    return RetrievedPodData(
        pod=request.pod,
        containers=tuple(
            _mounted_by(container, volumes, request) for container in (*inits, *mains)
        ),
        pull_secrets=_with_name(request.secrets, _pull_secrets(request.pod)),
    )


def _pull_secrets(pod: Json) -> set[str]:
    entries = objects(spec_of(pod).get("imagePullSecrets"), "spec.imagePullSecrets")
    return {text(entry.get("name"), "spec.imagePullSecrets.name") for entry in entries}


def renewed(data: RetrievedPodData, new: FilesRequest) -> RetrievedPodData:
    """Return a pod's data with the objects of `new` in the place of those of the same name.

    Raises:
        InvalidRequest: an object has no proper name.
    """
    entries = data.containers
    request = PodCreateRequest(
        pod=data.pod,
        config_maps=_overlaid((entry.config_maps for entry in entries), new.config_maps),
        secrets=_overlaid((entry.secrets for entry in entries), new.secrets),
        projected_maps=_overlaid((entry.projected_maps for entry in entries), new.projected_maps),
    )
    made = retrieve(request)
    return replace(made, job_script=data.job_script, pull_secrets=data.pull_secrets)


def _overlaid(old: Iterable[tuple[Json, ...]], new: tuple[Json, ...]) -> tuple[Json, ...]:
    found = {object_name(entry): entry for group in old for entry in group}
    return tuple({**found, **{object_name(entry): entry for entry in new}}.values())


def _mounted_by(
    container: Json, volumes: dict[str, Json], request: PodCreateRequest
) -> RetrievedContainer:
    name = container["name"]
    mounts = objects(container.get("volumeMounts"), f"{name}.volumeMounts")
    names = [text(mount.get("name"), f"{name}.volumeMounts.name") for mount in mounts]
    mounted = [(volume, volumes[volume]) for volume in dict.fromkeys(names) if volume in volumes]
    maps = {_named(v, "configMap", "name") for _, v in mounted} | _in_env(container, "configMap")
    secrets = {_named(v, "secret", "secretName") for _, v in mounted} | _in_env(container, "secret")
    projected = {volume for volume, v in mounted if "projected" in v or "downwardAPI" in v}
    return RetrievedContainer(
        name=name,
        config_maps=_with_name(request.config_maps, maps),
        projected_maps=_with_name(request.projected_maps, projected),
        secrets=_with_name(request.secrets, secrets),
    )


def _in_env(container: Json, kind: str) -> set[str]:
    """Return the objects that variables come from; most kubelets have resolved those already."""
    entries = objects(container.get("envFrom"), "envFrom")
    sources = [entry.get(f"{kind}Ref") for entry in entries]
    values = [entry.get("valueFrom") for entry in objects(container.get("env"), "env")]
    sources += [value.get(f"{kind}KeyRef") for value in values if isinstance(value, dict)]
    return {text(s.get("name"), f"{kind}.name") for s in sources if isinstance(s, dict)}


def _named(volume: Json, kind: str, key: str) -> str:
    source = as_object(volume.get(kind) or {}, f"volume.{kind}")
    return text(source.get(key), f"volume.{kind}.{key}")


def object_name(entry: Json) -> str:
    """Return ``metadata.name`` of a ConfigMap, Secret or projected map.

    Raises:
        InvalidRequest: the metadata or the name has the wrong type.
    """
    metadata = as_object(entry.get("metadata") or {}, "metadata")
    return text(metadata.get("name"), "metadata.name")


def _with_name(entries: tuple[Json, ...], names: set[str]) -> tuple[Json, ...]:
    return tuple(entry for entry in entries if (object_name(entry) in names - {""}))


def _only(value: Any) -> Any:
    """Return the one entry of a list, or what is no list as it is."""
    if isinstance(value, list):
        if len(value) != 1:
            raise InvalidRequest("a list must hold exactly one entry")
        return value[0]
    return value
