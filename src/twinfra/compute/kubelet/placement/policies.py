"""The admission policies and bindings that a cluster is given; pure.

Mutating ones act in namespaces that an operator has labelled. The guard of the stamp is on
everywhere: a template forged in another namespace, or before its label, would be believed later.

Source: Kubernetes API reference 1.36, MutatingAdmissionPolicy v1, ValidatingAdmissionPolicy v1.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twinfra.compute.kubelet.kube.resources import Resource
from twinfra.compute.kubelet.placement import cel
from twinfra.compute.kubelet.placement.names import CREATOR, OFFLOAD_LABEL
from twinfra.compute.kubelet.placement.rights import PART_OF, Wanted

Json = dict[str, Any]
GROUP = "admissionregistration.k8s.io"
MUTATING = Resource(
    GROUP, "v1", "mutatingadmissionpolicies", "MutatingAdmissionPolicy", namespaced=False
)
MUTATING_BINDINGS = Resource(
    GROUP, "v1", "mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding",
    namespaced=False,
)  # fmt: skip
VALIDATING = Resource(
    GROUP, "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", namespaced=False
)
VALIDATING_BINDINGS = Resource(
    GROUP, "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding",
    namespaced=False,
)  # fmt: skip


@dataclass(frozen=True)
class Shape:
    """Kinds of objects that have their pod template in the same place.

    Attributes:
        name: of the shape.
        template: the way to the template; empty: the object is a pod.
        kinds: resources by API group.
    """

    name: str
    template: str
    kinds: Mapping[str, Sequence[str]]


SHAPES = (
    Shape("pods", "", {"": ("pods",)}),
    Shape(
        "templates",
        "spec.template",
        {
            "": ("replicationcontrollers",),
            "apps": ("deployments", "statefulsets", "replicasets", "daemonsets"),
            "batch": ("jobs",),
        },
    ),
    Shape("cronjobs", "spec.jobTemplate.spec.template", {"batch": ("cronjobs",)}),
)


def policies(issuers: Sequence[str] = (), controllers: Sequence[str] = ()) -> list[Wanted]:
    """Return all policies, each followed by its binding.

    Args:
        issuers: only their people are stamped; none: every ``https://ISSUER#sub``.
        controllers: users besides the cluster's own controllers whose copies of a stamp are taken.
    """
    made = [*_mutating("twinfra-offload", _offload())]
    for shape in SHAPES:
        made += _mutating(f"twinfra-creator-{shape.name}", _stamp(shape, issuers, controllers))
        made += _validating(f"twinfra-creator-{shape.name}", _guard(shape, issuers, controllers))
    return made


def _offload() -> Json:
    return {
        "matchConstraints": _rules({"": ("pods",)}, ("CREATE",)),
        "matchConditions": [{"name": "not-of-a-node", "expression": cel.NOT_ITS_OWN}],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "mutations": [_patch(cel.TOLERATION), _patch(cel.GATING)],
    }


def _stamp(shape: Shape, issuers: Sequence[str], controllers: Sequence[str]) -> Json:
    return {
        "matchConstraints": _rules(shape.kinds, ("CREATE", "UPDATE")),
        "matchConditions": [_no_controller(controllers)],
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "variables": cel.variables(shape.template, issuers),
        "mutations": [_patch(cel.stamping(shape.template))],
    }


def _guard(shape: Shape, issuers: Sequence[str], controllers: Sequence[str]) -> Json:
    """Subresources are guarded too: a status, or a binding, may carry annotations as well."""
    whole = {
        group: [word for name in names for word in (name, f"{name}/*")]
        for group, names in shape.kinds.items()
    }
    if not shape.template:
        whole[""].append("bindings")
    checks = [
        {
            "expression": cel.GENUINE,
            "message": f"{CREATOR} is set by the cluster alone, to who made this: leave it out",
            "reason": "Forbidden",
        }
    ]
    if not shape.template:
        checks.append(
            {
                "expression": cel.SAME_IMAGES,
                "message": f"only the {CREATOR} of this pod may change its images",
                "reason": "Forbidden",
            }
        )
    return {
        "matchConstraints": _rules(whole, ("CREATE", "UPDATE")),
        "matchConditions": [_no_controller(controllers)],
        "failurePolicy": "Fail",
        "variables": cel.variables(shape.template, issuers),
        "validations": checks,
    }


def _no_controller(controllers: Sequence[str]) -> Json:
    return {"name": "not-a-controller", "expression": f"!({cel.is_controller(controllers)})"}


def _rules(kinds: Mapping[str, Sequence[str]], operations: Sequence[str]) -> Json:
    rules = [
        {
            "apiGroups": [group],
            "apiVersions": ["v1"],
            "operations": list(operations),
            "resources": list(names),
            "scope": "*",
        }
        for group, names in kinds.items()
    ]
    return {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "resourceRules": rules,
    }


def _patch(expression: str) -> Json:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}


def _mutating(name: str, spec: Json) -> Iterator[Wanted]:
    yield Wanted(MUTATING, _object(MUTATING, name, spec))
    where = {"namespaceSelector": {"matchLabels": {OFFLOAD_LABEL: "true"}}, "objectSelector": {}}
    bound = {"policyName": name, "matchResources": {"matchPolicy": "Equivalent", **where}}
    yield Wanted(MUTATING_BINDINGS, _object(MUTATING_BINDINGS, name, bound))


def _validating(name: str, spec: Json) -> Iterator[Wanted]:
    yield Wanted(VALIDATING, _object(VALIDATING, name, spec))
    bound = {"policyName": name, "validationActions": ["Deny"]}
    yield Wanted(VALIDATING_BINDINGS, _object(VALIDATING_BINDINGS, name, bound))


def _object(resource: Resource, name: str, spec: Json) -> Json:
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name, "labels": dict(PART_OF)},
        "spec": spec,
    }
