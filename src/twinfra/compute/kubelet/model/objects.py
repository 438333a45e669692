"""ConfigMaps, Secrets and claims that a pod names, and what of them was found; pure."""

import base64
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from twinfra.core.errors import TwinfraError

Json = dict[str, Any]


class ObjectKind(StrEnum):
    """The kinds of objects that hold a pod's configuration and its data."""

    CONFIG_MAP = "configmap"
    SECRET = "secret"  # noqa: S105 - a kind, no secret
    CLAIM = "persistentvolumeclaim"


@dataclass(frozen=True, order=True)
class Wanted:
    """An object that a pod names; without an `optional` one, it starts all the same."""

    kind: ObjectKind
    name: str


@dataclass(frozen=True)
class Service:
    """A service whose address containers are told."""

    name: str
    address: str
    ports: tuple[tuple[str, int, str], ...] = ()
    """Name (may be empty), number, protocol."""


@dataclass(frozen=True)
class Found:
    """What was found in a pod's namespace."""

    objects: Mapping[Wanted, Json] = field(default_factory=dict)
    services: tuple[Service, ...] = ()

    def get(self, kind: ObjectKind, name: str) -> Json | None:
        """Return an object, or none."""
        return self.objects.get(Wanted(kind, name))


class NotYet(TwinfraError):
    """Something that the pod needs is not there yet; the detail names it.

    Attributes:
        volume: it is needed by a volume, else by a variable.
    """

    code, title, status, retryable = "waits-for-object", "Something is missing", 409, True

    def __init__(self, detail: str, *, volume: bool) -> None:
        super().__init__(detail)
        self.volume = volume


def values_of(kind: ObjectKind, body: Json) -> dict[str, bytes]:
    """Return all values of an object as bytes."""
    data: Json = body.get("data") or {}
    if kind is ObjectKind.SECRET:
        return {key: base64.b64decode(value or "") for key, value in data.items()}
    found = {key: str(value).encode() for key, value in data.items()}
    binary: Json = body.get("binaryData") or {}
    return found | {key: base64.b64decode(value or "") for key, value in binary.items()}


def wanted_by(pod: Json) -> tuple[AbstractSet[Wanted], AbstractSet[Wanted]]:
    """Return the objects that a pod cannot start without, and those that are optional."""
    needed: set[Wanted] = set()
    optional: set[Wanted] = set()

    def add(kind: ObjectKind, source: Json, name: str) -> None:
        if name:
            (optional if source.get("optional") else needed).add(Wanted(kind, name))

    spec: Json = pod.get("spec") or {}
    for volume in spec.get("volumes") or ():
        _add_volume(volume, add)
    for container in (*(spec.get("initContainers") or ()), *(spec.get("containers") or ())):
        _add_variables(container, add)
    for entry in spec.get("imagePullSecrets") or ():
        optional.add(Wanted(ObjectKind.SECRET, entry.get("name") or ""))
    return needed, (optional - needed) - {Wanted(ObjectKind.SECRET, "")}


def _add_volume(volume: Json, add: Any) -> None:
    if source := volume.get("configMap"):
        add(ObjectKind.CONFIG_MAP, source, source.get("name") or "")
    if source := volume.get("secret"):
        add(ObjectKind.SECRET, source, source.get("secretName") or "")
    if source := volume.get("persistentVolumeClaim"):
        add(ObjectKind.CLAIM, {}, source.get("claimName") or "")
    for source in (volume.get("projected") or {}).get("sources") or ():
        for key, kind in (("configMap", ObjectKind.CONFIG_MAP), ("secret", ObjectKind.SECRET)):
            if inner := source.get(key):
                add(kind, inner, inner.get("name") or "")


def _add_variables(container: Json, add: Any) -> None:
    for entry in container.get("env") or ():
        source = entry.get("valueFrom") or {}
        for key, kind in (
            ("configMapKeyRef", ObjectKind.CONFIG_MAP),
            ("secretKeyRef", ObjectKind.SECRET),
        ):
            if inner := source.get(key):
                add(kind, inner, inner.get("name") or "")
    for entry in container.get("envFrom") or ():
        for key, kind in (
            ("configMapRef", ObjectKind.CONFIG_MAP),
            ("secretRef", ObjectKind.SECRET),
        ):
            if inner := entry.get(key):
                add(kind, inner, inner.get("name") or "")
