"""Keeps the node object true: made when it lacks, capacity and taints from the site's ping.

A ping that fails makes the node not ready; what the ping says replaces only what it names.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import msgspec

from twinfra.compute.interlink.client import Ping
from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Meta, Patch, Thing
from twinfra.compute.kubelet.kube.resources import NODES
from twinfra.compute.kubelet.model.node import (
    CPU_LEVEL,
    OUR_TAINTS,
    PING_ANNOTATION,
    NodeFacts,
    capacity,
    conditions,
    labels,
    machine_of,
    node_object,
    node_status,
    taints,
    with_machine,
)
from twinfra.compute.kubelet.ports import Door, Remote
from twinfra.compute.kubelet.settings import KubeletSettings
from twinfra.core.errors import Conflict, NotFound, TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock

log = get_logger(__name__)

Json = dict[str, Any]
AGAIN_S = 1.0
ANNOTATION_LIMIT = 4096


class _Condition(msgspec.Struct, rename="camel"):
    type: str
    status: str
    last_transition_time: str | None = None


class _Status(msgspec.Struct):
    capacity: dict[str, str] | None = None
    conditions: list[_Condition] | None = None


class _Spec(msgspec.Struct):
    taints: list[dict[str, str]] | None = None


class _Node(msgspec.Struct):
    metadata: Meta
    spec: _Spec = msgspec.field(default_factory=_Spec)
    status: _Status = msgspec.field(default_factory=_Status)


class NodeController:
    """One node's object.

    Args:
        client: on the API server.
        remote: the site.
        facts: of the node; `door` gives its port.
        door: the kubelet API; none: the node has none.
        settings: how often.
        clock: tells the moments.
        heard: called with the site's extensions after each ping.
    """

    def __init__(
        self,
        client: KubeClient,
        remote: Remote,
        facts: NodeFacts,
        door: Door | None,
        settings: KubeletSettings,
        clock: Clock,
        heard: Callable[[Iterable[str]], None],
    ) -> None:
        self._client, self._remote, self._facts, self._door = client, remote, facts, door
        self._settings, self._clock, self._heard = settings, clock, heard
        self._set, self._told = facts, Ping()
        self._resources = dict(facts.resources)
        self._conditions: dict[str, tuple[str, str]] = {}
        self._written: Json = {}
        self._written_at_s = 0.0
        self._failures = 0

    @property
    def resources(self) -> Mapping[str, str]:
        """What the node has, as last told."""
        return self._resources

    async def run(self) -> None:
        """Ping and write; runs until cancelled."""
        await self._recall()
        while True:
            await self._round()
            failing = 0 < self._failures < self._settings.ping_failures
            await self._clock.sleep(AGAIN_S if failing else self._settings.ping_s)

    async def _round(self) -> None:
        ping, trouble = await self._ping()
        if ping is not None:
            self._resources = capacity(self._resources, ping)
            self._told = ping if ping.architecture else self._told
            self._facts = with_machine(self._set, self._told)
            self._heard(ping.extensions)
        elif self._failures < self._settings.ping_failures and self._conditions:
            return
        try:
            await self._write(ping, trouble)
            if ping is not None:
                await self._write_taints(ping)
        except NotFound:
            self._written = {}
            await self._make(ping, trouble)
        except TwinfraError as error:
            log.warning("node_not_written", node=self._facts.name, why=error.detail)

    async def _ping(self) -> tuple[Ping | None, str | None]:
        try:
            ping = await self._remote.ping()
        except TwinfraError as error:
            self._failures += 1
            log.info("site_not_answering", node=self._facts.name, why=error.detail)
            return None, error.detail
        self._failures = 0
        return ping, None

    async def _recall(self) -> None:
        """Go on from what the node says already."""
        try:
            node = await self._client.get(NODES, self._facts.name, kind=_Node)
        except TwinfraError as error:
            log.info("node_not_recalled", node=self._facts.name, code=error.code)
            return
        self._facts = with_machine(self._set, machine_of(node.metadata.labels or {}))
        self._conditions = {
            entry.type: (entry.status, entry.last_transition_time or "")
            for entry in node.status.conditions or ()
        }

    async def _make(self, ping: Ping | None, trouble: str | None) -> None:
        body = node_object(self._facts, self._status(trouble))
        body["metadata"]["annotations"][PING_ANNOTATION] = _spelled(ping)
        try:
            await self._client.create(NODES, body, kind=Thing)
        except Conflict:
            return
        except TwinfraError as error:
            log.warning("node_not_made", node=self._facts.name, why=error.detail)
            return
        log.info("node_made", node=self._facts.name)
        await self._write(ping, trouble)

    def _status(self, trouble: str | None) -> Json:
        port = self._facts.port if self._door is None else self._door.port
        facts = replace(self._facts, port=port)
        made = conditions(self._conditions, trouble, self._clock.now())
        self._conditions = {
            entry["type"]: (entry["status"], entry["lastTransitionTime"]) for entry in made
        }
        return node_status(facts, self._resources, made)

    async def _write(self, ping: Ping | None, trouble: str | None) -> None:
        """Write status, labels and the ping's words, if they changed or long ago.

        Raises:
            NotFound: there is no such node.
        """
        status = self._status(trouble)
        body = {
            "metadata": {
                "labels": {CPU_LEVEL: None, **labels(self._facts)},
                "annotations": {PING_ANNOTATION: _spelled(ping)},
            },
            "status": status,
        }
        said = _without_heartbeats(body)
        now_s = self._clock.monotonic()
        if said == self._written and now_s - self._written_at_s < self._settings.heartbeat_s:
            return
        await self._client.patch(
            NODES, self._facts.name, body, kind=Thing, how=Patch.STRATEGIC, sub="status"
        )
        self._written, self._written_at_s = said, now_s

    async def _write_taints(self, ping: Ping) -> None:
        node = await self._client.get(NODES, self._facts.name, kind=_Node)
        ours = (node.metadata.annotations or {}).get(OUR_TAINTS, "")
        before = node.spec.taints or []
        wanted = taints(before, ours, self._facts, ping)
        if _by_key(before) == _by_key(wanted):
            return
        kept = {entry["key"] for entry in before} - set(ours.split(","))
        names = ",".join(sorted({entry["key"] for entry in wanted} - kept))
        body = {
            "metadata": {
                "resourceVersion": node.metadata.resource_version,
                "annotations": {OUR_TAINTS: names},
            },
            "spec": {"taints": wanted},
        }
        try:
            await self._client.patch(NODES, self._facts.name, body, kind=Thing, how=Patch.MERGE)
        except Conflict:
            return
        log.info("node_taints_changed", node=self._facts.name, taints=names)


def _spelled(ping: Ping | None) -> str:
    """Return what the ping said of the site; what is free changes all the time and is left out."""
    if ping is None:
        return ""
    body = ping.to_wire()
    for name in ("free", "queue"):
        body.pop(name, None)
    return json.dumps(body, separators=(",", ":"))[:ANNOTATION_LIMIT]


def _without_heartbeats(body: Json) -> Json:
    status = dict(body["status"])
    status["conditions"] = [
        {key: value for key, value in entry.items() if key != "lastHeartbeatTime"}
        for entry in status["conditions"]
    ]
    return {**body, "status": status}


def _by_key(entries: Iterable[Mapping[str, str]]) -> set[tuple[str, str, str]]:
    return {
        (entry["key"], entry.get("value") or "", entry.get("effect") or "") for entry in entries
    }
