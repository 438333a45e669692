"""What can be asked of the plug-in: make a pod, end it, how is it, its logs, its ports, the site.

Every call names its caller. A service of the federation sees all pods, a person those of their own
and of their groups; only the owner (or a service) ends one. Here is who may do what; HTTP is in
``api``, what happens to a pod in ``lifecycle``.
"""

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import timedelta
from typing import cast

from twinfra.access.audit import audit
from twinfra.access.authorization import is_member
from twinfra.access.model import Principal
from twinfra.compute.containers.handle import LogQuery
from twinfra.compute.containers.keeper.model import PodStats
from twinfra.compute.containers.model import Isolation
from twinfra.compute.containers.session import Session, Streams
from twinfra.compute.interlink.model.create import CreateAnswer, RetrievedPodData, renewed
from twinfra.compute.interlink.model.files import FilesRequest
from twinfra.compute.interlink.model.logs import LogRequest
from twinfra.compute.interlink.model.ping import Ping
from twinfra.compute.interlink.model.pod import PodRef
from twinfra.compute.interlink.model.status import PodReport
from twinfra.compute.interlink.plugin import reports
from twinfra.compute.interlink.plugin.data_rights import require_paths, require_scopes
from twinfra.compute.interlink.plugin.journal import Journal
from twinfra.compute.interlink.plugin.kit import SiteKit
from twinfra.compute.interlink.plugin.lifecycle import KIND
from twinfra.compute.interlink.plugin.model import KeptPod, Mapped, Owner
from twinfra.compute.interlink.plugin.ports import DataDoor
from twinfra.compute.interlink.pods.places import renew as renew_files
from twinfra.compute.interlink.pods.refused import refuse
from twinfra.compute.interlink.pods.request import PodRequest
from twinfra.compute.interlink.rights import owns, require, sees
from twinfra.compute.sites.ports import EXEC, LOGS, STATS, ExecSite, LogSite, StatsSite
from twinfra.core.errors import (
    Conflict,
    InsufficientScope,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unavailable,
)
from twinfra.core.workflow import Engine

EXTENSIONS = ("idempotent", "events", "portforward", "stats", "files")
OF_EXEC = ("exec", "attach")


