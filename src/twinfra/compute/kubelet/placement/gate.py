"""Chooses a node for each pod that waits at the gate and lifts the gate; says why, or why not.

Affinity is set and the gate lifted in one patch on the pod as it was read, so no pod passes without
its node and none that changed meanwhile is sent by what it was. One replica does this at a time.

Source: Kubernetes documentation, "Pod Scheduling Readiness".
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinfra.compute.kubelet.events import About, EventRecorder
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Change, Patch, Thing, WatchEvent
from twinfra.compute.kubelet.kube.reflector import Reflector, Synced
from twinfra.compute.kubelet.kube.resources import NAMESPACES, PODS
from twinfra.compute.kubelet.placement.choosing import (
    Platform,
    Verdict,
    Wish,
    choose,
    requests_of,
    wish_of,
)
from twinfra.compute.kubelet.placement.names import (
    ARCHITECTURES,
    FORECAST,
    GATE,
    GROUP,
    INPUTS,
    PLACED,
    SITE,
)
from twinfra.compute.kubelet.placement.nodes import Nodes
from twinfra.compute.kubelet.placement.objects import GatedPod
from twinfra.compute.kubelet.placement.ports import Images, Ranked, Ranker
from twinfra.compute.kubelet.placement.settings import PlacementSettings
from twinfra.core.errors import Conflict, NotFound, TwinfraError
from twinfra.core.tasks import end
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

Json = dict[str, Any]
NOT_OVER = "status.phase!=Succeeded,status.phase!=Failed"
NAMED_AT_MOST = 12


@dataclass(frozen=True)
class _Found:
    """Where a pod goes, and what is told of it."""

    node: str
    why: str
    wait_s: float | None = None


class Gate:
    """The gate's controller.

    Args:
        client: on the API server.
        recorder: tells people.
        nodes: the virtual nodes, followed while this runs.
        ranker: knows better; None: what nodes have decides.
        settings: how patient.
        clock: paces.
        images: knows what they are made for; None: nobody does, so they may run anywhere.
    """

    def __init__(
        self,
        client: KubeClient,
        recorder: EventRecorder,
        nodes: Nodes,
        ranker: Ranker | None,
        settings: PlacementSettings,
        clock: Clock,
        images: Images | None = None,
    ) -> None:
        self._client, self._recorder, self._nodes = client, recorder, nodes
        self._ranker, self._images = ranker, images
        self._settings, self._clock = settings, clock
        self._waiting: OrderedDict[str, GatedPod] = OrderedDict()
        self._working: dict[str, asyncio.Task[None]] = {}
        self._taken: dict[str, tuple[str, dict[str, float]]] = {}
        self._turns = asyncio.Semaphore(settings.at_once)
        self._choosing = asyncio.Lock()
        self._known = asyncio.Event()

    async def run(self) -> None:
        """Choose for every pod that waits; runs until cancelled."""
        self._known.clear()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._nodes.run())
                group.create_task(self._follow())
        finally:
            await end(list(self._working.values()))
            self._working.clear()
            self._waiting.clear()
            self._taken.clear()

    async def _follow(self) -> None:
        reflector = Reflector(self._client, PODS, GatedPod, fields=NOT_OVER, clock=self._clock)
        async for told in reflector.follow():
            if isinstance(told, Synced):
                for uid in [uid for uid in self._taken if uid not in told.uids]:
                    del self._taken[uid]
                for uid in [uid for uid in self._waiting if uid not in told.uids]:
                    self._drop(uid)
                self._known.set()
            else:
                self._hear(told)

    def _hear(self, told: WatchEvent[GatedPod]) -> None:
        pod, uid = told.object, told.object.metadata.uid
        if told.change is Change.DELETED or pod.status.phase in {"Succeeded", "Failed"}:
            self._taken.pop(uid, None)
            self._drop(uid)
            return
        node = pod.spec.node_name or (pod.metadata.annotations or {}).get(PLACED, "")
        if node:
            try:
                self._taken[uid] = (node, requests_of(pod))
            except ValueError:
                log.info("pod_requests_not_read", uid=uid)
        held = any(gate.get("name") == GATE for gate in pod.spec.scheduling_gates or ())
        if not held or pod.metadata.deletion_timestamp is not None:
            self._drop(uid)
            return
        self._waiting[uid] = pod
        if uid not in self._working:
            self._working[uid] = asyncio.create_task(self._place(uid))

    def _drop(self, uid: str) -> None:
        """Let a pod go; its task ends by itself, for it may have lifted the gate just now."""
        self._waiting.pop(uid, None)

    async def _place(self, uid: str) -> None:
        """Look for a node again and again until the pod has one or is gone."""
        try:
            await self._look_on(uid)
        finally:
            self._working.pop(uid, None)

    async def _look_on(self, uid: str) -> None:
        await self._known.wait()
        await self._nodes.known.wait()
        pause_s = self._settings.again_s[0]
        said = ""
        while uid in self._waiting:
            pod = self._waiting[uid]
            changed = self._nodes.changed
            about = About("Pod", pod.metadata.name, uid, pod.metadata.namespace)
            try:
                async with self._turns:
                    said = await self._try(pod, about)
            except (NotFound, Conflict) as error:
                said = "it has changed meanwhile"
                log.info("pod_changed_meanwhile", uid=uid, code=error.code)
            except TwinfraError as error:
                said = f"no site was chosen yet: {error.detail}"
                self._recorder.warning(about, "PlacementDelayed", said)
            except ValueError as error:
                said = ""
                self._recorder.warning(about, "PlacementFailed", str(error))
            if not said:
                self._waiting.pop(uid, None)
                break
            await self._rest(changed, pause_s)
            pause_s = min(self._settings.again_s[1], pause_s * 2)

    async def _rest(self, changed: asyncio.Event, pause_s: float) -> None:
        """Wait a while; a node that changes ends it, but not before the shortest pause."""
        least_s = self._settings.again_s[0]
        await self._clock.sleep(least_s)
        if pause_s <= least_s or changed.is_set():
            return
        waiting = asyncio.create_task(changed.wait())
        pausing = asyncio.ensure_future(self._clock.sleep(pause_s - least_s))
        try:
            await asyncio.wait({waiting, pausing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            pausing.cancel()

    async def _try(self, pod: GatedPod, about: About) -> str:
        """Place a pod; returns why not, or nothing once it is placed.

        Raises:
            TwinfraError: somebody who was asked does not answer, or the pod has changed.
            ValueError: the pod asks for something that cannot be read.
        """
        wish = wish_of(pod, await self._platforms(pod))
        ranked = await self._rank(pod, wish)
        async with self._choosing:
            verdict = choose(wish, self._nodes.all(), self._used())
            found, refused = pick(verdict, ranked, self._nodes.sites())
            if found is None:
                text = "; ".join(f"{name} {why}" for name, why in refused.items())
                said = f"no site will do: {text or 'there is no virtual node'}"
                self._recorder.warning(about, "PlacementFailed", said)
                return said
            await self._lift(pod, found)
            self._taken[about.uid] = (found.node, dict(wish.resources))
        self._recorder.normal(about, "Placed", f"goes to {found.node}: {found.why}")
        if refused:
            text = "; ".join(f"{name} {why}" for name, why in list(refused.items())[:NAMED_AT_MOST])
            self._recorder.normal(about, "PlacedElsewhere", f"not chosen: {text}")
        log.info("pod_placed", uid=about.uid, node=found.node)
        return ""

    async def _platforms(self, pod: GatedPod) -> Mapping[str, frozenset[Platform]]:
        """Return what the pod's images are made for; what it says of them itself comes first."""
        if self._images is None or ARCHITECTURES in (pod.metadata.annotations or {}):
            return {}
        return await self._images.platforms(pod)

    async def _rank(self, pod: GatedPod, wish: Wish) -> Ranked | None:
        if self._ranker is None:
            return None
        notes = pod.metadata.annotations or {}
        group = notes.get(GROUP) or await self._group(pod.metadata.namespace)
        inputs = [word for word in notes.get(INPUTS, "").replace(",", " ").split() if word]
        return await self._ranker.rank(wish, inputs, group=group)

    async def _group(self, namespace: str) -> str:
        found = await self._client.get(NAMESPACES, namespace, kind=Thing)
        return (found.metadata.annotations or {}).get(GROUP) or self._settings.group

    async def _lift(self, pod: GatedPod, found: _Found) -> None:
        """Send a pod to a node.

        Raises:
            Conflict: it has changed since it was read.
        """
        meta = pod.metadata
        notes = {} if SITE in (meta.annotations or {}) else {PLACED: found.node}
        if notes and found.wait_s is not None:
            notes[FORECAST] = f"{found.wait_s:.0f}"
        gates = [gate for gate in pod.spec.scheduling_gates or () if gate.get("name") != GATE]
        body = {
            "metadata": {
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
                "annotations": notes,
            },
            "spec": {
                "schedulingGates": gates or None,
                "affinity": {"nodeAffinity": affinity_to(pod, found.node)},
            },
        }
        await self._client.patch(PODS, meta.name, body, meta.namespace, kind=Thing, how=Patch.MERGE)

    def _used(self) -> dict[str, dict[str, float]]:
        used: dict[str, dict[str, float]] = {}
        for node, amounts in self._taken.values():
            own = used.setdefault(node, {})
            for name, amount in amounts.items():
                own[name] = own.get(name, 0.0) + amount
        return used


