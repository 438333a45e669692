"""How much a container, and a pod, may use."""

from collections.abc import Iterable, Mapping
from typing import Any

from twinfra.compute.containers.keeper.model import Limits
from twinfra.compute.interlink.model.reading import Json, as_object
from twinfra.compute.interlink.pods.refused import refuse
from twinfra.compute.interlink.pods.request import ContainerRequest
from twinfra.core.errors import InvalidRequest
from twinfra.core.quantities import parse_bytes, parse_cpu

CPU, MEMORY = "cpu", "memory"


def read_resources(
    container: Json, where: str, *, default_cpus: float, default_memory_bytes: int
) -> tuple[float, int, Mapping[str, int], Limits]:
    """Return cores, memory and devices to be set aside for a container, and its hard limits.

    What is set aside is the request, else the limit, else the site's default.

    Raises:
        InvalidRequest: a quantity cannot be read.
        SiteRejected: a resource is asked for that no site of ours hands out.
    """
    resources = as_object(container.get("resources") or {}, f"{where}.resources")
    limits = as_object(resources.get("limits") or {}, f"{where}.resources.limits")
    requests = as_object(resources.get("requests") or {}, f"{where}.resources.requests")
    gpus: dict[str, int] = {}
    for group, name in ((limits, "limits"), (requests, "requests")):
        for kind in group:
            if "/" in kind:
                gpus[kind] = max(gpus.get(kind, 0), int(_read(group, kind, where, parse_cpu)))
            elif kind not in {CPU, MEMORY}:
                raise refuse(f"{where}.resources.{name}.{kind}", "is not handed out at this site")
    cpu_limit = _read(limits, CPU, where, parse_cpu) if CPU in limits else None
    memory_limit = int(_read(limits, MEMORY, where, parse_bytes)) if MEMORY in limits else None
    cpus = _read(requests, CPU, where, parse_cpu) if CPU in requests else cpu_limit
    memory = int(_read(requests, MEMORY, where, parse_bytes)) if MEMORY in requests else None
    if memory is None:
        memory = memory_limit
    return (
        default_cpus if cpus is None else cpus,
        default_memory_bytes if memory is None else memory,
        {kind: count for kind, count in gpus.items() if count},
        Limits(cpu=cpu_limit, memory_bytes=memory_limit),
    )


def of_pod(
    inits: Iterable[ContainerRequest], mains: Iterable[ContainerRequest]
) -> tuple[float, int, dict[str, int]]:
    """Return what the whole pod needs: its containers together, or its largest init container.

    Source: Kubernetes, "Init Containers", resource sharing within containers.
    """
    inits, mains = list(inits), list(mains)
    steady = [*mains, *(entry for entry in inits if entry.sidecar)]
    cpus = max([sum(entry.cpus for entry in steady), *(entry.cpus for entry in inits)])
    memory = max(
        [sum(entry.memory_bytes for entry in steady), *(entry.memory_bytes for entry in inits)]
    )
    gpus: dict[str, int] = {}
    for entry in steady:
        for kind, count in entry.gpus.items():
            gpus[kind] = gpus.get(kind, 0) + count
    for entry in inits:
        for kind, count in entry.gpus.items():
            gpus[kind] = max(gpus.get(kind, 0), count)
    return cpus, memory, gpus


def _read(group: Json, kind: str, where: str, parse: Any) -> float:
    try:
        return float(parse(group[kind]))
    except (ValueError, TypeError) as error:
        raise InvalidRequest(f"{where}.resources: {kind} {group[kind]!r} is no quantity") from error
