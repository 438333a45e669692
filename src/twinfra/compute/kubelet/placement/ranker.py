"""Asks the federation's ranking which site is best for a pod; it knows queues and where data is."""

from collections.abc import Mapping, Sequence
from typing import Any

from twinfra.compute.containers.machine import KERNEL_NAMES
from twinfra.compute.kubelet.placement.choosing import Wish, devices
from twinfra.compute.kubelet.placement.ports import Ranked
from twinfra.orchestration.ranking.client import RankingClient

WAIT = "queue_wait"


class FederationRanker:
    """A `Ranker` on the ranking service.

    Args:
        client: on it; calls as this service.
    """

    def __init__(self, client: RankingClient) -> None:
        self._client = client

    async def rank(self, wish: Wish, inputs: Sequence[str], *, group: str) -> Ranked:
        """Return the sites that will do, as ranking says."""
        made_for = wish.architecture
        requirements = {
            "cpu": max(wish.resources.get("cpu", 0.0), 0.001),
            "memory_bytes": int(wish.resources.get("memory", 0.0)),
            "gpus": devices(wish.resources),
            "architecture": KERNEL_NAMES.get(made_for, made_for) if made_for else None,
        }
        only = next(iter(wish.sites)) if len(wish.sites) == 1 else None
        answer = await self._client.rank(requirements, inputs, group=group, target=only)
        candidates = {each["site"]: each for each in answer.body["candidates"]}
        waits = {name: _wait_s(each) for name, each in candidates.items()}
        return Ranked(
            sites=answer.sites,
            factors={name: _why(each) for name, each in candidates.items()},
            refused=answer.excluded,
            wait_s={name: wait for name, wait in waits.items() if wait is not None},
        )


def _wait_s(candidate: Mapping[str, Any]) -> float | None:
    for factor in candidate.get("factors") or ():
        if factor.get("name") == WAIT and isinstance(factor.get("value"), int | float):
            return float(factor["value"])
    return None


def _why(candidate: Mapping[str, Any]) -> str:
    return "; ".join(str(factor.get("why", "")) for factor in candidate.get("factors") or ())
