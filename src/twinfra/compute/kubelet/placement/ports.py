"""What the gate's controller needs from others."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from twinfra.compute.kubelet.placement.choosing import Platform, Wish
from twinfra.compute.kubelet.placement.objects import GatedPod


@dataclass(frozen=True)
class Ranked:
    """What a ranking said of sites.

    Attributes:
        sites: best first; those not named here will not do.
        factors: why each stands where it does.
        refused: why others will not do.
        wait_s: what a job would wait in each site's queue [s].
    """

    sites: tuple[str, ...]
    factors: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    wait_s: Mapping[str, float] = field(default_factory=dict)


class Images(Protocol):
    """Knows what images are made for."""

    async def platforms(self, pod: GatedPod) -> Mapping[str, frozenset[Platform]]:
        """Return what each image of a pod is made for, by name; one that nobody knows is left out.

        It answers within a bounded time, and never raises: who does not know does not refuse.
        """
        ...


class Ranker(Protocol):
    """Knows which sites are better for a pod, and where its data is."""

    async def rank(self, wish: Wish, inputs: Sequence[str], *, group: str) -> Ranked:
        """Return the sites that will do.

        Raises:
            TwinfraError: it cannot say; the pod waits and is asked for again.
        """
        ...
