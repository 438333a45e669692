"""What the API server does between a kubelet and a plug-in: checks, sorts, caches, passes on.

The cache is durable and bounded by age. A pod that its asker calls finished is answered from it;
one that lives is always asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from twinfra.access.audit import audit
from twinfra.access.model import Principal
from twinfra.compute.interlink.model.create import CreateAnswer, PodCreateRequest, retrieve
from twinfra.compute.interlink.model.pod import PodRef, pod_ref
from twinfra.compute.interlink.model.reading import Json, fault_in
from twinfra.compute.interlink.model.status import status_entries
from twinfra.compute.interlink.rights import require, sees
from twinfra.compute.interlink.server.plugin import PluginLink
from twinfra.compute.interlink.server.store import CachedStatus, StatusCache
from twinfra.core.errors import InvalidRequest, TwinfraError, UpstreamFault
from twinfra.core.http.client import Reply
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

FINAL_PHASES = frozenset({"Succeeded", "Failed"})
FORWARDED = ("idempotent", "events", "portforward", "stats", "exec", "attach", "files")
PRUNE_EVERY_S = 3600.0


@dataclass(frozen=True)
class Call:
    """One request: who asks, the session that links the hops, the token of the pod's own owner."""

    caller: Principal
    session: str
    pod_token: str = field(default="", repr=False)


class ApiService:
    """The use cases.

    Args:
        link: to the plug-in.
        cache: of statuses.
        clock: tells the moment.
        kept_s: how long the cache remembers what nobody asks for.
    """

    def __init__(
        self, link: PluginLink, cache: StatusCache, clock: Clock, *, kept_s: float
    ) -> None:
        self._link, self._cache, self._clock, self._kept_s = link, cache, clock, kept_s

    async def create(self, call: Call, request: PodCreateRequest) -> bytes:
        """Hand a pod to the plug-in and return its answer, byte for byte.

        Raises:
            InvalidRequest: the pod is malformed, or wants a job script of a builder.
            UpstreamFault: the plug-in answered 200 with something else than interLink's answer.
            TwinfraError: the plug-in's refusal, relayed.
        """
        require(call.caller, "create")
        ref = pod_ref(request.pod)
        if request.jobscript_url:
            raise InvalidRequest("jobscriptURL: this server has no builder of job scripts")
        answer = await self._link.create(
            call.caller, call.session, retrieve(request), call.pod_token
        )
        _check_answer(answer)
        caller = call.caller
        group = ref.hint("group").strip("/") or caller.primary_group or ""
        entry = CachedStatus(ref.uid, caller.issuer, caller.sub, group)
        await self._cache.add(entry, self._clock.now())
        return answer

    async def delete(self, call: Call, ref: PodRef, body: bytes) -> bytes:
        """Have the plug-in end a pod; forget it here."""
        require(call.caller, "cancel")
        answer = await self._link.delete(call.caller, call.session, body)
        _check_fault(answer)
        await self._cache.drop(ref.uid)
        return answer

    async def status(self, call: Call, pods: Sequence[Json], refs: Sequence[PodRef]) -> list[Json]:
        """Return how pods are; without pods, all that is cached.

        Raises:
            UpstreamFault: the plug-in's answer is no list of statuses.
            TwinfraError: the plug-in's refusal, relayed.
        """
        require(call.caller, "read")
        if not refs:
            return [e.status for e in await self._cache.all() if e.status and _shows(call, e)]
        cached = await self._cache.get([ref.uid for ref in refs])
        asked = [
            pod
            for pod, ref in zip(pods, refs, strict=True)
            if not (ref.phase in FINAL_PHASES and _held(call, cached.get(ref.uid)))
        ]
        fresh: dict[str, Json] = {}
        if asked:
            fresh = _statuses(await self._link.status(call.caller, call.session, asked))
        await self._remember(call, fresh, cached)
        uids = {pod_ref(pod).uid for pod in asked}
        for uid in (uids & cached.keys()) - fresh.keys():
            if _shows(call, cached[uid]):  # the plug-in does not know it any more
                await self._cache.drop(uid)
        held = {uid: _held(call, entry) for uid, entry in cached.items() if uid not in uids}
        found = {**held, **fresh}
        return [status for ref in refs if (status := found.get(ref.uid)) is not None]

    async def ping(self, call: Call) -> tuple[Reply, tuple[str, ...]]:
        """Ask the plug-in how it is; return its answer, and which extensions we forward."""
        require(call.caller, "read")
        reply = await self._link.status(call.caller, call.session, [])
        _check_fault(reply.body)
        try:
            body: Any = reply.json()
        except UpstreamFault:
            body = None
        named = body.get("extensions") if isinstance(body, dict) else None
        theirs = named if isinstance(named, list) else []
        return reply, tuple(word for word in FORWARDED if word in theirs)

    async def forget(self, call: Call, uid: str) -> None:
        """Drop a pod from the cache."""
        require(call.caller, "modify")
        cached = (await self._cache.get([uid])).get(uid)
        if cached is not None and _shows(call, cached):
            await self._cache.drop(uid)

    async def prune(self) -> None:
        """Forget what nobody asks for, now and then; runs until cancelled."""
        while True:
            await self._cache.prune(self._clock.now() - timedelta(seconds=self._kept_s))
            await self._clock.sleep(PRUNE_EVERY_S)

    async def _remember(
        self, call: Call, fresh: Mapping[str, Json], cached: Mapping[str, CachedStatus]
    ) -> None:
        now, caller = self._clock.now(), call.caller
        for uid in fresh.keys() - cached.keys():
            audit("pod.adopted", caller, "allowed", uid)
            group = caller.primary_group or ""
            await self._cache.add(CachedStatus(uid, caller.issuer, caller.sub, group), now)
        if fresh:
            await self._cache.put(fresh, now)


def _shows(call: Call, entry: CachedStatus) -> bool:
    return sees(call.caller, entry.issuer, entry.sub, entry.group)


def _held(call: Call, entry: CachedStatus | None) -> Json | None:
    """Return a cached status that the caller may see."""
    return entry.status if entry is not None and _shows(call, entry) else None


def _statuses(reply: Reply) -> dict[str, Json]:
    """Return the statuses of a plug-in's answer by UID; ``null`` is none."""
    try:
        entries = status_entries(reply.json())
    except TwinfraError as error:
        raise UpstreamFault(
            f"the plug-in's answer is no list of statuses: {error.detail}"
        ) from error
    return {str(entry["UID"]): entry for entry in entries if entry.get("UID")}


def _check_fault(answer: bytes) -> None:
    """Refuse an answer of success that is an error."""
    if fault := fault_in(answer):
        raise UpstreamFault(f"the plug-in answered 200 with an error: {fault}")


def _check_answer(answer: bytes) -> None:
    """Refuse an answer that a kubelet could not read: it would take the pod for failed."""
    try:
        CreateAnswer.from_wire(Reply(200, {}, answer).json())
    except TwinfraError as error:
        raise UpstreamFault(f"the plug-in's answer is not interLink's: {error.detail}") from error
