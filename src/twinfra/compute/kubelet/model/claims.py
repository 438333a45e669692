"""The storage classes of a pod's claims, which tell its site what stands for them; pure.

Whether a claim is bound is not asked: at the site its class counts, not a volume of the cluster.
"""

import json
from typing import Any

from twinfra.compute.kubelet.model.objects import Found, NotYet, ObjectKind

Json = dict[str, Any]
CLAIMS = "twinfra.io/claims"
"""Annotation that only a kubelet writes: by claim, its ``storageClassName``."""
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"


def with_claims(pod: Json, found: Found) -> Json:
    """Return the pod with its claims' classes in the annotation; what a user wrote there is out.

    Raises:
        NotYet: a claim is not there; the text names it.
    """
    metadata: Json = pod["metadata"]
    annotations = {k: v for k, v in (metadata.get("annotations") or {}).items() if k != CLAIMS}
    known = {}
    for volume in (pod.get("spec") or {}).get("volumes") or ():
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if name:
            known[name] = {"storageClassName": _class_of(name, found)}
    if known:
        annotations[CLAIMS] = json.dumps(known, sort_keys=True)
    return {**pod, "metadata": {**metadata, "annotations": annotations}}


def _class_of(name: str, found: Found) -> str:
    """Return a claim's class; empty: it has none, and the cluster no default."""
    body = found.get(ObjectKind.CLAIM, name)
    if body is None:
        raise NotYet(f'{ObjectKind.CLAIM.value} "{name}" not found', volume=True)
    old = (body["metadata"].get("annotations") or {}).get(OLD_CLASS)
    return str(old or (body.get("spec") or {}).get("storageClassName") or "")
