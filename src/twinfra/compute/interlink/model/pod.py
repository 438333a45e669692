"""Who a pod is: the few fields of a ``v1.Pod`` that both hops need; the rest passes unread."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twinfra.compute.interlink.model.reading import DNS_LABEL, UID, Json, as_object, objects, text
from twinfra.core.errors import InvalidRequest

LIVE_PHASES = frozenset({"Running", "Pending"})
ANNOTATION = "twinfra.io/"


@dataclass(frozen=True)
class PodRef:
    """A pod's identity, its phase as the caller knows it, and its annotations."""

    uid: str
    name: str
    namespace: str
    phase: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)

    def hint(self, name: str) -> str:
        """Return the annotation ``twinfra.io/<name>``, or nothing."""
        return self.annotations.get(ANNOTATION + name, "").strip()


def pod_ref(pod: Any, *, where: str = "pod") -> PodRef:
    """Read the identity of a ``v1.Pod``.

    Raises:
        InvalidRequest: a field has the wrong type, or the name, namespace or UID is none.
    """
    body = as_object(pod, where)
    metadata = as_object(body.get("metadata"), f"{where}.metadata")
    status = as_object(body.get("status") or {}, f"{where}.status")
    annotations = as_object(metadata.get("annotations") or {}, f"{where}.metadata.annotations")
    ref = PodRef(
        uid=text(metadata.get("uid"), f"{where}.metadata.uid"),
        name=text(metadata.get("name"), f"{where}.metadata.name"),
        namespace=text(metadata.get("namespace"), f"{where}.metadata.namespace") or "default",
        phase=text(status.get("phase"), f"{where}.status.phase"),
        annotations={
            key: text(value, f"{where}.metadata.annotations[{key}]")
            for key, value in annotations.items()
        },
    )
    if not UID.fullmatch(ref.uid):
        raise InvalidRequest("invalid pod UID: must be a valid UUID")
    if not DNS_LABEL.fullmatch(ref.namespace):
        raise InvalidRequest("invalid namespace: must be a valid DNS label")
    if "/" in ref.name or not ref.name.isprintable() or len(ref.name) > 253:
        raise InvalidRequest(f"{where}.metadata.name must be a pod's name")
    return ref


def pod_refs(value: Any) -> tuple[PodRef, ...]:
    """Read the body of ``/status``: a list of pods, ``null`` is none.

    Raises:
        InvalidRequest: it is no list of pods.
    """
    return tuple(
        pod_ref(pod, where=f"pods[{index}]") for index, pod in enumerate(objects(value, "pods"))
    )


def spec_of(pod: Json) -> Json:
    """Return the ``spec`` of a pod.

    Raises:
        InvalidRequest: there is none, or it is no object.
    """
    return as_object(pod.get("spec"), "pod.spec")


def containers_of(pod: Json) -> tuple[tuple[Json, ...], tuple[Json, ...]]:
    """Return the init containers and the containers of a pod, each checked to have a proper name.

    Raises:
        InvalidRequest: a list or a name is wrong, a name stands twice, or there is no container.
    """
    spec = spec_of(pod)
    inits = objects(spec.get("initContainers"), "spec.initContainers")
    mains = objects(spec.get("containers"), "spec.containers")
    if not mains:
        raise InvalidRequest("spec.containers must name at least one container")
    seen: set[str] = set()
    for where, group in (("spec.initContainers", inits), ("spec.containers", mains)):
        for index, container in enumerate(group):
            name = text(container.get("name"), f"{where}[{index}].name")
            if not DNS_LABEL.fullmatch(name) or len(name) > 63:
                raise InvalidRequest(f"{where}[{index}].name must be a valid DNS label")
            if name in seen:
                raise InvalidRequest(f"{where}[{index}].name {name} stands twice")
            seen.add(name)
    return inits, mains
