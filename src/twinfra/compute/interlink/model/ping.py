"""The answer of a ping: how big the site is, how much is free, what its plug-in can do more."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twinfra.compute.interlink.model.reading import Json
from twinfra.core.quantities import parse_bytes, parse_cpu

_WORD = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
EXTENSIONS_HEADER = "Twinfra-Extensions"


@dataclass(frozen=True)
class Ping:
    """What a site says of itself; what a foreign plug-in leaves out is None or empty.

    ``cpus``, ``memory_bytes`` and ``pods`` are the whole site's, ``free_*`` what nobody uses;
    ``os``, ``architecture`` and ``cpu_level`` are what all the site's machines are, as Kubernetes
    spells them; ``runtime`` says whether containers are isolated, and if not, why not and what
    would help.
    """

    status: str = "ok"
    cpus: float | None = None
    memory_bytes: int | None = None
    pods: int | None = None
    accelerators: Mapping[str, int] = field(default_factory=dict)
    taints: Sequence[Json] = ()
    extensions: Sequence[str] = ()
    free_cpus: float | None = None
    free_memory_bytes: int | None = None
    free_slots: int | None = None
    queue_length: int | None = None
    queue_wait_s: float | None = None
    os: str = ""
    architecture: str = ""
    cpu_level: str = ""
    runtime: Mapping[str, Any] = field(default_factory=dict)

    def to_wire(self) -> Json:
        """Return the published structure, with ours beside it."""
        resources: Json = {}
        if self.cpus is not None:
            resources["cpu"] = _cpu(self.cpus)
        if self.memory_bytes is not None:
            resources["memory"] = str(self.memory_bytes)
        if self.pods is not None:
            resources["pods"] = str(self.pods)
        if self.accelerators:
            resources["accelerators"] = [
                {"resourceType": kind, "available": str(count)}
                for kind, count in self.accelerators.items()
            ]
        body: Json = {"status": self.status, "resources": resources}
        if self.taints:
            body["taints"] = list(self.taints)
        body["extensions"] = list(self.extensions)
        body["free"] = {
            "cpu": self.free_cpus,
            "memory": self.free_memory_bytes,
            "slots": self.free_slots,
        }
        body["queue"] = {"length": self.queue_length, "wait_s": self.queue_wait_s}
        machine = {"os": self.os, "architecture": self.architecture, "cpu_level": self.cpu_level}
        if any(machine.values()):
            body["machine"] = {name: word for name, word in machine.items() if word}
        if self.runtime:
            body["runtime"] = dict(self.runtime)
        return body

    @classmethod
    def from_wire(cls, value: Any) -> "Ping":
        """Read any answer of a ping; texts, ``[]``, ``null`` and junk say no more than "ok"."""
        if not isinstance(value, dict):
            return cls()
        free = _object(value.get("free"))
        queue = _object(value.get("queue"))
        resources = _object(value.get("resources"))
        machine = _object(value.get("machine"))
        return cls(
            status=str(value.get("status") or "ok"),
            cpus=_quantity(resources.get("cpu")),
            memory_bytes=_whole(resources.get("memory")),
            pods=_whole(resources.get("pods")),
            accelerators=_accelerators(resources.get("accelerators")),
            taints=[entry for entry in _list(value.get("taints")) if isinstance(entry, dict)],
            extensions=[str(entry) for entry in _list(value.get("extensions"))],
            free_cpus=_quantity(free.get("cpu")),
            free_memory_bytes=_whole(free.get("memory")),
            free_slots=_whole(free.get("slots")),
            queue_length=_whole(queue.get("length")),
            queue_wait_s=_quantity(queue.get("wait_s")),
            os=_word(machine.get("os")),
            architecture=_word(machine.get("architecture")),
            cpu_level=_word(machine.get("cpu_level")),
            runtime=_object(value.get("runtime")),
        )


def _cpu(cpus: float) -> str:
    return str(int(cpus)) if cpus == int(cpus) else f"{round(cpus * 1000)}m"


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _word(value: Any) -> str:
    """Return what may be the value of a node's label; else nothing."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""


def _quantity(value: Any) -> float | None:
    if value is None:
        return None
    for parse in (parse_cpu, parse_bytes):
        try:
            number = float(parse(value))
        except ValueError:
            continue
        return number if number >= 0 else None
    return None


def _whole(value: Any) -> int | None:
    number = _quantity(value)
    return None if number is None else int(number)


def _accelerators(value: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in _list(value):
        count = _whole(_object(entry).get("available"))
        kind = _object(entry).get("resourceType")
        if isinstance(kind, str) and count:
            found[kind] = found.get(kind, 0) + count
    return found
