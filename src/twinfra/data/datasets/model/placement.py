"""Where a rule's copies go, in what order sources are tried, and what a failure means.

Pure: facts in, choice out; the same facts always give the same choice. The service gathers the
facts by set-based SQL and writes the choice down as locks.
"""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from twinfra.data.datasets.errors import InsufficientTargets
from twinfra.data.datasets.model.states import RuleState


@dataclass(frozen=True, slots=True)
class Presence:
    """How much of a cluster of files an RSE has already, and how much is on its way there."""

    available_bytes: int = 0
    coming_bytes: int = 0
    available_files: int = 0


@dataclass(frozen=True, slots=True)
class Candidate:
    """An RSE that the rule allows; `weight` steers choices that nothing else decides."""

    rse: str
    weight: float = 1.0


def place(
    cluster: str,
    candidates: Sequence[Candidate],
    copies: int,
    *,
    held: Collection[str] = (),
    presence: Mapping[str, Presence] | None = None,
) -> list[str]:
    """Choose `copies` RSEs for a cluster of files that stay together.

    Guarantees: RSEs that hold the cluster for this rule already are chosen first, so that a choice
    never moves; then those that have most of it, then those that soon will; a draw is decided by a
    lot in proportion to the weights, drawn from the cluster's name.

    Args:
        cluster: names what is placed; the lot depends on it.
        candidates: those that the rule's expression allows, each once.
        copies: how many.
        held: RSEs with locks of this rule on this cluster.
        presence: what RSEs have of it.

    Raises:
        InsufficientTargets: there are fewer candidates than copies.
    """
    if len(candidates) < copies:
        raise InsufficientTargets(
            f"{copies} copies are wanted and {len(candidates)} RSEs fit the expression"
        )
    known = presence or {}

    def rank(candidate: Candidate) -> tuple[bool, int, int, int, float, str]:
        there = known.get(candidate.rse, Presence())
        return (
            candidate.rse not in held,
            -there.available_bytes,
            -there.available_files,
            -there.coming_bytes,
            -_lot(cluster, candidate),
            candidate.rse,
        )

    return [candidate.rse for candidate in sorted(candidates, key=rank)[:copies]]


def _lot(cluster: str, candidate: Candidate) -> float:
    """Return a number that is highest with a probability in proportion to the weight.

    Source: Efraimidis, Spirakis, Weighted random sampling with a reservoir (2006), algorithm A.
    """
    digest = hashlib.sha256(f"{cluster}\x1f{candidate.rse}".encode()).digest()
    chance = (int.from_bytes(digest[:8], "big") + 1) / (2**64 + 1)
    return math.log(chance) / candidate.weight if candidate.weight > 0 else -math.inf


def rule_state(replicating: int, stuck: int) -> RuleState:
    """Return how a rule stands, from how its locks do."""
    if stuck:
        return RuleState.STUCK
    return RuleState.REPLICATING if replicating else RuleState.OK


@dataclass(frozen=True, slots=True)
class Source:
    """A replica that can be read: where, how to get at it, and what spoke against it so far."""

    rse: str
    url: str
    distance: int = 0
    is_tape: bool = False
    strikes: int = 0


def order_sources(sources: Sequence[Source]) -> list[Source]:
    """Return `sources`, the best first: fewest failures, disk before tape, then the nearest."""
    return sorted(sources, key=lambda s: (s.strikes, s.is_tape, s.distance, s.rse))
