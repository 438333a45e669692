"""Whose a Kubernetes pod is: its ServiceAccount's, proved by a token, or its creator's.

A token counts for one pod only: its claims name the pod's UID, so that nobody runs a second pod
with the first one's token. Its issuer is the cluster; a creator's stamp is believed of clusters for
which a rule says so. Pure; the signature was checked by ``authenticator``.

Source: Kubernetes documentation, "Managing Service Accounts" (bound tokens, private claims).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from twinfra.access.jose import parse_jwt
from twinfra.access.model import Principal

PREFIX = "system:serviceaccount:"
PRIVATE_CLAIM = "kubernetes.io"


@dataclass(frozen=True)
class WorkloadRule:
    """Which pods of a cluster belong to which group; ``*`` and ``?`` stand for any characters.

    With a `creator` (``ISSUER#sub``, the issuer without wildcards) it means the pods that carry
    that person's stamp, and they are the person's.
    """

    issuer: str
    namespace: str = "*"
    account: str = "*"
    group: str = ""
    creator: str = ""
    data: tuple[str, ...] = ()
    """Scopes of datasets that the pods may name; none: the one that has the group's name."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """Scopes of datasets that the pods may name, with wildcards."""
        return self.data or ((self.group,) if self.group else ())

    def fits(self, issuer: str, namespace: str, account: str, creator: str = "") -> bool:
        """Say whether a pod is meant, by its ServiceAccount and its creator's stamp."""
        return (
            self.issuer == issuer
            and fnmatchcase(namespace, self.namespace)
            and fnmatchcase(account, self.account)
            and (not self.creator or self._made_by(creator))
        )

    def _made_by(self, creator: str) -> bool:
        (issuer, sub), (wanted_issuer, wanted) = person_of(creator), person_of(self.creator)
        return bool(sub) and issuer == wanted_issuer and fnmatchcase(sub, wanted)


def service_account_of(sub: str) -> tuple[str, str] | None:
    """Return namespace and name of the ServiceAccount that a subject names; none: it is another."""
    namespace, _, name = sub.removeprefix(PREFIX).partition(":")
    return (namespace, name) if sub.startswith(PREFIX) and namespace and name else None


def person_of(creator: str) -> tuple[str, str]:
    """Return issuer and subject of a creator's stamp; two empty ones where it is none."""
    issuer, mark, sub = creator.partition("#")
    return (issuer, sub) if issuer and mark and sub else ("", "")


def is_of_pod(principal: Principal, *, uid: str, namespace: str) -> bool:
    """Say whether a principal is the ServiceAccount of the pod with this UID and namespace."""
    found = service_account_of(principal.sub)
    if found is None or found[0] != namespace:
        return False
    private: Any = parse_jwt(principal.token).claims.get(PRIVATE_CLAIM)
    pod = private.get("pod") if isinstance(private, dict) else None
    return isinstance(pod, dict) and pod.get("uid") == uid


def rule_for(
    principal: Principal, rules: Iterable[WorkloadRule], creator: str = ""
) -> WorkloadRule | None:
    """Return the first rule that fits a ServiceAccount and a creator's stamp, or none."""
    found = service_account_of(principal.sub)
    if found is None:
        return None
    return next((rule for rule in rules if rule.fits(principal.issuer, *found, creator)), None)
