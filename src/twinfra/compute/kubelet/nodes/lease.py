"""Who acts for a node: its lease in ``kube-node-lease``, which is its heartbeat too.

Several replicas may stand ready for one node; the holder renews, another takes over when it has not
for the lease's duration, by this replica's own clock: moments that others wrote are never compared.

Source: Kubernetes API reference, Lease v1; documentation, "Node heartbeats".
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

import msgspec

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Meta
from twinfra.compute.kubelet.kube.resources import LEASES
from twinfra.core.errors import Conflict, NotFound, TwinfraError
from twinfra.core.tasks import end
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock, rfc3339

log = get_logger(__name__)

NAMESPACE = "kube-node-lease"


class _Spec(msgspec.Struct, rename="camel", omit_defaults=True):
    holder_identity: str = ""
    lease_duration_seconds: int = 40
    renew_time: datetime | None = None
    acquire_time: datetime | None = None
    lease_transitions: int = 0


class _Lease(msgspec.Struct):
    metadata: Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)


HELD = "held by another"


class NodeLease:
    """The lease of one node, as one replica sees it.

    Args:
        client: on the API server.
        node: its name.
        identity: of this replica, its own among all.
        duration_s: after so long without a renewal another replica takes over.
        clock: paces and measures.
        namespace: of the lease.
    """

    def __init__(
        self,
        client: KubeClient,
        node: str,
        identity: str,
        duration_s: int,
        clock: Clock,
        *,
        namespace: str = NAMESPACE,
    ) -> None:
        self._namespace = namespace
        self._client, self._node, self._identity = client, node, identity
        self._duration_s, self._clock = duration_s, clock
        self._version = ""
        self._seen_at_s = 0.0

    async def hold(self, act: Callable[[], Awaitable[None]]) -> None:
        """Run `act` whenever this replica holds the lease; runs until cancelled.

        `act` is cancelled, and its end waited for, when the lease is lost.
        """
        while True:
            await self._acquire()
            log.info("node_lease_held", node=self._node, identity=self._identity)
            acting = asyncio.ensure_future(act())
            renewing = asyncio.create_task(self._renew())
            try:
                await asyncio.wait({acting, renewing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await end([acting, renewing])
            if acting.done() and not acting.cancelled():
                acting.result()
            log.warning("node_lease_lost", node=self._node, identity=self._identity)

    async def release(self) -> None:
        """Let another replica take over at once; for a clean stop."""
        try:
            lease = await self._client.get(LEASES, self._node, self._namespace, kind=_Lease)
            if lease.spec.holder_identity == self._identity:
                await self._write(lease, holder="")
        except TwinfraError as error:
            log.info("node_lease_not_released", node=self._node, why=error.detail)

    async def _acquire(self) -> None:
        said = ""
        while True:
            try:
                if await self._try():
                    return
                if said != HELD:
                    log.info("node_lease_waited_for", node=self._node, identity=self._identity)
                    said = HELD
            except TwinfraError as error:
                if said != error.code:
                    log.info("node_lease_waits", node=self._node, code=error.code, why=error.detail)
                    said = error.code
            await self._clock.sleep(min(2.0, self._duration_s / 8))

    async def _try(self) -> bool:
        try:
            lease = await self._client.get(LEASES, self._node, self._namespace, kind=_Lease)
        except NotFound:
            return await self._create()
        holder = lease.spec.holder_identity
        version = lease.metadata.resource_version
        now_s = self._clock.monotonic()
        if holder not in {"", self._identity}:
            if version != self._version:
                self._version, self._seen_at_s = version, now_s
            if now_s - self._seen_at_s < lease.spec.lease_duration_seconds:
                return False
        try:
            await self._write(lease, holder=self._identity)
        except Conflict:
            return False
        return True

    async def _create(self) -> bool:
        now = rfc3339(self._clock.now())
        body = {
            "apiVersion": LEASES.api_version,
            "kind": "Lease",
            "metadata": {"name": self._node, "namespace": self._namespace},
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": self._duration_s,
                "acquireTime": now,
                "renewTime": now,
            },
        }
        try:
            await self._client.create(LEASES, body, self._namespace, kind=_Lease)
        except Conflict:
            return False
        return True

    async def _write(self, lease: _Lease, *, holder: str) -> None:
        """Write the lease back; raises Conflict where somebody else has written it."""
        now = rfc3339(self._clock.now())
        taken = lease.spec.holder_identity != holder
        since = lease.spec.acquire_time
        body = {
            "apiVersion": LEASES.api_version,
            "kind": "Lease",
            "metadata": {
                "name": self._node,
                "namespace": self._namespace,
                "resourceVersion": lease.metadata.resource_version,
            },
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": self._duration_s if holder else 1,
                "acquireTime": now if taken or since is None else rfc3339(since),
                "renewTime": now,
                "leaseTransitions": lease.spec.lease_transitions + taken,
            },
        }
        await self._client.replace(LEASES, self._node, body, self._namespace, kind=_Lease)

    async def _renew(self) -> None:
        """Renew again and again; returns when the lease is lost, or was not renewed for too long.

        A holder stops a quarter of the duration before others may start.
        """
        renewed_at_s = self._clock.monotonic()
        while self._clock.monotonic() - renewed_at_s < self._duration_s * 0.75:
            await self._clock.sleep(self._duration_s / 4)
            try:
                asked_at_s = self._clock.monotonic()
                lease = await self._client.get(LEASES, self._node, self._namespace, kind=_Lease)
                if lease.spec.holder_identity != self._identity:
                    return
                await self._write(lease, holder=self._identity)
                renewed_at_s = asked_at_s
            except NotFound:
                return
            except TwinfraError as error:
                log.info("node_lease_not_renewed", node=self._node, why=error.detail)
