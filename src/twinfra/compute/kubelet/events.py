"""Tells people what happens to pods and nodes: Kubernetes events, few, and never in the way.

An event that says the same again only counts up; beyond a rate, events are dropped.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

from twinfra.compute.kubelet.kube.client import KubeClient
from twinfra.compute.kubelet.kube.model import Patch, Thing
from twinfra.compute.kubelet.kube.resources import EVENTS
from twinfra.core.errors import TwinfraError
from twinfra.core.ids import new_uuid
from twinfra.core.telemetry import get_logger
from twinfra.core.time import Clock, rfc3339

log = get_logger(__name__)

COMPONENT = "twinfra-kubelet"
WAITING = 1000
BURST = 200
REMEMBERED = 2000
TEXT_LIMIT = 1000


@dataclass(frozen=True)
class About:
    """The object that an event is about."""

    kind: str
    name: str
    uid: str
    namespace: str = ""


@dataclass
class _Kept:
    name: str
    count: int


class EventRecorder:
    """Writes events.

    Args:
        client: on the API server.
        clock: tells the moments.
        per_s: events at most, in the long run.
    """

    def __init__(self, client: KubeClient, clock: Clock, *, per_s: float) -> None:
        self._client, self._clock, self._per_s = client, clock, per_s
        self._queue: asyncio.Queue[tuple[About, str, str, str, str]] = asyncio.Queue(WAITING)
        self._known: OrderedDict[tuple[str, str, str], _Kept] = OrderedDict()
        self._tokens, self._at_s = float(BURST), clock.monotonic()

    def normal(self, about: About, reason: str, text: str, *, node: str = "") -> None:
        """Tell something expected."""
        self._put(about, "Normal", reason, text, node)

    def warning(self, about: About, reason: str, text: str, *, node: str = "") -> None:
        """Tell something that somebody should look at."""
        self._put(about, "Warning", reason, text, node)

    async def run(self) -> None:
        """Write what was told; runs until cancelled."""
        while True:
            about, kind, reason, text, node = await self._queue.get()
            try:
                await self._write(about, kind, reason, text, node)
            except TwinfraError as error:
                log.debug("event_not_written", reason=reason, why=error.detail)

    def _put(self, about: About, kind: str, reason: str, text: str, node: str) -> None:
        now_s = self._clock.monotonic()
        self._tokens = min(BURST, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        if self._tokens < 1 or self._queue.full():
            return
        self._tokens -= 1
        self._queue.put_nowait((about, kind, reason, text[:TEXT_LIMIT], node))

    async def _write(self, about: About, kind: str, reason: str, text: str, node: str) -> None:
        namespace = about.namespace or "default"
        now = rfc3339(self._clock.now())[:19] + "Z"
        key = (about.uid, reason, text)
        known = self._known.get(key)
        if known is not None:
            known.count += 1
            again = {"count": known.count, "lastTimestamp": now}
            try:
                await self._client.patch(
                    EVENTS, known.name, again, namespace, kind=Thing, how=Patch.MERGE
                )
            except TwinfraError:
                del self._known[key]
            else:
                return
        name = f"{about.name}.{new_uuid()[-12:]}"
        body = _body(about, kind, reason, text, node, namespace)
        body |= {"metadata": {"name": name, "namespace": namespace}}
        body |= {"firstTimestamp": now, "lastTimestamp": now, "count": 1}
        await self._client.create(EVENTS, body, namespace, kind=Thing)
        self._known[key] = _Kept(name, 1)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def _body(
    about: About, kind: str, reason: str, text: str, node: str, namespace: str
) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "involvedObject": {
            "apiVersion": "v1",
            "kind": about.kind,
            "name": about.name,
            "uid": about.uid,
            **({"namespace": namespace} if about.namespace else {}),
        },
        "type": kind,
        "reason": reason,
        "message": text,
        "source": {"component": COMPONENT, **({"host": node} if node else {})},
        "reportingComponent": COMPONENT,
        "reportingInstance": node or COMPONENT,
    }
