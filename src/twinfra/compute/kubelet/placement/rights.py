"""The service account of the virtual kubelet and what it may do: no more than it does; pure.

Source: Kubernetes documentation, "Using RBAC Authorization".
"""

from dataclasses import dataclass
from typing import Any

from twinfra.compute.kubelet.kube.resources import NAMESPACES, SERVICE_ACCOUNTS, Resource

Json = dict[str, Any]
PART_OF = {"app.kubernetes.io/part-of": "twinfra", "app.kubernetes.io/managed-by": "twinfra"}
NAMESPACE = "twinfra-system"
ACCOUNT = "twinfra-kubelet"
RBAC = "rbac.authorization.k8s.io"
CLUSTER_ROLES = Resource(RBAC, "v1", "clusterroles", "ClusterRole", namespaced=False)
CLUSTER_BINDINGS = Resource(
    RBAC, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
ROLES = Resource(RBAC, "v1", "roles", "Role")
BINDINGS = Resource(RBAC, "v1", "rolebindings", "RoleBinding")


@dataclass(frozen=True)
class Wanted:
    """An object that a cluster should have.

    Attributes:
        resource: its kind.
        body: the object.
        shared: others may have made or changed it: it is made where it is missing, and stays.
    """

    resource: Resource
    body: Json
    shared: bool = False

    @property
    def name(self) -> str:
        """Return its name."""
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Return its namespace; empty where it has none."""
        return str(self.body["metadata"].get("namespace", ""))


KUBELET = (
    ("", "nodes", "get list watch create patch"),
    ("", "nodes/status", "patch"),
    ("", "pods", "get list watch patch delete"),
    ("", "pods/status", "patch"),
    ("", "configmaps secrets persistentvolumeclaims", "get"),
    ("", "persistentvolumes", "get"),
    ("", "services", "get list watch"),
    ("", "serviceaccounts/token", "create"),
    ("", "namespaces", "get"),
    ("", "events", "create patch"),
    ("authentication.k8s.io", "tokenreviews", "create"),
    ("authorization.k8s.io", "subjectaccessreviews", "create"),
    ("certificates.k8s.io", "certificatesigningrequests", "get create"),
)
"""API group, resources, verbs. The gate's controller and the eviction need nothing further."""
LEASES = (("coordination.k8s.io", "leases", "get create update"),)


def rights() -> list[Wanted]:
    """Return the account, its roles and their bindings."""
    subject = {"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}
    made = [
        Wanted(NAMESPACES, _object(NAMESPACES, NAMESPACE), shared=True),
        Wanted(SERVICE_ACCOUNTS, _object(SERVICE_ACCOUNTS, ACCOUNT, NAMESPACE), shared=True),
        Wanted(CLUSTER_ROLES, {**_object(CLUSTER_ROLES, ACCOUNT), "rules": _rules(KUBELET)}),
        Wanted(
            CLUSTER_BINDINGS,
            {
                **_object(CLUSTER_BINDINGS, ACCOUNT),
                "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": ACCOUNT},
                "subjects": [subject],
            },
        ),
    ]
    for where in ("kube-node-lease", NAMESPACE):
        bound = {
            "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": ACCOUNT},
            "subjects": [subject],
        }
        made += [
            Wanted(ROLES, {**_object(ROLES, ACCOUNT, where), "rules": _rules(LEASES)}),
            Wanted(BINDINGS, {**_object(BINDINGS, ACCOUNT, where), **bound}),
        ]
    return made


def _object(resource: Resource, name: str, namespace: str = "") -> Json:
    metadata: Json = {"name": name, "labels": dict(PART_OF)}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": resource.api_version, "kind": resource.kind, "metadata": metadata}


def _rules(rows: tuple[tuple[str, str, str], ...]) -> list[Json]:
    return [
        {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split()}
        for group, resources, verbs in rows
    ]
