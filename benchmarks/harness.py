"""What every benchmark shares: timing in turns with its peer, medians, and the result file.

A result holds ``rows`` (what has a peer), ``figures`` (everything else), ``runs``, ``load`` and
``versions``. ``ratio`` says how many times better than the peer; above 1 is better.
"""

import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One quantity, ours beside the peer's, medians of several runs."""

    name: str
    unit: str
    ours: float
    peer: float
    peer_name: str
    higher_is_better: bool = False

    @property
    def ratio(self) -> float:
        """Return how many times better than the peer ours is."""
        better, worse = (self.ours, self.peer) if self.higher_is_better else (self.peer, self.ours)
        return better / worse if worse else float("inf")


@dataclass
class Result:
    """What a benchmark found."""

    rows: list[Row] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    runs: int = 0
    versions: dict[str, str] = field(default_factory=dict)


def in_turns(ours: Sequence[str], peer: Sequence[str], runs: int) -> tuple[float, float]:
    """Return the median seconds of two commands, run in turns after one warm-up each."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(runs + 1):
        for argv, kept in zip((ours, peer), seconds, strict=True):
            began = time.perf_counter()
            subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, capture_output=True)
            if turn:
                kept.append(time.perf_counter() - began)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def write(name: str, result: Result, folder: Path | None = None) -> Path:
    """Write the result file of benchmark `name`, print its rows, return its path."""
    folder = folder or RESULTS
    folder.mkdir(exist_ok=True)
    path = folder / f"{name.replace('/', '-')}.json"
    body = {
        "rows": [{**asdict(row), "ratio": round(row.ratio, 3)} for row in result.rows],
        "figures": result.figures,
        "runs": result.runs,
        "load": os.getloadavg()[0],
        "versions": {"python": platform.python_version(), **result.versions},
    }
    path.write_text(json.dumps(body, indent=2) + "\n")
    for row in result.rows:
        print(
            f"{name}: {row.name}: {row.ours:.4g} {row.unit}, {row.peer_name} {row.peer:.4g} "
            f"{row.unit}, ratio {row.ratio:.2f}"
        )
    for key, value in result.figures.items():
        print(f"{name}: {key}: {value}")
    return path
