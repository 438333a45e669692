"""The expressions of the admission policies, built from few parts; pure text.

``wanted`` is the stamp that an object should have: who makes a pod or a template is its creator,
who changes what a template runs becomes it, and nothing else changes it.

Source: Kubernetes documentation, "Mutating Admission Policy", "Common Expression Language in
Kubernetes"; RFC 6902.
"""

import json
from collections.abc import Sequence

from twinfra.compute.kubelet.placement.names import CREATOR, GATE, OFFLOAD_LABEL, TAINT

CONTROLLERS = (
    "system:kube-controller-manager",
    *(
        f"system:serviceaccount:kube-system:{name}"
        for name in (
            "cronjob-controller",
            "daemon-set-controller",
            "deployment-controller",
            "job-controller",
            "replicaset-controller",
            "replication-controller",
            "statefulset-controller",
        )
    ),
)
"""The cluster's own controllers: they copy templates, and with them a stamp, as they are."""

_KEY = json.dumps(CREATOR)


def is_controller(more: Sequence[str] = ()) -> str:
    """Return whether a controller asks: one of the cluster's, or of `more`."""
    return f"request.userInfo.username in {json.dumps([*CONTROLLERS, *more])}"


def person(issuers: Sequence[str] = ()) -> str:
    """Return the asking person's name, empty where no person of the federation asks."""
    user = "request.userInfo.username"
    if issuers:
        prefixes = json.dumps([f"{issuer}#" for issuer in issuers])
        known = f"{prefixes}.exists(p, {user}.startsWith(p))"
    else:
        known = f'{user}.startsWith("https://") && {user}.contains("#")'
    return f'{known} ? {user} : ""'


def stamp(root: str, template: str) -> str:
    """Return the stamp of the pod or template below `root`; empty where there is none."""
    return f'{root}{_optional(template)}.?metadata.?annotations[?{_KEY}].orValue("")'


def annotations(root: str, template: str) -> str:
    """Return the annotations there, an empty map where there are none."""
    return f"{root}{_optional(template)}.?metadata.?annotations.orValue({{}})"


def same_template(template: str) -> str:
    """Return whether an update leaves what runs as it was: spec and annotations but the stamp."""
    new, old = f"object{_optional(template)}.?spec", f"oldObject{_optional(template)}.?spec"
    return (
        f"{new} == {old}"
        f" && variables.told.all(k, k == {_KEY} || "
        "(k in variables.before && variables.before[k] == variables.told[k]))"
        f" && variables.before.all(k, k == {_KEY} || k in variables.told)"
    )


def wanted(*, of_pod: bool) -> str:
    """Return the stamp that the object should have; a pod's is never changed."""
    if of_pod:
        whole = 'request.resource.resource == "pods" && request.?subResource.orValue("") == ""'
        made = f'{whole} ? variables.person : ""'
        return f'request.operation == "UPDATE" ? variables.old : ({made})'
    return "variables.same ? variables.old : variables.person"


def variables(template: str, issuers: Sequence[str]) -> list[dict[str, str]]:
    """Return the variables that stamping and guarding share."""
    updates = 'request.operation == "UPDATE"'
    pairs = [
        ("person", person(issuers)),
        ("given", stamp("object", template)),
        ("old", f'{updates} ? {stamp("oldObject", template)} : ""'),
    ]
    if template:
        pairs += [
            ("told", annotations("object", template)),
            ("before", f"{updates} ? {annotations('oldObject', template)} : {{}}"),
            ("same", f"{updates} && {same_template(template)}"),
        ]
    pairs.append(("wanted", wanted(of_pod=not template)))
    return [{"name": name, "expression": text} for name, text in pairs]


def stamping(template: str) -> str:
    """Return the patch that sets or takes away the stamp; a forged one is left, to be refused."""
    metadata = f"{'/' + template.replace('.', '/') if template else ''}/metadata"
    path = json.dumps(f"{metadata}/annotations/{CREATOR.replace('~', '~0').replace('/', '~1')}")
    of = f"object{_optional(template)}.?metadata"
    whole = (
        f"!{of}.hasValue() ? [JSONPatch{{op: 'add', path: '{metadata}', "
        f"value: {{'annotations': {{{_KEY}: variables.wanted}}}}}}]"
        f" : !{of}.?annotations.hasValue() ? [JSONPatch{{op: 'add', "
        f"path: '{metadata}/annotations', value: {{{_KEY}: variables.wanted}}}}]"
        f" : [JSONPatch{{op: 'add', path: {path}, value: variables.wanted}}]"
    )
    return (
        "variables.given == variables.wanted"
        ' || (variables.given != "" && variables.given != variables.old) ? []'
        f" : variables.wanted == '' ? [JSONPatch{{op: 'remove', path: {path}}}]"
        f" : {whole}"
    )


GENUINE = 'variables.given == "" || variables.given == variables.wanted'
SAME_IMAGES = (
    'request.operation != "UPDATE" || variables.old == ""'
    " || variables.old == request.userInfo.username"
    " || !has(object.spec) || !has(object.spec.containers)"
    " || (object.spec.containers.map(c, c.image) == oldObject.spec.containers.map(c, c.image)"
    " && object.spec.?initContainers.orValue([]).map(c, c.image)"
    " == oldObject.spec.?initContainers.orValue([]).map(c, c.image))"
)
"""A pod's image may be changed in place: then other code would run in its creator's name."""

NOT_ITS_OWN = (
    "!object.metadata.?ownerReferences.orValue([]).exists(o, o.kind == 'DaemonSet')"
    " && !request.userInfo.username.startsWith('system:node:')"
    f" && object.metadata.?annotations[?'{OFFLOAD_LABEL}'].orValue('true') != 'false'"
)
"""Neither a node's own pod (of a DaemonSet, of a kubelet) nor one that wants to stay."""

TOLERATION = (
    "object.spec.?tolerations.orValue([]).exists(t, t.?key.orValue('') in ['', "
    f"'{TAINT}'] && t.?effect.orValue('') in ['', 'NoSchedule']"
    " && t.?operator.orValue('Equal') == 'Exists') ? []"
    f" : [JSONPatch{{op: 'add', path: has(object.spec.tolerations) ? '/spec/tolerations/-'"
    " : '/spec/tolerations', value: has(object.spec.tolerations) ?"
    f" dyn({{'key': '{TAINT}', 'operator': 'Exists', 'effect': 'NoSchedule'}})"
    f" : dyn([{{'key': '{TAINT}', 'operator': 'Exists', 'effect': 'NoSchedule'}}])}}]"
)

GATING = (
    "has(object.spec.nodeName) && object.spec.nodeName != ''"
    f" || object.spec.?schedulingGates.orValue([]).exists(g, g.name == '{GATE}') ? []"
    " : [JSONPatch{op: 'add', path: has(object.spec.schedulingGates)"
    " ? '/spec/schedulingGates/-' : '/spec/schedulingGates',"
    f" value: has(object.spec.schedulingGates) ? dyn({{'name': '{GATE}'}})"
    f" : dyn([{{'name': '{GATE}'}}])}}]"
)


def _optional(template: str) -> str:
    """Return the way from an object to a pod template, every step of which may be missing."""
    return "".join(f".?{step}" for step in template.split(".")) if template else ""
