"""Which virtual nodes a pod may go to, why not the others, and which is best; pure.

What Kubernetes' scheduler would refuse is refused here too, with a sentence each, for a pod whose
gate is lifted goes to the chosen node or nowhere.

Source: Kubernetes documentation, "Assigning Pods to Nodes", "Taints and Tolerations", "Resource
Management for Pods"; x86-64 psABI §3.1.1.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twinfra.compute.kubelet.placement.names import (
    ARCHITECTURES,
    CPU_LEVEL,
    DRAIN,
    SITE,
    TYPE_LABEL,
)
from twinfra.compute.kubelet.placement.objects import GatedPod, SeenNode
from twinfra.core.quantities import parse_bytes, parse_cpu

Json = dict[str, Any]
ARCH_LABEL, OS_LABEL = "kubernetes.io/arch", "kubernetes.io/os"
_LEVEL = re.compile(r"(?:x86-64-)?v([1-9])")
_NO_DEVICES = frozenset({"cpu", "memory", "ephemeral-storage", "pods"})


@dataclass(frozen=True)
class Platform:
    """What an image is made for, as OCI spells it; `variant` is empty or such as ``v3``."""

    os: str
    architecture: str
    variant: str = ""


@dataclass(frozen=True)
class Wish:
    """What a pod asks of a node.

    Attributes:
        resources: amounts by name: cores, bytes, counts.
        selector: labels that must be there.
        terms: required node affinity: one of the terms must match; none: anything does.
        tolerations: of it.
        sites: the only ones that will do; empty: any.
        cpu_level: the least that will do [level].
        platforms: for each image whose platforms are known, what it is made for.
    """

    resources: Mapping[str, float]
    selector: Mapping[str, str] = field(default_factory=dict)
    terms: Sequence[Json] = ()
    tolerations: Sequence[Json] = ()
    sites: frozenset[str] = frozenset()
    cpu_level: int = 0
    platforms: Mapping[str, frozenset[Platform]] = field(default_factory=dict)

    @property
    def architecture(self) -> str | None:
        """Return the one architecture that every image can, if there is only one."""
        common: frozenset[str] | None = None
        for found in self.platforms.values():
            own = frozenset(each.architecture for each in found)
            common = own if common is None else common & own
        return next(iter(common)) if common is not None and len(common) == 1 else None


@dataclass(frozen=True)
class Verdict:
    """What was found: nodes best first, with why; and for each other node why not."""

    nodes: tuple[str, ...]
    factors: Mapping[str, str]
    refused: Mapping[str, str]


def wish_of(pod: GatedPod, platforms: Mapping[str, frozenset[Platform]]) -> Wish:
    """Return what a pod asks for.

    Raises:
        ValueError: a quantity or a level cannot be read.
    """
    notes = pod.metadata.annotations or {}
    spec = pod.spec
    selector = dict(spec.node_selector or {})
    if spec.os and spec.os.get("name"):
        selector.setdefault(OS_LABEL, str(spec.os["name"]))
    required = ((spec.affinity or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    ) or {}
    known = dict(platforms)
    if ARCHITECTURES in notes:
        words = _words(notes[ARCHITECTURES])
        known["the pod"] = frozenset(Platform("linux", word) for word in words)
    return Wish(
        resources=requests_of(pod),
        selector=selector,
        terms=tuple(required.get("nodeSelectorTerms") or ()),
        tolerations=tuple(spec.tolerations or ()),
        sites=frozenset(_words(notes.get(SITE, ""))),
        cpu_level=level_of(notes.get(CPU_LEVEL, "")),
        platforms=known,
    )


def requests_of(pod: GatedPod) -> dict[str, float]:
    """Return what the scheduler will count for a pod: its containers, or its largest init one."""
    spec = pod.spec
    total: dict[str, float] = {"pods": 1.0}
    for container in spec.containers:
        _add(total, _requests(container))
    largest: dict[str, float] = {}
    beside: dict[str, float] = {}
    for container in spec.init_containers or ():
        own = _requests(container)
        if container.get("restartPolicy") == "Always":
            _add(beside, own)
            own = {}
        for name, amount in own.items():
            largest[name] = max(largest.get(name, 0.0), amount + beside.get(name, 0.0))
    _add(total, beside)
    for name, amount in largest.items():
        total[name] = max(total.get(name, 0.0), amount)
    _add(total, {name: amount_of(name, text) for name, text in (spec.overhead or {}).items()})
    return total


def choose(
    wish: Wish, nodes: Iterable[SeenNode], used: Mapping[str, Mapping[str, float]]
) -> Verdict:
    """Return where a pod may go, the emptiest first.

    Args:
        wish: what it asks for.
        nodes: all virtual nodes.
        used: what pods already take of each, by node and resource.
    """
    factors: dict[str, str] = {}
    refused: dict[str, str] = {}
    weights: dict[str, float] = {}
    for node in nodes:
        name = node.metadata.name
        free = _free(node, used.get(name, {}))
        if why := reason_against(wish, node, free):
            refused[name] = why
            continue
        weights[name] = _fullness(wish, node, free)
        factors[name] = (
            f"{weights[name]:.0%} taken with this pod, {free.get('cpu', 0.0):g} cores free"
        )
    best = sorted(weights, key=lambda name: (weights[name], name))
    return Verdict(tuple(best), factors, refused)


def reason_against(wish: Wish, node: SeenNode, free: Mapping[str, float]) -> str:
    """Return why a pod may not go to a node; empty where it may."""
    labels = node.metadata.labels or {}
    return (
        _state_against(node)
        or _site_against(wish, node)
        or _labels_against(wish, node)
        or _taints_against(wish, node)
        or _platform_against(wish, labels)
        or _size_against(wish, free)
    )


def is_virtual(node: SeenNode) -> bool:
    """Say whether a node is a virtual one."""
    return (node.metadata.labels or {}).get(TYPE_LABEL) == "virtual-kubelet"


def is_ready(node: SeenNode) -> bool:
    """Say whether a node's kubelet and its site are there."""
    found = node.status.conditions or ()
    return any(each.get("type") == "Ready" and each.get("status") == "True" for each in found)


