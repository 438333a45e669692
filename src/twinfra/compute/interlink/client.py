"""The typed client of an interLink API server: ours, or upstream's where only its paths are used.

The published calls expect exactly 200. Ours (`events`, `port_forward`, `stats`, `exec`, `attach`,
`files`) work only where `ping` names them; a server without them answers `NotFound`.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import aiohttp

from twinfra.compute.containers.session import Streams
from twinfra.compute.interlink.model.create import (
    POD_TOKEN_HEADER,
    CreateAnswer,
    PodCreateRequest,
)
from twinfra.compute.interlink.model.files import FilesRequest
from twinfra.compute.interlink.model.logs import LogRequest
from twinfra.compute.interlink.model.ping import EXTENSIONS_HEADER, Ping
from twinfra.compute.interlink.model.reading import Json, fault_in
from twinfra.compute.interlink.model.status import (
    ContainerPhase,
    ContainerReport,
    PodPhase,
    PodReport,
    statuses,
)
from twinfra.compute.interlink.remote import PROTOCOL, query_of
from twinfra.compute.interlink.sse import Frame, frames
from twinfra.compute.interlink.tunnel import PortForward
from twinfra.core.errors import InvalidRequest, Unavailable, UpstreamFault, UpstreamTimeout
from twinfra.core.http.client import HttpClient, Reply, error_of
from twinfra.core.ids import new_uuid
from twinfra.core.time import SYSTEM_CLOCK, Clock

__all__ = [
    "ContainerPhase",
    "ContainerReport",
    "CreateAnswer",
    "InterlinkClient",
    "LogRequest",
    "Ping",
    "PodCreateRequest",
    "PodEvent",
    "PodPhase",
    "PodReport",
    "PortForward",
]

SESSION_HEADER = "InterLink-Http-Session"
RECONNECT_S = (0.1, 5.0)
RESYNC = "resync"
T = TypeVar("T")


@dataclass(frozen=True)
class PodEvent:
    """A pod after a change; ``report`` None: anything may have changed, ask for statuses."""

    id: str
    report: PodReport | None


class InterlinkClient:
    """Has pods run at a site.

    Args:
        http: a client on the API server's base URL; its token is used unless a call brings its own.
        clock: paces reconnections.
    """

    def __init__(self, http: HttpClient, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._http, self._clock = http, clock

    async def create(
        self, request: PodCreateRequest, *, token: str | None = None, pod_token: str = ""
    ) -> CreateAnswer:
        """Have a pod run.

        Its UID is the key: where the site says ``idempotent``, creating it again changes nothing.

        Args:
            request: the pod and what goes with it.
            token: instead of the client's own.
            pod_token: proves to the site whose the pod is, where that is not the caller.

        Raises:
            TwinfraError: 4xx: refused, the text names the field; 5xx or no answer: ask `status`.
        """
        more = {POD_TOKEN_HEADER: pod_token} if pod_token else {}
        reply = await self._call("CreatePod", "POST", "/create", request.to_wire(), token, more)
        return _answer(reply, CreateAnswer.from_wire)

    async def delete(self, pod: Json, *, token: str | None = None) -> None:
        """End and forget a pod; one that nobody knows is fine."""
        _check_fault(await self._call("DeletePod", "DELETE", "/delete", pod, token))

    async def status(self, pods: Sequence[Json], *, token: str | None = None) -> list[PodReport]:
        """Return how `pods` are; what the site does not know is absent.

        Each needs ``metadata.uid``, ``name`` and ``namespace``, and ``status.phase`` as last seen:
        a final phase may be answered from the server's memory. No pods asks for all it remembers.
        """
        reply = await self._call("GetStatus", "GET", "/status", list(pods), token)
        return list(_answer(reply, statuses))

    async def logs(self, request: LogRequest, *, token: str | None = None) -> bytes:
        """Return the wanted lines as they stand; ``follow`` would not end: use `follow_logs`."""
        reply = await self._call("GetLogs", "GET", "/getLogs", request.to_wire(), token)
        return reply.body

    async def follow_logs(
        self, request: LogRequest, *, token: str | None = None
    ) -> AsyncIterator[bytes]:
        """Yield the wanted bytes as they come, to the end of the answer."""
        async with self._opened("GetLogs", "GET", "/getLogs", request.to_wire(), token) as answer:
            async for piece in answer.content.iter_any():
                yield piece

    async def ping(self, *, token: str | None = None) -> Ping:
        """Return what the site says of itself; a site that is away raises."""
        reply = await self._call("PingInterLink", "POST", "/pinglink", None, token)
        _check_fault(reply)
        try:
            body = reply.json()
        except UpstreamFault:
            body = None
        named = reply.headers.get(EXTENSIONS_HEADER, "")
        ping = Ping.from_wire(body)
        forwarded = {word.strip() for word in named.split(",") if word.strip()}
        return _only(ping, forwarded)

    async def stats(self, uid: str, *, token: str | None = None) -> Json:
        """Return the real figures of a pod: processor time, memory, by container."""
        reply = await self._http.request(
            "GET", "/ext/stats", params={"uid": uid}, expect=(200,), token=token
        )
        found: Json = reply.json()
        return found

    async def events(
        self, *, after: str | None = None, token: str | None = None
    ) -> AsyncIterator[PodEvent]:
        """Yield changes of pods for ever, reconnecting from the last one seen.

        An event without a report comes once the server listens, and wherever it could not go on
        without a gap: after a break before the first event, too.

        Args:
            after: id of the last event that the caller has handled; none: from now on.
            token: instead of the client's own; then it must outlive the call.

        Raises:
            TwinfraError: the server refuses (401, 403, 404); when it is away, it is asked again.
        """
        last, pause_s = after or "", RECONNECT_S[0]
        while True:
            try:
                async for frame in self._frames(last, token):
                    pause_s = RECONNECT_S[0]
                    last = frame.id or last
                    yield _event(frame)
            except (Unavailable, UpstreamTimeout, UpstreamFault):
                pass
            await self._clock.sleep(pause_s)
            pause_s = min(RECONNECT_S[1], pause_s * 2)

    async def port_forward(self, uid: str, port: int) -> PortForward:
        """Return a Unix socket that reaches `port` of a pod; the caller closes it.

        Each connection to it is a tunnel of its own, kept as long as both ends want: a client may
        keep connections alive.
        """

        async def dial() -> Any:
            return await self.tunnel(uid, port)

        return await PortForward(dial).open()

    async def tunnel(
        self, uid: str, port: int, *, token: str | None = None
    ) -> aiohttp.ClientWebSocketResponse:
        """Connect to `port` of a pod; an empty message ends a direction; the caller closes it.

        Raises:
            TwinfraError: no such pod, not allowed, or nobody listens there.
        """
        return await self._http.websocket("/ext/portforward", token=token, uid=uid, port=str(port))

    async def exec(  # noqa: PLR0913 - as many as there are streams
        self,
        uid: str,
        container: str,
        command: Sequence[str],
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
        token: str | None = None,
    ) -> aiohttp.ClientWebSocketResponse:
        """Run a command in a container; the messages are those of ``v5.channel.k8s.io``.

        The last message is a Status on channel 3, then the server closes. Closing early ends the
        command; the caller closes in any case.

        Raises:
            TwinfraError: no such pod or container, not allowed, or it does not run (retryable).
        """
        streams = Streams(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)
        query = query_of(uid, container, streams, command)
        return await self._http.websocket(
            "/ext/exec", token=token, query=query, protocols=(PROTOCOL,)
        )

    async def attach(
        self,
        uid: str,
        container: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        tty: bool = False,
        token: str | None = None,
    ) -> aiohttp.ClientWebSocketResponse:
        """Join a container's own process from now on, as `exec` otherwise.

        Raises:
            TwinfraError: as `exec`; input or a terminal is asked for where the container has none.
        """
        streams = Streams(stdin=stdin, stdout=stdout, stderr=stderr, tty=tty)
        query = query_of(uid, container, streams)
        return await self._http.websocket(
            "/ext/attach", token=token, query=query, protocols=(PROTOCOL,)
        )

    async def files(
        self,
        uid: str,
        *,
        configmaps: Sequence[Json] = (),
        secrets: Sequence[Json] = (),
        projected: Sequence[Json] = (),
        token: str | None = None,
    ) -> None:
        """Renew the files of a running pod's volumes; each volume changes at once, or not at all.

        Objects are spelled as in ``/create``; volumes whose objects are not among them stay.

        Raises:
            TwinfraError: no such pod, not allowed, or an object lacks what the pod's items name.
        """
        body = FilesRequest(uid, tuple(configmaps), tuple(secrets), tuple(projected)).to_wire()
        await self._http.request("PUT", "/ext/files", json=body, expect=(200,), token=token)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()

    async def _frames(self, last: str, token: str | None) -> AsyncIterator[Frame]:
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last} if last else {})}
        async with self._http.stream("GET", "/ext/events", headers=headers, token=token) as answer:
            if answer.status != 200:
                body = await answer.read()
                raise error_of(Reply(answer.status, answer.headers, body), "GET /ext/events")
            if not last:
                yield Frame("", RESYNC)
            async for frame in frames(answer.content.iter_any()):
                yield frame

    @asynccontextmanager
    async def _opened(
        self,
        op: str,
        method: str,
        path: str,
        body: Any,
        token: str | None,
        more: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Any]:
        session = f"{op}#{int(new_uuid()[:8], 16) % 100_000}"
        headers = {SESSION_HEADER: session, **(more or {})}
        async with self._http.stream(
            method, path, json=body, headers=headers, token=token
        ) as answer:
            if answer.status != 200:
                text = await answer.read()
                raise error_of(Reply(answer.status, answer.headers, text), f"{method} {path}")
            yield answer

    async def _call(
        self,
        op: str,
        method: str,
        path: str,
        body: Any,
        token: str | None,
        more: Mapping[str, str] | None = None,
    ) -> Reply:
        async with self._opened(op, method, path, body, token, more) as answer:
            return Reply(answer.status, answer.headers, await answer.read())


def _answer(reply: Reply, read: Callable[[Any], T]) -> T:
    """Read an answer; one that is no such answer is the neighbour's fault, not the caller's."""
    try:
        return read(reply.json())
    except InvalidRequest as error:
        raise UpstreamFault(f"the answer is not interLink's: {error.detail}") from error


def _check_fault(reply: Reply) -> None:
    """Refuse an answer of success that is an error."""
    if fault := fault_in(reply.body):
        raise UpstreamFault(f"the site answered 200 with an error: {fault}")


def _event(frame: Frame) -> PodEvent:
    if frame.event == RESYNC:
        return PodEvent(frame.id, None)
    return PodEvent(frame.id, _answer(Reply(200, {}, frame.data.encode()), PodReport.from_event))


def _only(ping: Ping, forwarded: set[str]) -> Ping:
    """Keep of the plug-in's extensions those that the server forwards."""
    return replace(ping, extensions=[e for e in ping.extensions if e in forwarded])
