"""The driver that hands workloads as pods to a site's interLink API.

Holds one client a site and no state. Who may run what is the site's decision, by the token that
comes with ``create``; everything else is asked as this service.
"""

import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

from twinfra.compute.interlink.client import InterlinkClient, LogRequest, PodCreateRequest
from twinfra.core.errors import (
    Conflict,
    InsufficientCapacity,
    InsufficientScope,
    InvalidRequest,
    NotFound,
    SiteRejected,
    TwinfraError,
    Unauthenticated,
    Unavailable,
    shorten,
)
from twinfra.core.http.client import HttpClient
from twinfra.core.time import SYSTEM_CLOCK, Clock
from twinfra.orchestration.infrastructure.model import Handle, Observation, Target, Workload
from twinfra.orchestration.infrastructure.pod import CONTAINER, metadata_of, observe, pod_of
from twinfra.orchestration.infrastructure.ports import Tunnel

LOG_BYTES = 256 * 1024
FINAL_ANSWERS = (
    InvalidRequest,
    InsufficientScope,
    Unauthenticated,
    NotFound,
    Conflict,
    SiteRejected,
    InsufficientCapacity,
)
ServiceToken = Callable[[str], Awaitable[str]]


class BatchDriver:
    """Runs workloads through interLink; a `Driver`.

    Args:
        tls: trusts the sites' endpoints; none where they speak plain HTTP.
        token: gives this service's own token for an endpoint.
        clock: paces reconnections.
        timeout_s: for one answer of a site.
    """

    def __init__(
        self,
        tls: ssl.SSLContext | None,
        token: ServiceToken,
        *,
        clock: Clock = SYSTEM_CLOCK,
        timeout_s: float = 20.0,
    ) -> None:
        self._tls, self._token, self._clock, self._timeout_s = tls, token, clock, timeout_s
        self._clients: dict[str, InterlinkClient] = {}

    async def create(self, target: Target, workload: Workload, *, token: str) -> str:
        """Have `workload` run at `target`; asks first whether it does already."""
        if (known := await self._native_id(target, workload.handle)) is not None:
            return known
        try:
            answer = await self._client(target).create(
                PodCreateRequest(pod=pod_of(workload)), token=token
            )
        except FINAL_ANSWERS as error:
            raise SiteRejected(f"{target.site}: {error.detail}") from error
        except TwinfraError as error:
            if (known := await self._native_id(target, workload.handle)) is not None:
                return known
            raise _away(target, error) from error
        return answer.native_id

    async def status(
        self, target: Target, handles: Sequence[Handle], *, restarting: bool
    ) -> Mapping[str, Observation]:
        """Return by uid how each workload is."""
        if not handles:
            return {}
        pods = [_asked(handle) for handle in handles]
        try:
            reports = await self._client(target).status(pods)
        except TwinfraError as error:
            raise _away(target, error) from error
        return {report.uid: observe(report, restarting=restarting) for report in reports}

    async def delete(self, target: Target, handle: Handle) -> None:
        """End and forget a workload."""
        try:
            await self._client(target).delete(_asked(handle))
        except NotFound:
            return
        except TwinfraError as error:
            raise _away(target, error) from error

    async def logs(self, target: Target, handle: Handle, *, tail_lines: int) -> str:
        """Return the last lines that the workload wrote."""
        wanted = LogRequest(
            namespace=handle.namespace,
            uid=handle.uid,
            pod_name=handle.name,
            container=CONTAINER,
            tail_lines=tail_lines,
        )
        try:
            raw = await self._client(target).logs(wanted)
        except NotFound:
            return ""
        except TwinfraError as error:
            raise _away(target, error) from error
        return raw[-LOG_BYTES:].decode("utf-8", "replace")

    async def watch(self, target: Target) -> AsyncIterator[str]:
        """Give the uid of each workload whose state changed; an empty one after each gap."""
        try:
            async for event in self._client(target).events():
                yield "" if event.report is None else event.report.uid
        except TwinfraError as error:
            raise _away(target, error) from error

    async def connect(self, target: Target, handle: Handle, port: int) -> Tunnel:
        """Return a way to `port` of the workload."""
        return await self._client(target).port_forward(handle.uid, port)

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    async def _native_id(self, target: Target, handle: Handle) -> str | None:
        try:
            reports = await self._client(target).status([_asked(handle)])
        except TwinfraError as error:
            raise _away(target, error) from error
        return next((each.native_id for each in reports if each.uid == handle.uid), None)

    def _client(self, target: Target) -> InterlinkClient:
        endpoint = target.endpoint.rstrip("/")
        if endpoint not in self._clients:

            async def own_token() -> str:
                return await self._token(endpoint)

            http = HttpClient(endpoint, tls=self._tls, token=own_token, timeout_s=self._timeout_s)
            self._clients[endpoint] = InterlinkClient(http, clock=self._clock)
        return self._clients[endpoint]


def _asked(handle: Handle) -> dict[str, object]:
    """Return the pod as a question: a phase that is not final makes the site look itself."""
    return {"metadata": metadata_of(handle), "spec": {}, "status": {"phase": "Running"}}


def _away(target: Target, error: TwinfraError) -> Unavailable:
    return Unavailable(
        f"{target.site}: {shorten(error.detail)}",
        context={"site": target.site, "code": error.code},
        retry_after_s=error.retry_after_s,
    )
