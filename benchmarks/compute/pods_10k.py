"""10,000 pods alive at once on one node, created as fast as the API server takes them.

It has no peer: how late their states are seen, and what the kubelet costs, then and when all is
quiet. ``python -m benchmarks.compute.pods_10k --pods 200 --run-s 30`` is a quick look.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.compute.load.measure import Load, measure
from benchmarks.harness import Result, write

NAME = "compute/pods-10k"
FULL = Load(pods=10_000, rate_per_s=None, run_s=600.0, within_s=3600.0, peer=False, quiet_s=30.0)
TARGETS = {"staleness_p99_s": 2.0, "kubelet_rss_mib": 128, "kubelet_quiet_cores": 0.1}


def run(load: Load = FULL) -> Result:
    """Measure `load` once."""
    return Result([], {**measure(load).figures, "targets": TARGETS}, runs=1)


def main() -> None:
    """Run with another load than the full one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pods", type=int, default=FULL.pods)
    parser.add_argument("--run-s", type=float, default=FULL.run_s, help="a pod runs for so long")
    parser.add_argument("--results", type=Path, default=None, help="folder of the result file")
    given = parser.parse_args()
    write(NAME, run(replace(FULL, pods=given.pods, run_s=given.run_s)), given.results)


if __name__ == "__main__":
    main()
