"""What the containers of a pod share, and the traces that they leave in its folder."""

import contextlib
from dataclasses import dataclass
from pathlib import Path

from . import journal, model, procfs
from .cgroups import Groups
from .loop import Loop
from .reaper import Reaper


@dataclass(frozen=True)
class Surroundings:
    """What every container of a pod shares."""

    loop: Loop
    reaper: Reaper
    groups: Groups
    folder: Path
    """The attempt's folder."""
    plan: model.PodPlan


def note_launched(folder: Path, pid: int) -> None:
    """Write down a process of the attempt, so that it can be found without the keeper."""
    found = procfs.process(pid)
    # One trace of several; a full disk must not end the job.
    with (
        contextlib.suppress(OSError),
        open(folder / journal.LAUNCHED, "a", encoding="ascii") as file,
    ):
        file.write(f"{pid} {found.start_ticks if found else 0}\n")
