"""What is remembered of a pod: a few words, so that ten thousand fit in little memory."""

import asyncio
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from twinfra.compute.interlink.client import PodReport
from twinfra.compute.kubelet.events import About
from twinfra.compute.kubelet.model.seen import PodFacts
from twinfra.compute.kubelet.model.status import Told

FINAL_PHASES = frozenset({"Succeeded", "Failed"})


class Stage(StrEnum):
    """How far a pod has come with us."""

    NEW = "new"
    """Never handed over."""
    SENT = "sent"
    """Handed over, the site's answer is open."""
    LIVE = "live"
    """The site has it."""
    LEFT = "left"
    """The site has it no more, or never had it: nothing is to be ended there."""


@dataclass(slots=True)
class PodRecord:
    """One pod of the node.

    Attributes:
        uid: its key.
        name: of the pod.
        namespace: of the pod.
        facts: of its spec.
        told: what Kubernetes was told.
        stage: how far it has come.
        native_id: of its job, as told by the site.
        noted: the annotation with it is written.
        deleting: its end was asked for.
        vanished: Kubernetes has it no more.
        overruled: somebody else told Kubernetes that it is over, before its site had it for sure.
        grace_s: how long its containers have to end.
        report: of the site, not written yet.
        override: a status of ours, not written yet; it goes before `report`.
        heard: mark of the last report, to tell a change.
        unknown_at_s: since when the site does not know it.
        reason: why it waits, as last told by event.
        gone: set when the site has it no more.
        working: its creation or its end, under way.
    """

    uid: str
    name: str
    namespace: str
    facts: PodFacts
    told: Told
    stage: Stage = Stage.NEW
    native_id: str = ""
    noted: bool = False
    deleting: bool = False
    vanished: bool = False
    overruled: bool = False
    grace_s: int = 30
    report: PodReport | None = None
    override: dict[str, Any] | None = None
    heard: int = 0
    unknown_at_s: float | None = None
    reason: str = ""
    gone: asyncio.Event | None = None
    working: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def unwanted(self) -> bool:
        """Whether nobody wants it to be handed over any more."""
        return self.deleting or self.vanished or self.overruled

    @property
    def final(self) -> bool:
        """Whether Kubernetes was told that it is over."""
        return self.told.phase in FINAL_PHASES

    @property
    def about(self) -> About:
        """The pod as events name it."""
        return About("Pod", self.name, self.uid, self.namespace)

    def ref(self) -> dict[str, Any]:
        """Return the pod as ``/status`` and ``/delete`` want it: who it is and its containers."""
        spec: dict[str, Any] = {
            "containers": [{"name": entry.name} for entry in self.facts.containers],
        }
        if self.facts.inits:
            spec["initContainers"] = [{"name": entry.name} for entry in self.facts.inits]
        phase = self.told.phase if self.gone is None else "Running"
        return {
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": self.uid,
                **({"annotations": {"JobID": self.native_id}} if self.native_id else {}),
            },
            "spec": spec,
            "status": {"phase": phase},
        }
