"""Reads what ``/create`` brought into a `PodRequest`; pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import PurePosixPath
from typing import Any

from twinfra.compute.containers.images.names import credentials_of
from twinfra.compute.containers.model import HostAlias
from twinfra.compute.interlink.model.create import RetrievedContainer, RetrievedPodData
from twinfra.compute.interlink.model.pod import PodRef, containers_of, pod_ref, spec_of
from twinfra.compute.interlink.model.reading import (
    DNS_LABEL,
    Json,
    as_object,
    objects,
    strings,
    text,
)
from twinfra.compute.interlink.pods.environment import expand, read_env, words
from twinfra.compute.interlink.pods.probes import read_hook, read_probe
from twinfra.compute.interlink.pods.refused import check_container, check_spec, refuse
from twinfra.compute.interlink.pods.request import (
    DATA_ROOT,
    OUTPUT_ROOT,
    ContainerRequest,
    DataMount,
    PodRequest,
    Volume,
    VolumeMount,
)
from twinfra.compute.interlink.pods.resources import of_pod, read_resources
from twinfra.compute.interlink.pods.rules import Rules
from twinfra.compute.interlink.pods.volumes import read_volumes, safe_path
from twinfra.core.errors import InvalidRequest, TwinfraError
from twinfra.data.datasets.client import Did

RESTART_POLICIES = frozenset({"Always", "OnFailure", "Never"})
DEFAULT_GRACE_S = 30.0
HOST_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Defaults:
    """What a container is given that names nothing."""

    cpus: float = 1.0
    memory_bytes: int = 512 * 1024**2


def read_pod(
    data: RetrievedPodData, defaults: Defaults | None = None, rules: Rules | None = None
) -> PodRequest:
    """Return what a pod asks for, by the site's defaults and rules.

    Raises:
        InvalidRequest: a field is malformed; the text names it.
        SiteRejected: a field cannot be honoured here; the text names it.
    """
    ref = pod_ref(data.pod)
    if not ref.name:
        raise InvalidRequest("pod.metadata.name must be a pod's name")
    spec = spec_of(data.pod)
    check_spec(spec)
    inits, mains = containers_of(data.pod)
    rules = rules or Rules()
    security = as_object(spec.get("securityContext") or {}, "spec.securityContext")
    _check_groups(security, rules)
    reader = _Reader(ref, security, rules, {entry.name: entry for entry in data.containers})
    given = defaults or Defaults()
    init_requests = tuple(
        reader.container(entry, f"spec.initContainers[{index}]", given, init=True)
        for index, entry in enumerate(inits)
    )
    requests = tuple(
        reader.container(entry, f"spec.containers[{index}]", given)
        for index, entry in enumerate(mains)
    )
    volumes = read_volumes(data.pod, data.containers, rules)
    _check_mounts((*init_requests, *requests), volumes)
    inputs, outputs = _data(ref)
    inputs = (*inputs, *_claimed(volumes, (*init_requests, *requests), inputs))
    policy = text(spec.get("restartPolicy"), "spec.restartPolicy") or "Always"
    if policy not in RESTART_POLICIES:
        raise InvalidRequest("spec.restartPolicy must be Always, OnFailure or Never")
    cpus, memory_bytes, gpus = of_pod(init_requests, requests)
    return PodRequest(
        ref=ref,
        containers=requests,
        inits=init_requests,
        volumes=volumes,
        inputs=inputs,
        outputs=outputs,
        restart_policy=policy,
        active_deadline_s=_seconds(spec, "activeDeadlineSeconds", None),
        termination_grace_s=_seconds(spec, "terminationGracePeriodSeconds", DEFAULT_GRACE_S) or 0.0,
        hostname=_hostname(spec, ref),
        aliases=_aliases(spec),
        accounts={
            host: account
            for secret in data.pull_secrets
            for host, account in credentials_of(secret).items()
        },
        cpus=cpus,
        memory_bytes=memory_bytes,
        gpus=gpus,
    )


@dataclass(frozen=True)
class _Reader:
    """Reads the containers of one pod."""

    ref: PodRef
    security: Json
    rules: Rules
    given: Mapping[str, RetrievedContainer]

    def container(
        self, body: Json, where: str, defaults: Defaults, *, init: bool = False
    ) -> ContainerRequest:
        check_container(body, where)
        policy = text(body.get("restartPolicy"), f"{where}.restartPolicy")
        if policy and not (init and policy == "Always"):
            raise refuse(f"{where}.restartPolicy", "only an init container may have Always here")
        image = text(body.get("image"), f"{where}.image")
        if not image:
            raise InvalidRequest(f"{where}.image must name an image")
        name = body["name"]
        env = read_env(body, self.ref, where, self.given.get(name, RetrievedContainer(name)))
        cpus, memory_bytes, gpus, limits = read_resources(
            body, where, default_cpus=defaults.cpus, default_memory_bytes=defaults.memory_bytes
        )
        own = as_object(body.get("securityContext") or {}, where)
        security = {**self.security, **own}
        user_at, group_at = (
            f"{where if field in own else 'spec'}.securityContext.{field}"
            for field in ("runAsUser", "runAsGroup")
        )
        uid, gid = (
            _id(security.get("runAsUser"), user_at),
            _id(security.get("runAsGroup"), group_at),
        )
        self.rules.check_user(uid, user_at)
        self.rules.check_group(gid, group_at)
        return ContainerRequest(
            name=body["name"],
            image=image,
            command=words(body, "command", env, where),
            args=words(body, "args", env, where),
            env=env,
            cwd=_directory(body.get("workingDir"), f"{where}.workingDir"),
            mounts=_mounts(body, where, env),
            cpus=cpus,
            limits=limits,
            memory_bytes=memory_bytes,
            gpus=gpus,
            startup=read_probe(body, "startupProbe", where),
            readiness=read_probe(body, "readinessProbe", where),
            liveness=read_probe(body, "livenessProbe", where),
            post_start=read_hook(body, "postStart", where),
            pre_stop=read_hook(body, "preStop", where),
            sidecar=policy == "Always",
            stdin=bool(body.get("stdin")),
            stdin_once=bool(body.get("stdinOnce")),
            tty=bool(body.get("tty")),
            uid=uid,
            gid=gid,
            non_root=bool(security.get("runAsNonRoot")),
            read_only_root=bool(security.get("readOnlyRootFilesystem")),
            pull_policy=text(body.get("imagePullPolicy"), f"{where}.imagePullPolicy"),
        )


def _mounts(body: Json, where: str, env: Mapping[str, str]) -> tuple[VolumeMount, ...]:
    found = []
    for index, mount in enumerate(objects(body.get("volumeMounts"), f"{where}.volumeMounts")):
        field = f"{where}.volumeMounts[{index}]"
        for name in ("mountPropagation", "recursiveReadOnly"):
            if mount.get(name) not in (None, "", "None", "Disabled"):
                raise refuse(f"{field}.{name}", "cannot be honoured at this site")
        sub_path = _sub_path(mount, field, env)
        found.append(
            VolumeMount(
                volume=text(mount.get("name"), f"{field}.name"),
                target=_target(mount.get("mountPath"), f"{field}.mountPath"),
                read_only=bool(mount.get("readOnly")),
                sub_path=safe_path(sub_path, f"{field}.subPath") if sub_path else "",
            )
        )
    return tuple(found)


def _check_mounts(containers: tuple[ContainerRequest, ...], volumes: tuple[Volume, ...]) -> None:
    named = {volume.name: volume for volume in volumes}
    for container in containers:
        for mount in container.mounts:
            where = f"{container.name}.volumeMounts"
            if mount.volume not in named:
                raise InvalidRequest(f"{where}: there is no volume {mount.volume!r}")


def _sub_path(mount: Json, field: str, env: Mapping[str, str]) -> str:
    plain = text(mount.get("subPath"), f"{field}.subPath")
    expression = text(mount.get("subPathExpr"), f"{field}.subPathExpr")
    if plain and expression:
        raise InvalidRequest(f"{field}: subPath and subPathExpr exclude each other")
    found = expand(expression, env) if expression else plain
    if expression and "$(" in found:
        raise InvalidRequest(f"{field}.subPathExpr names a variable that there is not")
    return found


def _check_groups(security: Json, rules: Rules) -> None:
    where = "spec.securityContext"
    rules.check_group(_id(security.get("fsGroup"), f"{where}.fsGroup"), f"{where}.fsGroup")
    groups = security.get("supplementalGroups") or []
    if not isinstance(groups, list):
        raise InvalidRequest(f"{where}.supplementalGroups must be a list")
    for gid in groups:
        rules.check_group(_id(gid, f"{where}.supplementalGroups"), f"{where}.supplementalGroups")


def _aliases(spec: Json) -> tuple[HostAlias, ...]:
    found = []
    for index, entry in enumerate(objects(spec.get("hostAliases"), "spec.hostAliases")):
        where = f"spec.hostAliases[{index}]"
        try:
            address = ip_address(text(entry.get("ip"), f"{where}.ip"))
        except ValueError as error:
            raise InvalidRequest(f"{where}.ip must be an address") from error
        names = strings(entry.get("hostnames"), f"{where}.hostnames")
        if not all(HOST_NAME.fullmatch(name) for name in names):
            raise InvalidRequest(f"{where}.hostnames must be names of hosts")
        found.append(HostAlias(str(address), names))
    return tuple(found)


def _claimed(
    volumes: tuple[Volume, ...],
    containers: tuple[ContainerRequest, ...],
    inputs: tuple[DataMount, ...],
) -> tuple[DataMount, ...]:
    """Return the datasets that claims stand for, as inputs where the claims are mounted."""
    datasets = {v.name: v.claim.name for v in volumes if v.claim and not v.claim.root}
    taken = {mount.target for mount in inputs}
    found: dict[PurePosixPath, DataMount] = {}
    for container in containers:
        for mount in container.mounts:
            name = datasets.get(mount.volume)
            if name is None:
                continue
            where = f"{container.name}.volumeMounts"
            if mount.sub_path:
                raise refuse(f"{where}.subPath", "a dataset is seen whole")
            scope, _, dataset = name.partition(":")
            made = DataMount(scope, dataset, mount.target)
            if mount.target in taken or found.setdefault(mount.target, made) != made:
                raise InvalidRequest(f"{where}: two datasets are to be seen at {mount.target}")
    return tuple(found.values())


def _target(value: Any, where: str) -> PurePosixPath:
    path = PurePosixPath(text(value, where))
    if not path.is_absolute() or ".." in path.parts or path == PurePosixPath("/"):
        raise InvalidRequest(f"{where} must be an absolute path below /")
    return path


def _directory(value: Any, where: str) -> str:
    path = text(value, where)
    if path and not path.startswith("/"):
        raise InvalidRequest(f"{where} must be absolute")
    return path


def _data(ref: PodRef) -> tuple[tuple[DataMount, ...], tuple[DataMount, ...]]:
    """Return inputs and outputs; an output that is an input too is seen at /outputs only."""
    elsewhere = _places(ref.hint("mounts"))
    taken = set()
    inputs = []
    for did in _dids(ref, "inputs"):
        target = elsewhere.get(str(did), DATA_ROOT / did.scope / did.name)
        if target in taken:
            raise InvalidRequest(f"twinfra.io/inputs: two inputs are to be seen at {target}")
        taken.add(target)
        inputs.append(DataMount(did.scope, did.name, target))
    outputs = []
    for did in _dids(ref, "outputs"):
        also = DATA_ROOT / did.scope / did.name
        outputs.append(
            DataMount(
                did.scope,
                did.name,
                OUTPUT_ROOT / did.scope / did.name,
                also=None if also in taken else also,
            )
        )
    return tuple(inputs), tuple(outputs)


def _dids(ref: PodRef, hint: str) -> list[Did]:
    found: dict[Did, None] = {}
    for word in ref.hint(hint).split(","):
        if word.strip():
            try:
                found[Did.parse(word.strip())] = None
            except TwinfraError as error:
                raise InvalidRequest(f"twinfra.io/{hint}: {error.detail}") from error
    return list(found)


def _places(hint: str) -> dict[str, PurePosixPath]:
    """Read ``twinfra.io/mounts``: ``scope:name=/path``, separated by commas."""
    found = {}
    for word in hint.split(","):
        if word.strip():
            did, equals, path = word.strip().partition("=")
            if not equals:
                raise InvalidRequest(f"twinfra.io/mounts: {word.strip()!r} is not scope:name=/path")
            found[did.strip()] = _target(path.strip(), "twinfra.io/mounts")
    return found


def _hostname(spec: Json, ref: PodRef) -> str:
    name = text(spec.get("hostname"), "spec.hostname") or ref.name.split(".")[0][:63].strip("-")
    if not DNS_LABEL.fullmatch(name):
        raise InvalidRequest("spec.hostname must be a valid DNS label")
    return name


def _seconds(spec: Json, name: str, default: float | None) -> float | None:
    value = spec.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise InvalidRequest(f"spec.{name} must be a number of seconds, 0 or more")
    return float(value)


def _id(value: Any, where: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise InvalidRequest(f"{where} must be a user or group number")
    return value
