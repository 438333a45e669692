"""What a pod's life needs besides its site: images, inputs, outputs, and who is told."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from twinfra.access.model import Principal
from twinfra.compute.containers.images.model import UnpackedImage
from twinfra.compute.containers.images.names import Credential
from twinfra.compute.containers.keeper.model import PodStats
from twinfra.compute.interlink.plugin.model import KeptPod
from twinfra.compute.interlink.pods.places import Places
from twinfra.compute.interlink.pods.request import PodRequest
from twinfra.compute.sites.model import JobStatus


class Images(Protocol):
    """The images of a site; `ImageStore` is one. Calls block."""

    def resolve(self, reference: str) -> str:
        """Return the manifest digest; raises NotFound or InvalidRequest."""
        ...

    def ensure(
        self,
        reference: str,
        credentials: Mapping[str, Credential] | None = None,
        *,
        policy: str = "",
    ) -> UnpackedImage:
        """Unpack the image unless it is there already; pull it where the site does that.

        Args:
            reference: as the pod names it.
            credentials: accounts that the pod brought, by registry.
            policy: the pod's ``imagePullPolicy``.
        """
        ...


@dataclass(frozen=True)
class Staged:
    """How much of a pod's inputs is at hand, in files; and which inputs lack some."""

    here: int = 0
    missing: int = 0
    new: int = 0
    lacking: tuple[str, ...] = ()


class Inputs(Protocol):
    """Brings a pod's inputs into its folder."""

    async def stage(self, request: PodRequest, places: Places, resolved: dict[str, str]) -> Staged:
        """Link what is at this site into the pod's folder; what is there already stays.

        Args:
            request: the pod.
            places: of the present attempt.
            resolved: what each input was found to mean, filled in and kept by the caller.

        Raises:
            NotFound: an input does not exist.
            Unavailable: the datasets service does not answer (retryable).
        """
        ...

    async def bring(self, pod: KeptPod, lacking: Sequence[str]) -> str:
        """Have what is missing copied to this site, for the pod's owner; return how that stands.

        Guarantees: doing it again asks for nothing twice; another's rule is good enough.

        Args:
            pod: that waits.
            lacking: data identifiers, as `Staged` names them.

        Raises:
            InsufficientScope: its owner may not ask for copies.
            Unavailable: the datasets service does not answer (retryable).
        """
        ...


class Outputs(Protocol):
    """Publishes what a pod wrote."""

    async def publish(
        self, pod: KeptPod, request: PodRequest, meta: Mapping[str, Any]
    ) -> list[str]:
        """Store and register the outputs of a pod's present attempt; return the new versions.

        Guarantees: doing it again, after a crash at any point, publishes nothing twice.

        Raises:
            InvalidRequest: an output is missing or has a file that cannot be named.
            InsufficientScope: the person may not write there.
            Unavailable: a service does not answer (retryable).
        """
        ...

    async def release(self, pod: KeptPod) -> None:
        """Give back the permission to act for the pod's owner; without one nothing happens."""
        ...


class DataDoor(Protocol):
    """Asks about a pod's data before the pod is taken."""

    async def admit(self, caller: Principal, request: PodRequest) -> dict[str, Any] | None:
        """Return the caller's lasting permission, where the pod names data, as JSON.

        Raises:
            SiteRejected: an input does not exist; the text names it.
            InsufficientScope: the caller may not write an output.
            Unavailable: a service does not answer (retryable).
        """
        ...


class UsageBook(Protocol):
    """Makes the usage record of an attempt that has ended."""

    def record(
        self,
        pod: KeptPod,
        request: PodRequest,
        status: JobStatus,
        stats: PodStats | None,
        now: datetime,
    ) -> tuple[str, dict[str, Any]] | None:
        """Return the record's id and the record; none where nothing ever ran."""
        ...