class PluginService:
    """The use cases.

    Args:
        kit: of the site.
        journal: keeps pods.
        engine: lives their lives.
        data: asks about inputs and outputs before a pod is taken.
        groups: whose pods are run here; ``*`` is everybody.
        new_id: draws identifiers.
        isolation: what the container runtime can do, told in the ping.
    """

    def __init__(
        self,
        kit: SiteKit,
        journal: Journal,
        engine: Engine,
        data: DataDoor,
        groups: Collection[str],
        *,
        new_id: Callable[[], str],
        isolation: Isolation | None = None,
    ) -> None:
        self._kit, self._journal, self._engine = kit, journal, engine
        self._data, self._groups, self._new_id = data, groups, new_id
        self._isolation = isolation
        self._live_at_most: float = math.inf
        self._intake = asyncio.Semaphore(kit.settings.intake)

    async def create(
        self, caller: Principal, data: RetrievedPodData, mapped: Mapped | None = None
    ) -> CreateAnswer:
        """Take a pod. Its UID is the key: the same pod is taken once.

        Args:
            caller: who asks.
            data: the pod and what goes with it.
            mapped: whose it is, where that is not the caller's.

        Raises:
            InvalidRequest: it is malformed; the text names the field.
            SiteRejected: a field, an image or data cannot be honoured here.
            InsufficientScope: the caller may not run, read or write what the pod names.
            Conflict: the UID is another owner's, or that pod is just being removed.
            RateLimited: the site has as many pods as it takes.
        """
        require(caller, "create")
        request = self._kit.read(data)
        asks_others = request.inputs or request.outputs  # and those may be slow
        async with nullcontext() if asks_others else self._intake:
            return await self._take(caller, data, request, mapped)

    async def _take(
        self, caller: Principal, data: RetrievedPodData, request: PodRequest, mapped: Mapped | None
    ) -> CreateAnswer:
        owner = self._owner(caller, request, mapped.owner if mapped else None)
        known = await self._journal.store.get(request.ref.uid)
        if known is not None:
            return _known(known, owner)
        if mapped is not None:
            require_scopes(caller, request, mapped)
        await self._check(caller, request)
        delegation = await self._data.admit(caller, request)
        pod = KeptPod(
            report=reports.new_report(request),
            owner=owner,
            body=data.to_wire(),
            work=self._new_id(),
            created_at=self._kit.clock.now(),
            delegation=delegation,
            deployment=request.ref.hint("deployment"),
            node=request.ref.hint("node"),
        )
        async with self._journal.store.database.begin() as connection:
            if not await self._journal.add(connection, pod):
                raise Conflict(f"pod {pod.uid} is being made by another request; ask again")
            await self._engine.start(connection, KIND, pod.work, {"uid": pod.uid})
        await self._journal.announce()
        audit("pod.create", caller, "allowed", pod.uid, site=self._kit.name, group=owner.group)
        return CreateAnswer(pod.uid, pod.uid)

    async def delete(self, caller: Principal, ref: PodRef) -> None:
        """Ask for the end of a pod; one that nobody knows is fine."""
        require(caller, "cancel")
        pod = await self._journal.store.get(ref.uid)
        if pod is None or not _sees(caller, pod):
            return
        if not _owns(caller, pod):
            audit("pod.delete", caller, "denied", pod.uid, site=self._kit.name)
            raise InsufficientScope("only its owner may end this pod")
        async with self._journal.store.database.begin() as connection:
            await self._journal.store.mark_deleting(connection, pod)
            await self._engine.wake_in(connection, KIND, pod.work)
        audit("pod.delete", caller, "allowed", pod.uid, site=self._kit.name)

    async def status(self, caller: Principal, refs: Sequence[PodRef]) -> list[PodReport]:
        """Return how pods are; those that nobody knows, or the caller may not know, are absent."""
        require(caller, "read")
        found = await self._journal.store.reports([ref.uid for ref in refs])
        return [
            report for owner, report in found if sees(caller, owner.issuer, owner.sub, owner.group)
        ]

    async def logs(self, caller: Principal, request: LogRequest) -> AsyncIterator[bytes]:
        """Return the wanted lines of a container, to be read as they come.

        Raises:
            NotFound: no such pod or container, or it wrote nothing yet.
        """
        pod = await self._seen_pod(caller, request.uid)
        container = _container_of(pod, request.container)
        if LOGS not in self._kit.site.capabilities:
            raise NotFound("this site has no logs")
        if not pod.native_id:
            state = "never started" if pod.report.phase.final else "is waiting to start"
            words = pod.report.reason or "Pending", pod.report.message
            why = ": ".join(filter(None, words))
            raise InvalidRequest(f"container {container} {state}: {why}")
        since = request.since_at
        if request.since_s:
            since = self._kit.clock.now() - timedelta(seconds=request.since_s)
        query = LogQuery(
            container=container,
            previous=request.previous,
            since=since,
            tail_lines=request.tail_lines or None,
            limit_bytes=request.limit_bytes or None,
            timestamps=request.timestamps,
        )
        return cast("LogSite", self._kit.site).logs(pod.native_id, query, follow=request.follow)

    async def ping(self, caller: Principal) -> Ping:
        """Prove that the site's back end works and return the site's figures.

        Raises:
            Unavailable: it does not work.
        """
        require(caller, "read")
        figures = await self._kit.site.ping()
        return Ping(
            cpus=figures.cpus,
            memory_bytes=figures.memory_bytes,
            pods=self._kit.settings.max_pods,
            accelerators=dict(figures.gpus),
            extensions=(*EXTENSIONS, *self._optional()),
            free_cpus=figures.free_cpus,
            free_memory_bytes=figures.free_memory_bytes,
            free_slots=figures.free_slots,
            queue_length=figures.queue_length,
            queue_wait_s=figures.wait_s,
            os=figures.machine.os,
            architecture=figures.machine.architecture,
            cpu_level=figures.machine.cpu_level,
            runtime={} if self._isolation is None else asdict(self._isolation),
        )

    async def stats(self, caller: Principal, uid: str) -> PodStats:
        """Return the real figures of a pod.

        Raises:
            NotFound: no such pod, or nothing of it ran yet.
        """
        pod = await self._seen_pod(caller, uid)
        stats: PodStats | None = None
        if pod.native_id and STATS in self._kit.site.capabilities:
            stats = await cast("StatsSite", self._kit.site).stats(pod.native_id)
        if stats is None:
            raise NotFound(f"nothing of pod {uid} has run yet")
        return stats

    async def connect(
        self, caller: Principal, uid: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a byte stream to a port of a pod.

        Raises:
            NotFound: no such pod.
            InsufficientScope: the pod is another's.
            Unavailable: it does not run, or nothing listens there (retryable).
        """
        if not 0 < port < 65536:
            raise InvalidRequest("port must be from 1 to 65535")
        pod = await self._own_pod(caller, uid)
        return await self._kit.site.connect(pod.native_id, port)

    async def join(
        self,
        caller: Principal,
        uid: str,
        container: str,
        streams: Streams,
        command: tuple[str, ...] | None = None,
    ) -> Session:
        """Run a command in a container, or without one join the container's own process.

        Raises:
            NotFound: no such pod or container, or the site cannot do this.
            InsufficientScope: the pod is another's.
            InvalidRequest: the container has no input, or no terminal, to be joined.
            RateLimited: too many sessions with this pod at once (retryable).
            Unavailable: the container does not run (retryable).
        """
        if EXEC not in self._kit.site.capabilities:
            raise NotFound("this site cannot run commands in containers")
        pod = await self._own_pod(caller, uid)
        name = _container_of(pod, container)
        site = cast("ExecSite", self._kit.site)
        action = "pod.attach" if command is None else "pod.exec"
        audit(action, caller, "allowed", uid, site=self._kit.name, container=name)
        if command is None:
            return await site.attach(pod.native_id, name, streams)
        return await site.exec(pod.native_id, name, command, streams)

    async def renew(self, caller: Principal, new: FilesRequest) -> list[str]:
        """Give a pod new versions of objects; return the names of the volumes that changed.

        Each volume changes at once. A later attempt at the pod begins with them too; environment
        variables stay as they were.

        Raises:
            NotFound: no such pod.
            InsufficientScope: the pod is another's.
            InvalidRequest: an object lacks what the pod's items name.
        """
        require(caller, "modify")
        pod = await self._seen_pod(caller, new.uid)
        if not _owns(caller, pod):
            raise InsufficientScope("only its owner may renew this pod's files")
        data = renewed(RetrievedPodData.from_wire(pod.body), new)
        request = self._kit.read(data)
        if pod.report.phase.final or pod.deleting:
            return []
        await self._journal.store.put_body(pod, data.to_wire())
        return await asyncio.to_thread(renew_files, request, self._kit.places(pod))

    async def _own_pod(self, caller: Principal, uid: str) -> KeptPod:
        """Return a placed pod into which the caller may reach."""
        require(caller, "modify")
        pod = await self._seen_pod(caller, uid)
        if not _owns(caller, pod):
            raise InsufficientScope("only its owner may reach into this pod")
        if not pod.native_id:
            raise Unavailable(f"pod {uid} does not run yet")
        return pod

    def _optional(self) -> tuple[str, ...]:
        """Return the extensions that depend on the site's back end."""
        return OF_EXEC if EXEC in self._kit.site.capabilities else ()

    async def _seen_pod(self, caller: Principal, uid: str) -> KeptPod:
        require(caller, "read")
        pod = await self._journal.store.get(uid)
        if pod is None or not _sees(caller, pod):
            raise NotFound(f"no pod {uid} at this site")
        return pod

    def _owner(self, caller: Principal, request: PodRequest, given: Owner | None) -> Owner:
        """Return whose the pod is; its group is the one it names, else the owner's first."""
        if given is not None and given.group:
            return self._admitted(caller, request, given)
        group = request.ref.hint("group").strip("/")
        if group and not caller.is_service and not is_member(caller, group):
            audit("pod.create", caller, "denied", request.ref.uid, group=group)
            raise InsufficientScope(f"twinfra.io/group: only members of {group} may use it")
        if not group:
            group = caller.primary_group or next(iter(sorted(caller.groups)), "")
        owner = Owner(caller.issuer, caller.sub, group, caller.actor or "", caller.is_service)
        return self._admitted(caller, request, owner if given is None else given)

    def _admitted(self, caller: Principal, request: PodRequest, owner: Owner) -> Owner:
        """Return the owner if the site runs pods of their group."""
        group = owner.group
        if "*" not in self._groups and group not in self._groups:
            audit("pod.create", caller, "denied", request.ref.uid, group=group)
            raise InsufficientScope(f"this site runs no pods of {group or 'nobody in particular'}")
        return owner

    async def _check(self, caller: Principal, request: PodRequest) -> None:
        """Refuse at once what could only fail later."""
        for index, entry in enumerate((*request.inits, *request.containers)):
            place = index - len(request.inits)
            kind = f"containers[{place}]" if place >= 0 else f"initContainers[{index}]"
            try:
                await asyncio.to_thread(self._kit.images.resolve, entry.image)
            except (NotFound, InvalidRequest) as error:
                raise refuse(f"spec.{kind}.image", error.detail) from error
        if not caller.is_service:
            require_paths(caller, request)
        most = self._kit.settings.max_pods
        # Pods only become fewer by themselves: they need counting only where there may be too many.
        if self._live_at_most >= most:
            self._live_at_most = await self._journal.store.count_live()
            if self._live_at_most >= most:
                raise RateLimited("this site has as many pods as it takes", retry_after_s=30)
        self._live_at_most += 1


def _sees(caller: Principal, pod: KeptPod) -> bool:
    return sees(caller, pod.owner.issuer, pod.owner.sub, pod.owner.group)


def _owns(caller: Principal, pod: KeptPod) -> bool:
    return owns(caller, pod.owner.issuer, pod.owner.sub)


def _container_of(pod: KeptPod, name: str) -> str:
    """Return the name if it is one of the pod's containers; without a name, the first main one."""
    names = [entry.name for entry in (*pod.report.containers, *pod.report.inits)]
    container = name or names[0]
    if container not in names:
        raise NotFound(f"container {container} is not of pod {pod.report.name}")
    return container


def _known(pod: KeptPod, owner: Owner) -> CreateAnswer:
    if (pod.owner.issuer, pod.owner.sub) != (owner.issuer, owner.sub):
        raise Conflict(f"pod {pod.uid} exists already")
    if pod.deleting:
        raise Conflict(f"pod {pod.uid} is being removed")
    return CreateAnswer(pod.uid, pod.uid)
