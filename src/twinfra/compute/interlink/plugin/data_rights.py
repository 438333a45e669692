"""What data a pod may name: no more than its maker's token reaches, or the site's rules give."""

from fnmatch import fnmatchcase

from twinfra.access.audit import audit
from twinfra.access.errors import ScopeMissing
from twinfra.access.model import Principal
from twinfra.access.storage_scopes import permits
from twinfra.compute.interlink.plugin.model import Mapped
from twinfra.compute.interlink.pods.request import PodRequest
from twinfra.core.errors import InsufficientScope


def require_paths(caller: Principal, request: PodRequest) -> None:
    """Refuse data that the caller's own token does not reach: a job gives no rights."""
    for mount in request.inputs:
        path = f"/datasets/{mount.scope}/{mount.name}"
        if not permits(caller, "read", path):
            audit("pod.create", caller, "denied", mount.did)
            raise ScopeMissing(f"storage.read:{path}")
    for mount in request.outputs:
        path = f"/datasets/{mount.scope}/{mount.name}.v1"
        if not permits(caller, "modify", path):
            audit("pod.create", caller, "denied", mount.did)
            raise ScopeMissing(f"storage.modify:{path}")


def require_scopes(caller: Principal, request: PodRequest, mapped: Mapped) -> None:
    """Refuse data that the site's rules do not give to pods of this owner."""
    for kind, mounts in (("inputs", request.inputs), ("outputs", request.outputs)):
        for mount in mounts:
            if not any(fnmatchcase(mount.scope, scope) for scope in mapped.scopes):
                audit("pod.create", caller, "denied", mount.did)
                raise InsufficientScope(
                    f"twinfra.io/{kind}: this site gives {mapped.owner.sub} no data of scope "
                    f"{mount.scope}"
                )