def is_draining(node: SeenNode) -> bool:
    """Say whether the pods of a node are to go elsewhere."""
    notes = {**(node.metadata.labels or {}), **(node.metadata.annotations or {})}
    return node.spec.unschedulable and notes.get(DRAIN) == "true"


def site_of(node: SeenNode) -> str:
    """Return the site of a node: as its label says, else of its own name."""
    return (node.metadata.labels or {}).get(SITE, node.metadata.name)


def level_of(text: str) -> int:
    """Return the number of a level such as ``x86-64-v3``; 0 where there is none.

    Raises:
        ValueError: it is none.
    """
    if not text:
        return 0
    match = _LEVEL.fullmatch(text)
    if match is None:
        raise ValueError(f"{CPU_LEVEL}: {text[:64]!r} is no level such as x86-64-v3")
    return int(match[1])


def amount_of(name: str, text: str) -> float:
    """Return a resource's amount: cores, bytes or a count.

    Raises:
        ValueError: it cannot be read.
    """
    return parse_cpu(text) if name in {"cpu", "pods"} else float(parse_bytes(text))


def _state_against(node: SeenNode) -> str:
    if not is_ready(node):
        return "is not ready"
    return "is cordoned" if node.spec.unschedulable else ""


def _site_against(wish: Wish, node: SeenNode) -> str:
    if not wish.sites or site_of(node) in wish.sites or node.metadata.name in wish.sites:
        return ""
    return f"is not {' or '.join(sorted(wish.sites))}, which the pod asks for"


def _labels_against(wish: Wish, node: SeenNode) -> str:
    labels = node.metadata.labels or {}
    for key, value in wish.selector.items():
        if labels.get(key) != value:
            return f"has {key}={labels.get(key, '')}, the pod wants {value}"
    if wish.terms and not any(_term(term, node) for term in wish.terms):
        return "does not match the pod's node affinity"
    return ""


def _term(term: Json, node: SeenNode) -> bool:
    labels = node.metadata.labels or {}
    fields = {"metadata.name": node.metadata.name}
    expressions = term.get("matchExpressions") or ()
    matches = term.get("matchFields") or ()
    if not expressions and not matches:
        return False
    return all(_matches(each, labels) for each in expressions) and all(
        _matches(each, fields) for each in matches
    )


