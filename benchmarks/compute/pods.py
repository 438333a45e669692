"""Pods at 50 a second through both interLink hops: how late Kubernetes shows their states.

The peer asks the same API about the same pods, one pod a call, all in turn, a round every 5 s.
``python -m benchmarks.compute.pods --pods 20 --rate 10 --run-s 2`` is a quick look.
"""

import argparse
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.compute.load.measure import Load, measure, percentile
from benchmarks.harness import Result, Row, write

NAME = "compute/pods"
PEER = "one pod per call, every 5 s"
TARGET_S = 0.5
FULL = Load(pods=1000, rate_per_s=50.0)
FASTER_PER_S = 200.0


def run(load: Load = FULL, *, faster: float | None = FASTER_PER_S) -> Result:
    """Measure `load` beside its peer, then the same at `faster` a second by itself."""
    found = measure(load)
    until = time.time()
    rows = []
    for phase in ("Running", "Succeeded"):
        ours = percentile(found.late(found.watched, phase, until), 0.99)
        peer = percentile(found.late(found.polled, phase, until), 0.99)
        rows.append(Row(f"{phase} staleness p99", "s", ours, peer, PEER))
    figures = {**found.figures, "target_s": TARGET_S}
    figures["within_target"] = all(row.ours < TARGET_S for row in rows)
    if faster:
        again = measure(replace(load, rate_per_s=faster, peer=False))
        figures |= {f"at_{faster:g}_per_s": again.figures}
    return Result(rows, figures, runs=1)


def main() -> None:
    """Run with another load than the full one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=FULL.pods)
    parser.add_argument("--rate", type=float, default=FULL.rate_per_s, help="pods a second")
    parser.add_argument("--run-s", type=float, default=FULL.run_s, help="a pod runs for so long")
    parser.add_argument("--faster", type=float, default=None, help="and again at this rate")
    parser.add_argument("--results", type=Path, default=None, help="folder of the result file")
    given = parser.parse_args()
    load = replace(FULL, pods=given.pods, rate_per_s=given.rate, run_s=given.run_s)
    write(NAME, run(load, faster=given.faster), given.results)


if __name__ == "__main__":
    main()
