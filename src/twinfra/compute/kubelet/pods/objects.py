"""Fetches what pods name: ConfigMaps, Secrets, claims, services, tokens; the same for many once.

An object is kept for a moment only, so that a change is seen by the next pod.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec

from twinfra.access.errors import TokenRefused
from twinfra.access.jose import parse_jwt
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import BoundToken, Change, Meta
from twinfra.compute.kubelet.kube.reflector import Reflector, Synced, gone
from twinfra.compute.kubelet.kube.resources import (
    CONFIG_MAPS,
    PERSISTENT_VOLUME_CLAIMS,
    SECRETS,
    SERVICES,
)
from twinfra.compute.kubelet.model.objects import (
    Found,
    NotYet,
    ObjectKind,
    Service,
    Wanted,
    wanted_by,
)
from twinfra.compute.kubelet.model.volumes import TokenWanted, tokens_wanted
from twinfra.core.errors import NotFound, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

Json = dict[str, Any]
KEPT_S = 2.0
IDENTITY_S = 3600
RESOURCES = {
    ObjectKind.CONFIG_MAP: CONFIG_MAPS,
    ObjectKind.SECRET: SECRETS,
    ObjectKind.CLAIM: PERSISTENT_VOLUME_CLAIMS,
}


class _Port(msgspec.Struct):
    port: int
    name: str = ""
    protocol: str = "TCP"


class _ServiceSpec(msgspec.Struct, rename="camel"):
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    ports: list[_Port] | None = None


class _SeenService(msgspec.Struct):
    metadata: Meta
    spec: _ServiceSpec = msgspec.field(default_factory=_ServiceSpec)


class Services:
    """Knows the services of the cluster.

    Args:
        client: on the API server.
        api: host and port that replace those of the Kubernetes API's own service.
        clock: paces.
    """

    def __init__(self, client: KubeClient, clock: Clock, *, api: tuple[str, int] | None) -> None:
        self._reflector = Reflector(client, SERVICES, _SeenService, clock=clock)
        self._api = api
        self._known: dict[str, tuple[str, Service]] = {}
        self.synced = asyncio.Event()

    async def run(self) -> None:
        """Follow them; runs until cancelled."""
        async for told in self._reflector.follow():
            if isinstance(told, Synced):
                for uid in gone(self._known, told):
                    del self._known[uid]
                self.synced.set()
            elif told.change is Change.DELETED:
                self._known.pop(told.object.metadata.uid, None)
            else:
                self._take(told.object)

    def of(self, namespace: str, *, links: bool) -> tuple[Service, ...]:
        """Return the services whose addresses a pod is told; the Kubernetes API's always."""
        found = []
        if self._api is not None:
            host, port = self._api
            found.append(Service("kubernetes", host, (("https", port, "TCP"),)))
        for where, service in self._known.values():
            if where == "default" and service.name == "kubernetes":
                if self._api is None:
                    found.append(service)
            elif links and where == namespace:
                found.append(service)
        return tuple(sorted(found, key=lambda entry: entry.name))

    def _take(self, seen: _SeenService) -> None:
        ports = tuple((port.name, port.port, port.protocol) for port in seen.spec.ports or ())
        service = Service(seen.metadata.name, seen.spec.cluster_ip, ports)
        self._known[seen.metadata.uid] = (seen.metadata.namespace, service)