def _matches(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = str(expression.get("key")), expression.get("values") or []
    found = labels.get(key)
    match expression.get("operator"):
        case "In":
            return found in values
        case "NotIn":
            return found not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
        case "Gt" | "Lt" as operator:
            return _compare(found, values, greater=operator == "Gt")
        case _:
            return False


def _compare(found: str | None, values: Sequence[str], *, greater: bool) -> bool:
    try:
        left, right = int(found or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return left > right if greater else left < right


def _taints_against(wish: Wish, node: SeenNode) -> str:
    for taint in node.spec.taints or ():
        if taint.get("effect") in {"NoSchedule", "NoExecute"} and not any(
            _tolerates(each, taint) for each in wish.tolerations
        ):
            return f"has the taint {taint.get('key')}, which the pod does not tolerate"
    return ""


def _tolerates(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    key = toleration.get("key") or ""
    if key and key != taint.get("key"):
        return False
    if (toleration.get("operator") or "Equal") == "Exists":
        return True
    return bool(key) and (toleration.get("value") or "") == (taint.get("value") or "")


def _platform_against(wish: Wish, labels: Mapping[str, str]) -> str:
    os, architecture = labels.get(OS_LABEL, "linux"), labels.get(ARCH_LABEL, "amd64")
    intel = architecture == "amd64"
    level = max(1, _level_or_none(labels.get(CPU_LEVEL, ""))) if intel else 0
    if wish.cpu_level > level:
        has = f"x86-64-v{level}" if intel else architecture
        return f"has {has} processors, the pod needs x86-64-v{wish.cpu_level}"
    for image, platforms in wish.platforms.items():
        fits = any(
            each.os == os
            and each.architecture == architecture
            and (not intel or _level_or_none(each.variant) <= level)
            for each in platforms
        )
        if not fits:
            made = ", ".join(sorted("/".join(filter(None, _spelled(each))) for each in platforms))
            return f"is {os}/{architecture}, {image} is made for {made or 'nothing'}"
    return ""


def _spelled(platform: Platform) -> tuple[str, str, str]:
    return platform.os, platform.architecture, platform.variant


def _level_or_none(text: str) -> int:
    match = _LEVEL.fullmatch(text)
    return int(match[1]) if match else 0


def _size_against(wish: Wish, free: Mapping[str, float]) -> str:
    for name, amount in wish.resources.items():
        if name == "ephemeral-storage" and name not in free:
            continue
        if amount > free.get(name, 0.0) + 1e-9:
            return f"has {free.get(name, 0.0):g} {name} free, the pod needs {amount:g}"
    return ""


def _fullness(wish: Wish, node: SeenNode, free: Mapping[str, float]) -> float:
    """Return the share that would be taken of the resource that would be scarcest."""
    whole = _whole(node)
    shares = [
        1.0 - (free.get(name, 0.0) - amount) / whole[name]
        for name, amount in wish.resources.items()
        if whole.get(name)
    ]
    return max(shares, default=0.0)


def _whole(node: SeenNode) -> dict[str, float]:
    found = {}
    for name, text in (node.status.allocatable or {}).items():
        try:
            found[name] = amount_of(name, text)
        except ValueError:
            continue
    return found


def _free(node: SeenNode, used: Mapping[str, float]) -> dict[str, float]:
    return {name: amount - used.get(name, 0.0) for name, amount in _whole(node).items()}


def _requests(container: Json) -> dict[str, float]:
    resources = container.get("resources") or {}
    asked = {**(resources.get("limits") or {}), **(resources.get("requests") or {})}
    return {name: amount_of(name, str(text)) for name, text in asked.items()}


def _add(total: dict[str, float], more: Mapping[str, float]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0.0) + amount


def devices(resources: Mapping[str, float]) -> int:
    """Return how many accelerators are asked for, of whatever kind."""
    counted = (amount for name, amount in resources.items() if name not in _NO_DEVICES)
    return int(sum(amount for amount in counted if amount < 1e6))


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]
