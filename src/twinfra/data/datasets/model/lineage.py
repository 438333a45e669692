"""Where data comes from and what came of it, read out of the metadata of data identifiers.

Pure. The graph's nodes are files, datasets, containers, jobs and predictions; its edges point the
way things flowed: file > dataset > job > dataset (a model) > prediction. A job is known by the
metadata of what it wrote: ``job deployment inputs site image``. Predictions are listed by whoever
makes them under the key ``predictions`` of the model's version.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twinfra.data.datasets.errors import InvalidObject
from twinfra.data.datasets.model.names import Did
from twinfra.data.datasets.model.states import DidType

JOB, INPUTS, KIND, PREDICTIONS = "job", "inputs", "kind", "predictions"
JOB_FACTS = ("deployment", "node", "site", "image", "attempt", "started_at", "ended_at")


@dataclass(frozen=True, slots=True)
class Record:
    """One data identifier as lineage sees it."""

    did: Did
    type: DidType
    meta: Mapping[str, Any]
    size_bytes: int | None = None


@dataclass
class Graph:
    """Nodes by id, and edges from, to, relation, each once."""

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    edges: dict[tuple[str, str, str], None] = field(default_factory=dict)

    def add_record(self, record: Record) -> str:
        """Add a data identifier, the job that wrote it, and the predictions made with it."""
        node = str(record.did)
        kind = record.meta.get(KIND)
        self.nodes[node] = {
            "id": node,
            "type": record.type.value.lower(),
            "kind": kind if isinstance(kind, str) else None,
            "bytes": record.size_bytes,
            "meta": dict(record.meta),
        }
        if isinstance(job := record.meta.get(JOB), str):
            self._add_job(job, record)
        for prediction in _entries(record.meta.get(PREDICTIONS)):
            self._add_prediction(node, prediction)
        return node

    def link(self, source: str, target: str, relation: str) -> None:
        """Say that `target` came from `source`."""
        self.edges[source, target, relation] = None

    def _add_job(self, job: str, record: Record) -> None:
        node = f"job:{job}"
        facts = {key: record.meta[key] for key in JOB_FACTS if key in record.meta}
        known = self.nodes.setdefault(node, {"id": node, "type": "job", "job": job})
        known.update(facts)
        self.link(node, str(record.did), "wrote")
        for did in inputs_of(record.meta):
            self.link(str(did), node, "read by")

    def _add_prediction(self, model: str, prediction: Mapping[str, Any]) -> None:
        node = f"prediction:{prediction.get('id')}"
        self.nodes[node] = {**prediction, "id": node, "type": "prediction"}
        self.link(model, node, "predicted")

    def to_json(self, root: Did) -> dict[str, Any]:
        """Return the graph as the API answers it; edges to nodes left out are left out too."""
        return {
            "root": str(root),
            "nodes": [self.nodes[key] for key in sorted(self.nodes)],
            "edges": [
                {"from": source, "to": target, "relation": relation}
                for source, target, relation in sorted(self.edges)
                if source in self.nodes and target in self.nodes
            ],
        }


def inputs_of(meta: Mapping[str, Any]) -> list[Did]:
    """Return the data identifiers that metadata names as inputs; what is malformed is left out."""
    named = meta.get(INPUTS)
    if isinstance(named, str):
        named = named.split(",")
    found: list[Did] = []
    for entry in named if isinstance(named, Sequence) else ():
        text = f"{entry.get('scope')}:{entry.get('name')}" if isinstance(entry, Mapping) else entry
        if not isinstance(text, str):
            continue
        try:
            found.append(Did.parse(text.strip()))
        except InvalidObject:
            continue
    return list(dict.fromkeys(found))


def _entries(value: Any) -> Iterable[Mapping[str, Any]]:
    listed = value if isinstance(value, list) else []
    return [entry for entry in listed if isinstance(entry, Mapping) and entry.get("id")]
