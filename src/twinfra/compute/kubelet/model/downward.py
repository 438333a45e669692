"""The downward API: a pod's own fields and limits, as text for variables and files; pure.

Source: Kubernetes documentation, "Downward API"; API reference, ObjectFieldSelector and
ResourceFieldSelector.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from twinfra.core.errors import InvalidRequest
from twinfra.core.quantities import parse_bytes, parse_cpu

Json = dict[str, Any]
_KEYED = re.compile(r"metadata\.(labels|annotations)\['(.+)'\]")


@dataclass(frozen=True)
class Host:
    """What the node adds to a pod's own fields.

    Attributes:
        node: its name.
        address: of it, and of its pods.
        allocatable: what a container without a limit may take: ``cpu``, ``memory``, ….
    """

    node: str
    address: str
    allocatable: Mapping[str, str] = field(default_factory=dict)


def field_of(pod: Json, path: str, host: Host) -> str:
    """Return a field of a pod as text.

    Raises:
        InvalidRequest: the downward API has no such field.
    """
    metadata: Json = pod.get("metadata") or {}
    spec: Json = pod.get("spec") or {}
    fixed = {
        "metadata.name": metadata.get("name"),
        "metadata.namespace": metadata.get("namespace"),
        "metadata.uid": metadata.get("uid"),
        "spec.nodeName": host.node,
        "spec.serviceAccountName": spec.get("serviceAccountName"),
        "status.hostIP": host.address,
        "status.hostIPs": host.address,
        "status.podIP": host.address,
        "status.podIPs": host.address,
    }
    if path in fixed:
        return str(fixed[path] or "")
    if keyed := _KEYED.fullmatch(path):
        return str((metadata.get(keyed[1]) or {}).get(keyed[2], ""))
    if path in {"metadata.labels", "metadata.annotations"}:
        entries = metadata.get(path.removeprefix("metadata.")) or {}
        return "\n".join(f'{key}="{_escape(entries[key])}"' for key in sorted(entries))
    raise InvalidRequest(f"the downward API has no field {path}")


def resource_of(pod: Json, selector: Json, container: Json | None, host: Host) -> str:
    """Return a limit or request of a container as a whole number of divisors, rounded up.

    Raises:
        InvalidRequest: it names no container of the pod, no resource, or no divisor.
    """
    resource = str(selector.get("resource") or "")
    named = selector.get("containerName")
    spec: Json = pod.get("spec") or {}
    every = [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]
    chosen = next((entry for entry in every if entry.get("name") == named), container)
    if chosen is None:
        raise InvalidRequest(f"resourceFieldRef names no container of the pod: {named}")
    kind, _, name = resource.partition(".")
    if kind not in {"limits", "requests"} or not name:
        raise InvalidRequest(f"resourceFieldRef: {resource!r} is no resource")
    resources: Json = chosen.get("resources") or {}
    amount = (resources.get(kind) or {}).get(name)
    if amount is None and kind == "limits":
        amount = host.allocatable.get(name)
    if amount is None:
        amount = (resources.get("limits") or {}).get(name, "0") if kind == "requests" else "0"
    parse = parse_cpu if name == "cpu" else parse_bytes
    try:
        value = Decimal(str(parse(amount)))
        divisor = Decimal(str(parse(selector.get("divisor") or "1"))) or Decimal(1)
    except ValueError as error:
        raise InvalidRequest(f"resourceFieldRef {resource}: {error}") from error
    return str(math.ceil(value / divisor))


def _escape(text: str) -> str:
    """Escape as Go's ``%q`` does where it matters: quotes, backslashes, line ends."""
    out = text.replace("\\", "\\\\").replace('"', '\\"')
    return out.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")
