"""An answer as it is kept and shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from twinfra.core.time import rfc3339
from twinfra.orchestration.ranking.model import Ranked, Request


@dataclass(frozen=True, slots=True)
class RankingRecord:
    """One answered request.

    Attributes:
        group: whose work it was for; its members may see the answer.
        asked_by: subject of who asked.
        body: the answer's JSON.
    """

    id: str
    at: datetime
    group: str
    asked_by: str
    deployment: str | None
    body: Mapping[str, Any]


def answer_document(
    ranking_id: str, at: datetime, request: Request, ranked: Ranked
) -> dict[str, Any]:
    """Return the JSON of an answer; it holds the request, so that it explains itself."""
    return {
        "id": ranking_id,
        "at": rfc3339(at),
        "deployment": request.deployment,
        "request": {
            "requirements": {
                "cpu": request.cpu,
                "memory_bytes": request.memory_bytes,
                "gpus": request.gpus,
                "capabilities": list(request.capabilities),
                "architecture": request.architecture,
            },
            "inputs": list(request.inputs),
            "group": request.group,
            "target": request.target,
            "exclude": list(request.exclude),
        },
        "candidates": [candidate.to_json() for candidate in ranked.candidates],
        "excluded": [excluded.to_json() for excluded in ranked.excluded],
        "model_version": ranked.model_version,
    }
