"""Whose a pod is that came through a virtual kubelet: its account's or its creator's, by rules.

The kubelet is a service and may see what came through it; the pod belongs to its ServiceAccount, or
to the person whose stamp the cluster's admission put on it. What no rule maps belongs to the robot
account of its namespace, or is refused: the site says which.
"""

from collections.abc import Sequence
from typing import Literal

from twinfra.access.audit import audit
from twinfra.access.authenticator import Authenticator
from twinfra.access.errors import TokenRefused
from twinfra.access.model import Principal
from twinfra.access.workloads import WorkloadRule, is_of_pod, person_of, rule_for
from twinfra.compute.interlink.model.pod import PodRef
from twinfra.compute.interlink.plugin.model import Mapped, Owner
from twinfra.core.errors import InsufficientScope, shorten

NODE_HINT = "virtual-node"
CREATOR_HINT = "creator"
ROBOT = "robot:"
Unmapped = Literal["robot", "refuse"]


class Workloads:
    """Says whose pods of Kubernetes clusters are.

    Args:
        authenticator: trusts the clusters' issuers.
        rules: which ServiceAccount or creator belongs to which group.
        unmapped: what happens to a pod that no rule maps.
        audience: of the pods' tokens: the interLink API of this site.
    """

    def __init__(
        self,
        authenticator: Authenticator,
        rules: Sequence[WorkloadRule],
        unmapped: Unmapped,
        audience: str,
    ) -> None:
        self._authenticator, self._rules = authenticator, rules
        self._unmapped: Unmapped = unmapped
        self._audience = audience

    async def owner(self, caller: Principal, token: str, ref: PodRef) -> Mapped | None:
        """Return whose a pod is; None: its caller's.

        Raises:
            InsufficientScope: the token is not that pod's, or the site runs no such pods.
        """
        if not caller.is_service or not ref.hint(NODE_HINT):
            return None
        principal = await self._principal(caller, token, ref) if token else None
        creator = ref.hint(CREATOR_HINT)
        rule = None if principal is None else rule_for(principal, self._rules, creator)
        if principal is not None and rule is not None:
            issuer, sub = person_of(creator) if rule.creator else (principal.issuer, principal.sub)
            return Mapped(Owner(issuer, sub, rule.group, caller.sub), rule.scopes)
        if self._unmapped == "robot":
            return Mapped(Owner(caller.issuer, f"{ROBOT}{ref.namespace}", "", caller.sub))
        audit("pod.create", caller, "denied", ref.uid)
        who = "no ServiceAccount" if principal is None else f"{principal.sub} of {principal.issuer}"
        who += f", made by {shorten(creator)}" if creator else ""
        raise InsufficientScope(
            f"spec.serviceAccountName: this site has no account for {who} "
            f"(namespace {ref.namespace})"
        )

    async def _principal(self, caller: Principal, token: str, ref: PodRef) -> Principal | None:
        """Return whom a pod's token proves; None: an issuer that is not trusted here.

        Raises:
            InsufficientScope: it is forged, over, or another pod's.
        """
        try:
            principal = await self._authenticator.authenticate(token, {self._audience})
        except TokenRefused as error:
            if error.reason == "issuer-unknown":
                return None
            audit("pod.create", caller, "denied", ref.uid)
            raise InsufficientScope(f"the pod's own token: {error.detail}") from error
        if not is_of_pod(principal, uid=ref.uid, namespace=ref.namespace):
            audit("pod.create", caller, "denied", ref.uid)
            raise InsufficientScope("the pod's own token is another's")
        return principal
