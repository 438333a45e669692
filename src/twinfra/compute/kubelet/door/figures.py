"""``/stats/summary`` and ``/metrics/resource``: the real figures that keepers tell.

The node's figures are the sums of its pods'; its processor time never goes down when a pod ends.

Source: Kubernetes' ``stats/v1alpha1`` Summary and the stable metrics of ``/metrics/resource``,
which metrics-server reads.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from twinfra.compute.kubelet.door.ports import DoorPod, DoorSite, PodDoor
from twinfra.compute.kubelet.door.settings import DoorSettings
from twinfra.core.errors import TwinfraError
from twinfra.core.telemetry import get_logger
from twinfra.core.time import parse_rfc3339, rfc3339

log = get_logger(__name__)

NANO = 1_000_000_000


@dataclass(frozen=True)
class Sample:
    """Figures of a pod, a container or the node."""

    at: datetime
    cpu_time_s: float
    memory_bytes: int
    started_at: datetime
    cpu_cores: float = 0.0
    parts: dict[str, "Sample"] = field(default_factory=dict)

    def wire(self) -> dict[str, Any]:
        """Return the processor and memory parts of a Summary."""
        at = rfc3339(self.at)
        return {
            "startTime": rfc3339(self.started_at),
            "cpu": {
                "time": at,
                "usageNanoCores": round(self.cpu_cores * NANO),
                "usageCoreNanoSeconds": round(self.cpu_time_s * NANO),
            },
            "memory": {
                "time": at,
                "usageBytes": self.memory_bytes,
                "workingSetBytes": self.memory_bytes,
            },
        }


class Figures:
    """Asks the site for the figures of all pods that run, at most every few seconds.

    Args:
        node: its name.
        pods: of it.
        site: that knows the figures.
        settings: how often, how many at once.
    """

    def __init__(self, node: str, pods: PodDoor, site: DoorSite, settings: DoorSettings) -> None:
        self._node, self._pods, self._site, self._settings = node, pods, site, settings
        self._started_at = datetime.now(UTC)
        self._asked_at_s = -settings.stats_for_s
        self._asking = asyncio.Lock()
        self._last: dict[str, Sample] = {}
        self._found: list[tuple[DoorPod, Sample]] = []
        self._total = Sample(self._started_at, 0.0, 0, self._started_at)
        self._failed = 0

    async def summary(self) -> dict[str, Any]:
        """Return a Summary."""
        await self._fresh()
        return {
            "node": {"nodeName": self._node, "systemContainers": [], **self._total.wire()},
            "pods": [
                {
                    "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
                    "containers": [
                        {"name": name, **part.wire()} for name, part in sample.parts.items()
                    ],
                    **sample.wire(),
                }
                for pod, sample in self._found
            ],
        }

    async def exposition(self) -> str:
        """Return the resource metrics as text of Prometheus' format 0.0.4."""
        await self._fresh()
        lines: list[str] = []
        for name, kind, text, samples in self._metrics():
            lines += [f"# HELP {name} [STABLE] {text}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{labels} {value!r} {at}".rstrip() for labels, value, at in samples]
        return "\n".join(lines) + "\n"

    def _metrics(self) -> Iterator[tuple[str, str, str, list[tuple[str, float, str]]]]:
        pods = [(_labels(pod), sample) for pod, sample in self._found]
        parts = [
            (_labels(pod, name), part)
            for pod, sample in self._found
            for name, part in sample.parts.items()
        ]
        node = [("", self._total)]
        cpu_text, memory_text = "Cumulative cpu time in core-seconds", "Working set in bytes"
        for owner, samples in (("container", parts), ("pod", pods), ("node", node)):
            yield (
                f"{owner}_cpu_usage_seconds_total",
                "counter",
                cpu_text,
                [(labels, float(each.cpu_time_s), _ms(each.at)) for labels, each in samples],
            )
            yield (
                f"{owner}_memory_working_set_bytes",
                "gauge",
                memory_text,
                [(labels, float(each.memory_bytes), _ms(each.at)) for labels, each in samples],
            )
        yield (
            "container_start_time_seconds",
            "gauge",
            "Start time since unix epoch in seconds",
            [(labels, each.started_at.timestamp(), "") for labels, each in parts],
        )
        failed = 1.0 if self._failed else 0.0
        yield ("resource_scrape_error", "gauge", "1 if figures are missing", [("", failed, "")])

    async def _fresh(self) -> None:
        async with self._asking:
            if time.monotonic() - self._asked_at_s < self._settings.stats_for_s:
                return
            pods = await self._pods.running()
            room = asyncio.Semaphore(self._settings.stats_at_once)
            found = await asyncio.gather(*(self._ask(pod, room) for pod in pods))
            self._failed = sum(sample is None for sample in found)
            self._keep([(p, s) for p, s in zip(pods, found, strict=True) if s is not None])
            self._asked_at_s = time.monotonic()

    async def _ask(self, pod: DoorPod, room: asyncio.Semaphore) -> Sample | None:
        try:
            async with asyncio.timeout(self._settings.stats_within_s), room:
                return _read(pod, await self._site.stats(pod.uid), self._last.get(pod.uid))
        except (TwinfraError, TimeoutError, KeyError, TypeError, ValueError) as error:
            log.debug("pod_without_figures", pod_uid=pod.uid, why=str(error))
            return None

    def _keep(self, found: Sequence[tuple[DoorPod, Sample]]) -> None:
        spent_s = self._total.cpu_time_s
        for pod, sample in found:
            before = self._last.get(pod.uid)
            known_s = before.cpu_time_s if before is not None else 0.0
            spent_s += max(0.0, sample.cpu_time_s - known_s)
        self._total = Sample(
            at=datetime.now(UTC),
            cpu_time_s=spent_s,
            memory_bytes=sum(sample.memory_bytes for _, sample in found),
            started_at=self._started_at,
            cpu_cores=sum(sample.cpu_cores for _, sample in found),
        )
        self._found = list(found)
        self._last = {pod.uid: sample for pod, sample in found}


def _read(pod: DoorPod, told: dict[str, Any], before: Sample | None) -> Sample:
    at = parse_rfc3339(str(told["at"]))
    parts = {}
    for entry in told.get("containers") or ():
        name = str(entry["name"])
        known = pod.container(name)
        earlier = before.parts.get(name) if before is not None else None
        parts[name] = _sample(entry, at, known.started_at if known else None, earlier)
    whole = _sample(told, at, pod.started_at, before)
    return Sample(
        whole.at, whole.cpu_time_s, whole.memory_bytes, whole.started_at, whole.cpu_cores, parts
    )


def _sample(
    told: dict[str, Any], at: datetime, started_at: datetime | None, before: Sample | None
) -> Sample:
    cpu_time_s, wall_time_s = float(told["cpu_time_s"]), float(told["wall_time_s"])
    since_s = (at - before.at).total_seconds() if before is not None else 0.0
    if before is not None and since_s <= 0:
        cores = before.cpu_cores
    elif before is not None:
        cores = max(0.0, cpu_time_s - before.cpu_time_s) / since_s
    else:
        cores = cpu_time_s / wall_time_s if wall_time_s > 0 else 0.0
    began_at = started_at or at - timedelta(seconds=wall_time_s)
    return Sample(at, cpu_time_s, int(told["memory_bytes"]), began_at, cores)


def _labels(pod: DoorPod, container: str = "") -> str:
    first = f'container="{container}",' if container else ""
    return f'{{{first}namespace="{pod.namespace}",pod="{pod.name}"}}'


def _ms(at: datetime) -> str:
    return str(round(at.timestamp() * 1000))
