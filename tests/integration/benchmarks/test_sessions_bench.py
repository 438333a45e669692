"""The benchmark of sessions runs, and writes down what was agreed; no timing is judged here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.story("Log follow: a line is seen within 300 ms p99. Exec round trip under 150 ms")
def test_the_result_has_its_figures_when_some_lines_and_commands_are_run(tmp_path):
    command = [sys.executable, "-m", "benchmarks.compute.sessions", "--lines", "20", "--execs", "3"]
    done = subprocess.run(
        [*command, "--results", str(tmp_path)], cwd=ROOT,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads((tmp_path / "compute-sessions.json").read_text())["figures"]
    assert (figures["lines"], figures["execs"]) == (20, 3)
    for name in ("log_line_late", "exec_round_trip"):
        assert 0 <= figures[f"{name}_p50_s"] <= figures[f"{name}_p99_s"]
