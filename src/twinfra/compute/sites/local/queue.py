"""Who runs next: first come, first served, as far as there is room. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from twinfra.compute.sites.model import SiteFigures

ORDINARY_CPUS = 1.0
GUESSED_WALL_S = 60.0


@dataclass(frozen=True)
class Size:
    """What a job takes, or what there is."""

    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: int = 0
    slots: int = 1

    def within(self, room: "Size") -> bool:
        """Say whether this fits into `room`; a hundredth of a core is not quarrelled about."""
        return (
            self.cpus <= room.cpus + 0.01
            and self.memory_bytes <= room.memory_bytes
            and self.gpus <= room.gpus
            and self.slots <= room.slots
        )

    def minus(self, other: "Size") -> "Size":
        """Return what is left."""
        return Size(
            self.cpus - other.cpus,
            self.memory_bytes - other.memory_bytes,
            self.gpus - other.gpus,
            self.slots - other.slots,
        )


@dataclass(frozen=True)
class Offer:
    """What the site has: all of it, and devices by resource type."""

    whole: Size
    reserved_cpus: float = 0.0
    gpus: Mapping[str, int] = field(default_factory=dict)

    @property
    def usable(self) -> Size:
        """What jobs may have together."""
        return self.whole.minus(Size(cpus=self.reserved_cpus, slots=0))

    def refusal(self, size: Size) -> str:
        """Return why a job of this size will never run here, or nothing."""
        have = self.usable
        for name, wanted, there in (
            ("cpus", size.cpus, have.cpus),
            ("memory_bytes", size.memory_bytes, have.memory_bytes),
            ("gpus", size.gpus, have.gpus),
        ):
            if wanted > there + 0.01:
                return f"{name}: {wanted:g} asked for, the site has {there:g}"
        return ""


def free(offer: Offer, busy: Iterable[Size]) -> Size:
    """Return what is left beside the jobs that run."""
    left = offer.usable
    for size in busy:
        left = left.minus(size)
    return left


def startable(room: Size, queued: Iterable[tuple[int, Size]]) -> list[int]:
    """Return which queued jobs start now: nobody overtakes, the first that does not fit stops."""
    chosen = []
    for key, size in queued:
        if not size.within(room):
            break
        chosen.append(key)
        room = room.minus(size)
    return chosen


def figures(
    offer: Offer, busy: Iterable[Size], queue_length: int, recent_wall_s: Iterable[float]
) -> SiteFigures:
    """Return how big and how full the site is, and the wait that a new ordinary job would see."""
    room = free(offer, busy)
    ordinary = Size(cpus=ORDINARY_CPUS)
    walls = list(recent_wall_s) or [GUESSED_WALL_S]
    waits = queue_length or not ordinary.within(room)
    mean_s = sum(walls) / len(walls)
    return SiteFigures(
        cpus=offer.whole.cpus,
        memory_bytes=offer.whole.memory_bytes,
        slots=offer.whole.slots,
        gpus=offer.gpus,
        free_cpus=max(0.0, room.cpus),
        free_memory_bytes=max(0, room.memory_bytes),
        free_slots=max(0, room.slots),
        queue_length=queue_length,
        wait_s=mean_s * (queue_length + 1) / offer.whole.slots if waits else 0.0,
    )