class Objects:
    """Gets what a pod needs from its cluster.

    Args:
        client: on the API server.
        clock: tells how old an answer is.
        services: of the cluster; none: containers are told none.
        renewed_at: share of a token's life after which it is renewed.
    """

    def __init__(
        self,
        client: KubeClient,
        clock: Clock,
        services: Services | None,
        *,
        renewed_at: float = 0.8,
    ) -> None:
        self._client, self._clock, self._services = client, clock, services
        self._renewed_at = renewed_at
        self._kept: dict[tuple[str, Wanted], tuple[float, asyncio.Task[Json | None]]] = {}

    async def find(self, pod: Json) -> Found:
        """Return all that a pod names and that is there."""
        namespace = pod["metadata"]["namespace"]
        needed, optional = wanted_by(pod)
        wanted = sorted((*needed, *optional))
        bodies = await asyncio.gather(*(self._get(namespace, each) for each in wanted))
        objects = {
            each: body for each, body in zip(wanted, bodies, strict=True) if body is not None
        }
        services: tuple[Service, ...] = ()
        if self._services is not None:
            await self._services.synced.wait()
            links = (pod.get("spec") or {}).get("enableServiceLinks", True)
            services = self._services.of(namespace, links=links)
        return Found(objects, services)

    async def tokens(self, pod: Json) -> tuple[dict[TokenWanted, str], float | None]:
        """Return the tokens that a pod's volumes ask for, and when the first is to be renewed [s].

        The moment is on the clock's monotonic scale: after a share of the shortest life, counted
        from the question. Our clock may be off: what it shows is compared with nothing.
        """
        found: dict[TokenWanted, str] = {}
        renew_at_s: float | None = None
        for wanted in tokens_wanted(pod):
            audiences = [wanted.audience] if wanted.audience else []
            asked_at_s = self._clock.monotonic()
            made = await self._token(pod, audiences, wanted.expires_s)
            at_s = asked_at_s + self._renewed_at * _life_s(made, wanted.expires_s)
            renew_at_s = at_s if renew_at_s is None else min(renew_at_s, at_s)
            found[wanted] = made.token
        return found, renew_at_s

    async def identity(self, pod: Json, audience: str) -> str:
        """Return a token that proves to `audience` whose the pod is: its ServiceAccount's.

        Raises:
            NotYet: there is no such ServiceAccount.
        """
        return (await self._token(pod, [audience], IDENTITY_S)).token

    async def _token(self, pod: Json, audiences: Sequence[str], expires_s: int) -> BoundToken:
        metadata = pod["metadata"]
        account = (pod.get("spec") or {}).get("serviceAccountName") or "default"
        try:
            return await self._client.token_request(
                metadata["namespace"],
                account,
                audiences=audiences,
                expires_s=expires_s,
                pod=(metadata["name"], metadata["uid"]),
            )
        except NotFound as error:
            raise NotYet(f'serviceaccount "{account}": {error.detail}', volume=True) from error

    async def _get(self, namespace: str, wanted: Wanted) -> Json | None:
        """Return an object, or none; whoever asks in the same moment shares the answer."""
        now_s = self._clock.monotonic()
        for key in [key for key, (at_s, _) in self._kept.items() if now_s - at_s > KEPT_S]:
            del self._kept[key]
        key = (namespace, wanted)
        if key not in self._kept:
            task = asyncio.create_task(self._fetch(namespace, wanted))
            self._kept[key] = (now_s, task)
        try:
            body = await asyncio.shield(self._kept[key][1])
        except TwinfraError:
            self._kept.pop(key, None)
            raise
        if body is None:
            self._kept.pop(key, None)
        return body

    async def _fetch(self, namespace: str, wanted: Wanted) -> Json | None:
        resource = RESOURCES[wanted.kind]
        try:
            found = await self._client.get(resource, wanted.name, namespace, kind=dict)
        except NotFound:
            return None
        return dict(found)


def _life_s(made: BoundToken, asked_s: int) -> float:
    """Return how long a token lives [s], by its issuer's own words; else what was asked for.

    The token's own ``exp`` may be a year away, for clients that never read it again; the moment
    beside the token is the true one.
    """
    try:
        began_s = float(parse_jwt(made.token).claims["iat"])
    except (TokenRefused, KeyError, TypeError, ValueError):
        return asked_s
    life_s = made.expiration_timestamp.timestamp() - began_s
    return min(life_s, asked_s) if life_s > 0 else asked_s