def pick(
    verdict: Verdict, ranked: Ranked | None, sites: dict[str, str]
) -> tuple[_Found | None, dict[str, str]]:
    """Return the best node that both the nodes' facts and the ranking allow, and why not others.

    Args:
        verdict: by what nodes have.
        ranked: what the federation says; None: nobody was asked.
        sites: of the nodes, by name of the node.
    """
    refused = dict(verdict.refused)
    if ranked is None:
        if not verdict.nodes:
            return None, refused
        best = verdict.nodes[0]
        return _Found(best, verdict.factors[best]), refused
    order = {site: place for place, site in enumerate(ranked.sites)}
    for node in verdict.nodes:
        if sites[node] not in order:
            why = ranked.refused.get(sites[node], "is not known to ranking")
            refused[node] = f"will not do: {why}"
    will_do = [node for node in verdict.nodes if sites[node] in order]
    if not will_do:
        return None, refused
    best = min(will_do, key=lambda node: order[sites[node]])
    site = sites[best]
    return _Found(best, ranked.factors.get(site, ""), ranked.wait_s.get(site)), refused


def affinity_to(pod: GatedPod, node: str) -> Json:
    """Return the pod's node affinity with one more demand: this node.

    Only additions are allowed while a gate is there, to each term that exists.
    """
    before = (pod.spec.affinity or {}).get("nodeAffinity") or {}
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    this = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = (before.get(key) or {}).get("nodeSelectorTerms") or [{}]
    made = [{**term, "matchFields": [*(term.get("matchFields") or ()), this]} for term in terms]
    return {**before, key: {"nodeSelectorTerms": made}}
