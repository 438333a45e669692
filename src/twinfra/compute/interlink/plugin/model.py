"""A pod as the plug-in keeps it: whose it is, what was asked, how it is. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from twinfra.compute.interlink.model.reading import Json
from twinfra.compute.interlink.model.status import PodReport

SERVICE_ACCOUNT = "system:serviceaccount:"


@dataclass(frozen=True)
class Owner:
    """Who had the pod made; a person is (`issuer`, `sub`).

    ``group`` is the one that it is run and accounted for; ``actor`` the service that acted.
    """

    issuer: str
    sub: str
    group: str = ""
    actor: str = ""
    is_service: bool = False

    @property
    def person(self) -> dict[str, str]:
        """Return the identity as usage records and lineage carry it."""
        return {"iss": self.issuer, "sub": self.sub}


@dataclass(frozen=True)
class Mapped:
    """Whose a pod is that came through a virtual kubelet, and what that makes of it.

    ``scopes`` are those of datasets that it may name; ``*`` and ``?`` stand for any characters.
    """

    owner: Owner
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True)
class KeptPod:
    """One pod of the site.

    Attributes:
        report: as last told.
        owner: who may see and end it.
        body: of ``/create``, as it came.
        work: key of its durable work; a pod made anew after its deletion has another.
        delegation: the person's permission to act for them later, where it names data.
        deployment: that it belongs to, as its annotation says.
        node: of that deployment's template.
        native_id: of its present attempt at the back end; empty before.
        deleting: its end was asked for.
    """

    report: PodReport
    owner: Owner
    body: Json
    work: str
    created_at: datetime
    delegation: dict[str, Any] | None = field(default=None, repr=False)
    deployment: str = ""
    node: str = ""
    native_id: str = ""
    deleting: bool = False

    @property
    def uid(self) -> str:
        """The pod's UID."""
        return self.report.uid

    @property
    def attempt(self) -> int:
        """The number of the present attempt."""
        return self.report.attempt


@dataclass(frozen=True)
class KeptEvent:
    """One change of one pod, in the order in which they were told."""

    id: int
    uid: str
    issuer: str
    sub: str
    group: str
    body: Json


def claims_folder(pod: KeptPod) -> str:
    """Return the folder, for a site's storage, of a pod's owner and namespace.

    Service accounts of one namespace of one cluster share it, as they share claims there; a person
    has their own.
    """
    namespace, owner = pod.report.namespace or "default", pod.owner
    who = owner.sub
    if owner.is_service or who.startswith(f"{SERVICE_ACCOUNT}{namespace}:"):
        who = SERVICE_ACCOUNT
    digest = sha256(f"{owner.issuer}\0{who}".encode()).hexdigest()[:16]
    return f"{digest}/{namespace}"
