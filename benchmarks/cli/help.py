"""``twinfra --help`` beside a bare interpreter: it must answer in under 200 ms."""

import sys

from benchmarks.harness import Result, Row, in_turns

RUNS = 15
TARGET_S = 0.2


def run() -> Result:
    """Measure both in turns."""
    ours = [sys.executable, "-m", "twinfra.cli.main", "--help"]
    peer = [sys.executable, "-c", "pass"]
    ours_s, peer_s = in_turns(ours, peer, RUNS)
    row = Row("wall time of --help", "s", ours_s, peer_s, "python -c pass")
    figures = {"target_s": TARGET_S, "within_target": ours_s < TARGET_S}
    return Result([row], figures, RUNS)
